//! Several handlers of a topic: one for each event, with the events of a key in order across them.
//! Needs `KAFKA_BROKERS`.
//!
//! ```text
//! apples are reserved
//! apples are free again
//! 2 handled, 1 passed over, since no handler takes order.viewed
//! ```

use std::error::Error;
use std::sync::Arc;

use outbox::consume::Consumer;
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxTx, Relay, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tokio::sync::Notify;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] String);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.viewed")]
struct OrderViewed(#[event(key)] String);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.cancelled")]
struct OrderCancelled(#[event(key)] String);

#[event_handler]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), sqlx::Error> {
    println!("{} are reserved", order.0);
    Ok(())
}

/// Each handler has the state that it is given where it is added: here, who waits for the last one.
#[event_handler]
async fn release(
    _: &mut OutboxTx<'_, Sqlite>,
    order: OrderCancelled,
    last: &Arc<Notify>,
) -> Result<(), sqlx::Error> {
    println!("{} are free again", order.0);
    last.notify_one();
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let kafka = KafkaConfig::from_env()?;
    let prefix = format!("{}-", uuid::Uuid::now_v7()); // topics of this run alone

    let mut tx = outbox.begin().await?;
    tx.emit(OrderPlaced("apples".into()))?;
    tx.emit(OrderViewed("apples".into()))?;
    tx.emit(OrderCancelled("apples".into()))?;
    tx.commit().await?;
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build()?;
    Relay::new(outbox.clone(), publisher).drain().await?;

    let last = Arc::new(Notify::new());
    let consumer = Consumer::builder(outbox, &kafka)
        .topic_prefix(&prefix)
        .group("inventory")
        .handler(reserve())
        .handler(release(Arc::clone(&last)))
        .build()?;
    let consumed = consumer.run(last.notified()).await?;
    let (handled, others) = (consumed.handled, consumed.passed_over);
    println!("{handled} handled, {others} passed over, since no handler takes order.viewed");
    Ok(())
}
