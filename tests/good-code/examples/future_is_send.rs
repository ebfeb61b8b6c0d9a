use std::sync::Arc;

use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
}

impl Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn create(&self, text: String) -> Result<String, OutboxError> {
        tx.emit(Created(1))?;
        helper(tx).await?;
        Ok(text)
    }
}

#[transactional_outbox(tx in tx)]
async fn helper(tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(2))?;
    Ok(())
}

fn spawned(service: Arc<Service>) {
    tokio::spawn(async move { service.create(String::new()).await });
}

fn main() {
    let _ = spawned;
}
