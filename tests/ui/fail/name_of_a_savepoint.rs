use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::OutboxTx;

#[transactional_outbox(tx in tx, name = "create")]
async fn create(tx: &mut OutboxTx<'_, Sqlite>, id: u64) -> Result<(), OutboxError> {
    tx.emit(Created(id))?;
    Ok(())
}

fn uses(_: Outbox<Sqlite>) {}

fn main() {}
