use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler(group = "inventory")]
struct Service;

#[event_handler]
impl Service {
    async fn reserve(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }
}

#[event_handler]
#[event_handler]
async fn twice(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async unsafe fn dangerous(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
