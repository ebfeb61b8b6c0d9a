use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

type Tx<'c> = OutboxTx<'c, Sqlite>;

#[event_handler]
async fn alias(tx: &mut Tx<'_>, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn forgotten(tx: &mut OutboxTx<'_>, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn all_forgotten(tx: &mut outbox::OutboxTx, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

// Are no errors of their own.
fn consumer(outbox: outbox::Outbox<Sqlite>) -> outbox::consume::ConsumerBuilder<Sqlite> {
    outbox::consume::Consumer::builder(outbox, "127.0.0.1:9092").handler(alias()).handler(forgotten())
}

fn main() {}
