//! Dead letters: what a consumer gave up is listed, and replayed once the cause is removed. The
//! command `outbox dead-letters` does the same. Needs `KAFKA_BROKERS`.
//!
//! ```text
//! Some("order.placed"), attempts 1: there is no item pears
//! 1 given up, 1 handled
//! 0 dead letters are left
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outbox::consume::{Consumer, DeadLetterFilter, DeadLetters};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxTx, Relay, event_handler};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tokio::sync::Notify;

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] String);

#[derive(Default)]
struct Stock {
    has_pears: AtomicBool,
    reserved: Notify,
}

/// By default there are ten attempts, which take half a minute.
#[event_handler(group = "inventory", attempts = 1)]
async fn reserve(
    _: &mut OutboxTx<'_, Sqlite>,
    order: OrderPlaced,
    stock: &Arc<Stock>,
) -> Result<(), String> {
    if !stock.has_pears.load(Ordering::SeqCst) {
        return Err(format!("there is no item {}", order.0));
    }
    stock.reserved.notify_one();
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
    tx.emit(OrderPlaced("pears".into()))?;
    tx.commit().await?;
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build()?;
    Relay::new(outbox.clone(), publisher).drain().await?;

    let stock = Arc::new(Stock::default());
    let consumer = Consumer::builder(outbox, &kafka).topic_prefix(&prefix);
    let consumer = consumer.handler(reserve(stock.clone())).build()?;
    let done = stock.clone();
    let consumer = tokio::spawn(consumer.run(async move { done.reserved.notified().await }));

    let letters = DeadLetters::builder(&kafka).topic_prefix(&prefix);
    let letters = letters.topic("orders").group("inventory").build()?;
    let open = DeadLetterFilter::all;
    while letters.select(open()).await?.is_empty() {} // until the consumer has given it up
    for letter in letters.list(100).await? {
        println!("{:?}, attempts {}: {}", letter.name, letter.attempts, letter.error);
        stock.has_pears.store(true, Ordering::SeqCst); // the cause is removed
        letters.replay(&letter).await?;
    }
    let consumed = consumer.await??;
    println!("{} given up, {} handled", consumed.dead_letters, consumed.handled);
    println!("{} dead letters are left", letters.select(open()).await?.len());
    Ok(())
}
