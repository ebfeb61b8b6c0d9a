use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{0} is sold out")]
    SoldOut(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the order was not saved")]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

type Result<T, E = OrderError> = std::result::Result<T, E>;

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>, item: String) -> Result<u64> {
    let left: i64 = sqlx::query_scalar("select 1").fetch_one(&mut *tx).await?;
    if left == 0 {
        return Err(OrderError::SoldOut(item));
    }
    let id = item.parse::<u64>().map_err(|error| OrderError::Other(error.into()))?;
    tx.emit(Created(id))?;
    Ok(id)
}

fn main() {
    let _ = create;
}
