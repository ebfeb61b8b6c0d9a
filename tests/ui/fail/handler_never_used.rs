// A handler that no consumer has handles nothing: the compiler says so.
#![deny(dead_code, unused_must_use)]

use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[derive(Clone)]
struct Inventory;

impl Inventory {
    #[event_handler]
    async fn ship(&self, tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        sqlx::query("select 1").execute(tx).await?;
        Ok(())
    }
}

#[event_handler]
async fn made_and_dropped(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {
    let _ = Inventory;
    made_and_dropped();
}
