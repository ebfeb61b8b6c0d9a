use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
fn reserve(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
fn boxed(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> impl Future<Output = sqlx::Result<()>> {
    async move { sqlx::query("select 1").execute(tx).await.map(drop) }
}

// Adds no error: it counts as a handler, with all its mistakes.
fn consumer(outbox: outbox::Outbox<Sqlite>) -> outbox::consume::ConsumerBuilder<Sqlite> {
    outbox::consume::Consumer::builder(outbox, "localhost").handler(reserve()).handler(boxed())
}

fn main() {}
