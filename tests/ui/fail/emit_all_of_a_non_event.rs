use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit_all(["created"])?;
    tx.emit_all([Created(1)])?;
    Ok(())
}

fn main() {}
