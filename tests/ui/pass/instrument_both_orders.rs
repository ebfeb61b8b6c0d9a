use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;
use tracing::instrument;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service(Outbox<Sqlite>);

impl Service {
    #[instrument(skip_all, fields(id), ret, err)]
    #[transactional_outbox(tx in self.0)]
    async fn outside(&self, id: u64) -> Result<u64, OutboxError> {
        tx.emit(Created(id))?;
        Ok(id)
    }

    #[transactional_outbox(tx in self.0)]
    #[instrument(skip_all, fields(id), ret, err)]
    async fn inside(&self, id: u64) -> Result<u64, OutboxError> {
        tx.emit(Created(id))?;
        Ok(id)
    }
}

fn main() {
    let _ = (Service::outside, Service::inside);
}
