use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn outer(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    joined(tx).await?;
    if savepoint(tx, 1).await.is_err() {
        tx.emit(Created(0))?;
    }
    renamed(tx).await?;
    through_a_field(&mut Holder { tx }).await?;
    tx.emit(Created(2))?;
    Ok(())
}

async fn joined(tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(3))?;
    Ok(())
}

#[transactional_outbox(tx in tx)]
async fn savepoint(tx: &mut OutboxTx<'_, Sqlite>, id: u64) -> Result<(), OutboxError> {
    tx.emit(Created(id))?;
    Ok(())
}

#[transactional_outbox(inner in outer)]
async fn renamed<'a, 'b: 'a>(outer: &'a mut OutboxTx<'b, Sqlite>) -> Result<(), OutboxError> {
    inner.emit(Created(4))?;
    Ok(())
}

struct Holder<'a, 'b> {
    tx: &'a mut OutboxTx<'b, Sqlite>,
}

#[transactional_outbox(tx in &mut *holder.tx)]
async fn through_a_field(holder: &mut Holder<'_, '_>) -> Result<(), OutboxError> {
    tx.emit(Created(5))?;
    Ok(())
}

fn assert_send<T: Send>(_: T) {}

fn main() {
    let _ = |outbox: &Outbox<Sqlite>| assert_send(outer(outbox));
}
