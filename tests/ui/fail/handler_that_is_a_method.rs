use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service;

impl Service {
    #[event_handler]
    async fn reserve(&self, tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
        sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
        Ok(())
    }
}

fn main() {}
