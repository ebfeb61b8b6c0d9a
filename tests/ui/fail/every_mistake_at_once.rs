use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "order events", version = 0, nam = "order.created")]
struct Created {
    #[event(key)]
    customer: Option<u64>,
    #[event(header = "ce_id")]
    tenant: String,
}

// Adds no error: the event counts as one, with all its mistakes.
#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created { customer: None, tenant: String::new() })?;
    Ok(())
}

fn main() {}
