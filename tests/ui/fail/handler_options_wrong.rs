use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler(
    group = "the inventory",
    attempts = 0,
    pause = "1 second",
    longest_pause = 10,
    retry_topics = ["10", "five minutes", "5m"],
    later_events = "wait",
    timeout = "0s",
    foreign = "x-request-id",
)]
async fn all_of_them(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(group = INVENTORY, attempts = "three", retry_topics = "10s", later_events = "wait", timeout = "5M")]
async fn more_of_them(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(pause = "10s", longest_pause = "1s")]
async fn pauses_that_shrink(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(attempts = 3, group = "a", attempts = 5)]
async fn twice(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
