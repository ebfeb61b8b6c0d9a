use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

trait Orders {
    fn outbox(&self) -> &Outbox<Sqlite>;

    async fn create(&self, id: u64) -> Result<u64, OutboxError>;

    #[transactional_outbox(tx in self.outbox())]
    async fn create_default(&self, id: u64) -> Result<u64, OutboxError>
    where
        Self: Sync,
    {
        tx.emit(Created(id))?;
        Ok(id)
    }

    fn sendable(&self, id: u64) -> impl Future<Output = Result<&Self, OutboxError>> + Send;
}

struct Service(Outbox<Sqlite>);

impl Orders for Service {
    fn outbox(&self) -> &Outbox<Sqlite> {
        &self.0
    }

    #[transactional_outbox(tx in self.0)]
    async fn create(&self, id: u64) -> Result<u64, OutboxError> {
        tx.emit(Created(id))?;
        Ok(id)
    }

    #[transactional_outbox(tx in self.0)]
    async fn sendable(&self, id: u64) -> Result<&Self, OutboxError> {
        tx.emit(Created(id))?;
        Ok(self)
    }
}

fn main() {
    let _ = (Service::create, Service::create_default, Service::sendable);
}
