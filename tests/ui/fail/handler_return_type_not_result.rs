use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn number(_: &mut OutboxTx<'_, Sqlite>, created: Created) -> u64 {
    created.0
}

#[event_handler]
async fn option(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Option<()> {
    None
}

#[event_handler]
async fn with_a_value(_: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<u64> {
    Ok(created.0)
}

fn main() {}
