use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[tokio::main(flavor = "current_thread")]
#[transactional_outbox(tx in Outbox::<Sqlite>::new(sqlx::SqlitePool::connect_lazy("sqlite::memory:")?))]
async fn main() -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}
