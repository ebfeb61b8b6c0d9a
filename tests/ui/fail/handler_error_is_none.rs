use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

enum ReserveError {
    UnknownItem(u64),
}

#[event_handler]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, created: Created) -> Result<(), ReserveError> {
    Err(ReserveError::UnknownItem(created.0))
}

#[event_handler]
async fn not_send(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

#[event_handler]
async fn foreign(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), (u16, String)> {
    Err((404, "no such item".to_owned()))
}

type Answer<T = (), E = ReserveError> = std::result::Result<T, E>;

#[event_handler]
async fn alias(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Answer {
    Ok(())
}

fn main() {}
