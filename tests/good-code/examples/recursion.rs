use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn one_transaction_each(outbox: &Outbox<Sqlite>, n: u64) -> Result<(), OutboxError> {
    tx.emit(Created(n))?;
    if n > 0 {
        Box::pin(one_transaction_each(outbox, n - 1)).await?;
    }
    Ok(())
}

#[transactional_outbox(tx in tx)]
async fn savepoints(tx: &mut OutboxTx<'_, Sqlite>, n: u64) -> Result<(), OutboxError> {
    tx.emit(Created(n))?;
    if n > 0 {
        Box::pin(savepoints(tx, n - 1)).await?;
    }
    Ok(())
}

fn main() {
    let _ = (one_transaction_each, savepoints);
}
