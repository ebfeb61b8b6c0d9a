use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

#[transactional_outbox(tx in outbox)]
async fn several(outbox: &Outbox<Sqlite>, created: Vec<Created>) -> Result<(), OutboxError> {
    tx.emit(created)?;
    tx.emit([Created(1), Created(2)])?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn perhaps(outbox: &Outbox<Sqlite>, created: Option<Created>) -> Result<(), OutboxError> {
    tx.emit(created)?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn shared(outbox: &Outbox<Sqlite>, created: Arc<Created>) -> Result<(), OutboxError> {
    tx.emit(created)?;
    Ok(())
}

fn main() {}
