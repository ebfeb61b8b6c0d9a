use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use async_trait::async_trait;
use tracing::instrument;

#[async_trait]
trait Orders {
    async fn create(&self, ids: Vec<u64>, (a, b): (u64, u64)) -> anyhow::Result<Vec<u64>>;
    async fn instrumented(&self, name: String) -> Result<String, OutboxError>;
}

struct Service(Outbox<Sqlite>);

#[async_trait]
impl Orders for Service {
    #[transactional_outbox(tx in self.0, retry = 3)]
    async fn create(&self, mut ids: Vec<u64>, (a, b): (u64, u64)) -> anyhow::Result<Vec<u64>> {
        ids.push(a + b);
        tx.emit(Created(a))?;
        Ok(ids)
    }

    #[instrument(skip(self))]
    #[transactional_outbox(tx in self.0, retry = 3, isolation = "repeatable read")]
    async fn instrumented(&self, name: String) -> Result<String, OutboxError> {
        tx.emit(Created(1))?;
        Ok(name)
    }
}

fn main() {
    let _: Option<Box<dyn Orders>> = None;
}
