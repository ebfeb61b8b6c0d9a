use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler(longest_pause = "31d", timeout = "9ms")]
async fn times(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(
    retry_topics = [
        "1s", "2s", "3s", "4s", "5s", "6s", "7s", "8s", "9s", "10s", "11s", "12s", "13s", "14s", "15s", "16s",
        "17s", "721h",
    ],
    later_events = "overtake",
)]
async fn retry_topics(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(shared_transaction = 0)]
async fn shared_by_none(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(shared_transaction = 1)]
async fn shared_by_one(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(shared_transaction = 5_000_000_000)]
async fn shared_by_too_many(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler(shared_transaction = "50")]
async fn shared_by_a_text(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
