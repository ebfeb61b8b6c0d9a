use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::pin::Pin;

async fn inner() -> Result<(), OutboxError> {
    Ok(())
}

#[transactional_outbox(tx in outbox)]
fn create(outbox: &Outbox<Sqlite>) -> Pin<Box<dyn Future<Output = Result<(), OutboxError>> + '_>> {
    let _ = (outbox, Created(1));
    Box::pin(inner())
}

fn main() {}
