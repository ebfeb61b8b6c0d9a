use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>, id: &str) -> Result<(), OutboxError> {
    tx.emit(Created(id.parse()?))?;
    Ok(())
}

fn main() {}
