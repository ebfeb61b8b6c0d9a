//! Functions that return a future whose output their signature does not spell out.
use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::pin::Pin;

use tracing::Instrument as _;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, OutboxError>> + Send + 'a>>;

/// As tower's.
trait Service<Request> {
    type Response;
    type Error;
    type Future: Future<Output = Result<Self::Response, Self::Error>>;

    fn call(&mut self, request: Request) -> Self::Future;
}

#[derive(Clone)]
struct Orders {
    outbox: Outbox<Sqlite>,
}

impl Service<u64> for Orders {
    type Response = u64;
    type Error = OutboxError;
    type Future = Answer<'static, u64>;

    #[transactional_outbox(tx in this.outbox)]
    fn call(&mut self, id: u64) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            tx.emit(Created(id))?;
            Ok(id)
        })
    }
}

impl Orders {
    #[transactional_outbox(tx in self.outbox)]
    fn alias(&self, id: u64) -> Answer<'_, u64> {
        Box::pin(async move {
            tx.emit(Created(id))?;
            Ok(id)
        })
    }

    #[transactional_outbox(tx in self.outbox)]
    fn instrumented(&self, id: u64) -> impl Future<Output = Result<u64, OutboxError>> + Send {
        async move {
            tx.emit(Created(id))?;
            Ok(id)
        }
        .instrument(tracing::info_span!("create"))
    }

    #[transactional_outbox(tx in self.outbox)]
    fn instrumented_inside(&self, id: u64) -> Answer<'_, u64> {
        Box::pin(
            async move {
                tx.emit(Created(id))?;
                Ok(id)
            }
            .instrument(tracing::info_span!("create")),
        )
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pool =
        sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    let mut orders = Orders { outbox: outbox.clone() };
    assert_eq!(orders.call(1).await.unwrap(), 1);
    assert_eq!(orders.alias(2).await.unwrap(), 2);
    orders.instrumented(3).await.unwrap();
    orders.instrumented_inside(4).await.unwrap();
    let status = outbox.status().await.unwrap();
    assert_eq!(status.lanes.iter().map(|lane| lane.backlog).sum::<u64>(), 4);
}
