use std::pin::Pin;

use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service(Outbox<Sqlite>);

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Service {
    #[transactional_outbox(tx in self.0)]
    fn boxed(
        &self,
        id: u64,
    ) -> Pin<Box<dyn Future<Output = Result<u64, OutboxError>> + Send + '_>> {
        let doubled = id * 2;
        Box::pin(async move {
            tx.emit(Created(doubled))?;
            Ok(doubled)
        })
    }

    #[transactional_outbox(tx in self.0)]
    fn aliased(&self, id: u64) -> BoxFuture<'_, Result<u64, OutboxError>> {
        Box::pin(async move {
            tx.emit(Created(id))?;
            Ok(id)
        })
    }

    #[transactional_outbox(tx in self.0)]
    fn opaque(&self, id: u64) -> impl Future<Output = Result<u64, OutboxError>> + Send {
        async move {
            tx.emit(Created(id))?;
            Ok(id)
        }
    }
}

fn main() {
    let _ = (Service::boxed, Service::aliased, Service::opaque);
}
