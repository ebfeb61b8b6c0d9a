use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::Outbox;
use outbox::consume::{Consumer, ConsumerBuilder};

#[event_handler]
async fn ship(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

fn consumer(outbox: Outbox<Sqlite>) -> ConsumerBuilder<Sqlite> {
    Consumer::builder(outbox, "127.0.0.1:9092").handler(ship()).handler(reserve)
}

fn main() {}
