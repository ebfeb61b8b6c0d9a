//! Retry topics: an event that fails waits for a second on a topic of its own, and the later events
//! of its key wait behind it. All other keys go on. Needs `KAFKA_BROKERS`.
//!
//! ```text
//! alice's order 1: the warehouse is closed
//! ["alice 1", "alice 2", "alice 3", "bob 1"]
//! 4 handled, 1 from a retry topic
//! ```

use std::error::Error;
use std::sync::Arc;

use outbox::consume::{Consumer, EventContext};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxTx, Relay, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};
use tokio::sync::Notify;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    number: i64,
}

/// `later_events = "overtake"` would hold up nothing, and give up the order of alice's events.
#[event_handler(group = "inventory", retry_topics = ["1s", "1m"], later_events = "wait")]
async fn reserve(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderPlaced,
    context: &EventContext,
    all: &Arc<Notify>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let OrderPlaced { customer, number } = order;
    if customer == "alice" && number == 1 && context.attempt == 1 {
        println!("alice's order 1: the warehouse is closed");
        return Err("the warehouse is closed".into());
    }
    let insert = sqlx::query("insert into reserved (customer, number) values ($1, $2)");
    insert.bind(customer).bind(number).execute(&mut *tx).await?;
    let count: i64 =
        sqlx::query_scalar("select count(*) from reserved").fetch_one(&mut *tx).await?;
    if count == 4 {
        all.notify_one();
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table reserved (customer text, number integer)").await?;
    let kafka = KafkaConfig::from_env()?;
    let prefix = format!("{}-", uuid::Uuid::now_v7()); // topics of this run alone

    let mut tx = outbox.begin().await?;
    for (customer, number) in [("alice", 1), ("alice", 2), ("bob", 1), ("alice", 3)] {
        tx.emit(OrderPlaced { customer: customer.into(), number })?;
    }
    tx.commit().await?;
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build()?;
    Relay::new(outbox.clone(), publisher).drain().await?;

    let all = Arc::new(Notify::new());
    let consumer = Consumer::builder(outbox, &kafka).topic_prefix(&prefix);
    let consumer = consumer.handler(reserve(all.clone())).build()?;
    let consumed = consumer.run(all.notified()).await?;
    let reserved = "select customer || ' ' || number from reserved order by customer, rowid";
    let reserved: Vec<String> = sqlx::query_scalar(reserved).fetch_all(&pool).await?;
    println!("{reserved:?}");
    println!("{} handled, {} from a retry topic", consumed.handled, consumed.to_retry_topics);
    Ok(())
}
