use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

#[derive(Clone)]
struct Service {
    outbox: Outbox<Sqlite>,
    first: u64,
}

impl Service {
    #[transactional_outbox(tx in self.outbox, retry = 3)]
    async fn by_ref(&self) -> Result<(), OutboxError> {
        tx.emit(Created(self.first))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, retry = 3)]
    async fn by_arc(self: Arc<Self>, ids: Vec<u64>) -> Result<Vec<u64>, OutboxError> {
        let this = Arc::clone(&self);
        tx.emit(Created(this.first))?;
        Ok(ids)
    }

    #[transactional_outbox(tx in self.outbox, retry = 3)]
    async fn by_ref_to_arc(self: &Arc<Self>) -> Result<Arc<Self>, OutboxError> {
        tx.emit(Created(self.first))?;
        Ok(self.clone())
    }

    #[transactional_outbox(tx in outbox, retry = 1)]
    async fn without(outbox: Arc<Outbox<Sqlite>>) -> Result<(), OutboxError> {
        tx.emit(Created(0))?;
        drop(outbox);
        Ok(())
    }
}

fn assert_send<T: Send>(_: T) {}

fn main() {
    let _ = |service: Service, outbox| {
        assert_send(service.by_ref());
        assert_send(Arc::new(service.clone()).by_arc(vec![1]));
        assert_send(Service::without(outbox));
    };
}
