use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler(later_events = "wait")]
async fn without_retry_topics(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(retry_topics = ["10s"], later_events = "skip")]
async fn of_another_word(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(retry_topics = ["10s"], later_events = wait)]
async fn not_text(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(attempts = "unlimited", retry_topics = ["10s"], later_events = "wait")]
async fn never_there(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(retry_topics = [], later_events = "wait")]
async fn none(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
