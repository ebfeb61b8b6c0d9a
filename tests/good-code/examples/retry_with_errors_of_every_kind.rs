use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::error::Error;

struct Opaque;

impl From<OutboxError> for Opaque {
    fn from(_: OutboxError) -> Self {
        Self
    }
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn opaque(outbox: &Outbox<Sqlite>) -> Result<(), Opaque> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn boxed(outbox: &Outbox<Sqlite>) -> Result<(), Box<dyn Error + Send + Sync>> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn boxed_on_one_thread(outbox: &Outbox<Sqlite>) -> Result<(), Box<dyn Error>> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn report(outbox: &Outbox<Sqlite>) -> eyre::Result<()> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn generic<E: From<OutboxError>>(outbox: &Outbox<Sqlite>) -> Result<(), E> {
    tx.emit(Created(1))?;
    Ok(())
}

fn main() {
    let _ = (opaque, boxed, boxed_on_one_thread, report, generic::<OutboxError>);
}
