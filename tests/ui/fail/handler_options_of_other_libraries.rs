use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler(topics = "orders", groupId = "inventory", ackMode = "manual", autoOffsetReset = "latest")]
async fn of_spring(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(queue = "orders", max_retries = 3, autoretry_for = (Timeout,), time_limit = 30)]
async fn of_celery(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(event = Created, dlq = "orders.dlq", prefetch_count = 10, ordered)]
async fn of_others(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(batch_size = 100)]
async fn in_batches(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
