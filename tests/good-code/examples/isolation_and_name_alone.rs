use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox, isolation = "read committed")]
async fn read_committed(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(name = "named", tx in outbox,)]
async fn named(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

fn main() {
    let _ = (read_committed, named);
}
