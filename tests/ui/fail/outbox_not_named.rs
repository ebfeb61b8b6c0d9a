use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(1))?;
    Ok(())
}

fn main() {}
