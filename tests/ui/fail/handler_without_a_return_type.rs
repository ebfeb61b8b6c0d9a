use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn nothing(tx: &mut OutboxTx<'_, Sqlite>, _: Created) {
    sqlx::query("select 1").execute(tx).await.ok();
}

#[event_handler]
async fn opaque(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> impl std::fmt::Debug {
    sqlx::query("select 1").execute(tx).await.map(drop)
}

fn main() {}
