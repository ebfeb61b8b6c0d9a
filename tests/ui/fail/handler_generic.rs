use outbox::{DomainEvent, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::OutboxDatabase;

#[event_handler]
async fn on_any_database<DB: OutboxDatabase>(
    tx: &mut OutboxTx<'_, DB>,
    created: Created,
) -> Result<(), OutboxError> {
    tx.emit(created)?;
    Ok(())
}

#[event_handler]
async fn any_event(tx: &mut OutboxTx<'_, Sqlite>, event: impl DomainEvent) -> Result<(), OutboxError> {
    tx.emit(event)?;
    Ok(())
}

#[event_handler]
async fn lifetime<'c>(tx: &mut OutboxTx<'c, Sqlite>, created: Created) -> Result<(), OutboxError> {
    tx.emit(created)?;
    Ok(())
}

fn main() {}
