use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::rc::Rc;

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let id = Rc::new(1);
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(*id))?;
    Ok(())
}

fn spawn(outbox: Outbox<Sqlite>) {
    tokio::spawn(async move { create(&outbox).await });
}

fn main() {}
