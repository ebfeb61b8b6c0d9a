use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    tx.emit(Created(2))?;
    Ok(())
}

#[transactional_outbox()]
async fn does_not_use_it(_outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    Ok(())
}

fn main() {}
