use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tracing::instrument;

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
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

#[instrument(skip(tx), fields(id), ret, err)]
#[event_handler]
async fn outside(tx: &mut OutboxTx<'_, Sqlite>, Created(id): Created) -> Result<(), OutboxError> {
    tx.emit(Created(id))?;
    Ok(())
}

#[event_handler]
#[instrument(skip(tx, service), fields(id), ret, err)]
async fn inside(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: Created,
    service: &Service,
) -> Result<(), OutboxError> {
    tx.emit(created)?;
    service.inside(1).await?;
    Ok(())
}

fn is_handler(_: impl outbox::consume::EventHandler<Sqlite>) {}

fn main() {
    let _ = (Service::outside, Service::inside);
    is_handler(outside());
    let _ = |service| is_handler(inside(service));
}
