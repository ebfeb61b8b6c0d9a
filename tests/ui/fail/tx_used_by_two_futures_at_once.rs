use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    tokio::try_join!(
        sqlx::query("select 1").execute(&mut *tx),
        sqlx::query("select 2").execute(&mut *tx),
    )?;
    Ok(())
}

fn main() {}
