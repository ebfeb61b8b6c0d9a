use outbox::{DomainEvent, Outbox, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

enum OrderError {
    OutOfStock,
}

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<u64, OrderError> {
    if tx.emit(Created(1)).is_err() {
        return Err(OrderError::OutOfStock);
    }
    Ok(1)
}

fn main() {}
