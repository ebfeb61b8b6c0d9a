use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct NoEvent;

#[event_handler]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, _: NoEvent) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

async fn is_one(_: Created) {}

fn main() {}
