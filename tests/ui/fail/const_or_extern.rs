use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
const fn constant(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let _ = outbox;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
extern "C" fn foreign(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let _ = outbox;
    Ok(())
}

async fn is_an_event(_: Created) {}

fn main() {}
