//! A relay that delivers each event exactly once: one that dies in the middle leaves no duplicate
//! behind. Needs `DATABASE_URL` and `KAFKA_BROKERS`. With the argument `relay`, it is nothing but
//! such a relay, for the tables that are there.
//!
//! ```text
//! the first relay is gone, and another one publishes what is left
//! 100 orders are on Kafka, each of them once
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, ExactlyOnce, Outbox, OutboxError, Relay};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};
use serde::Serialize;
use sqlx::{PgPool, Postgres};
use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] u32);

async fn relay(outbox: Outbox<Postgres>, publisher: KafkaPublisher) -> Result<(), OutboxError> {
    Relay::builder(outbox, publisher)
        .lease(Duration::from_secs(1))
        .build_exactly_once(ExactlyOnce::new())?
        .run(async { _ = tokio::signal::ctrl_c().await })
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let publisher = KafkaPublisher::new(KafkaConfig::from_env()?)?;
    if std::env::args().nth(1).as_deref() == Some("relay") {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
        return Ok(relay(Outbox::new(pool), publisher).await?);
    }
    let run = Uuid::now_v7().simple();
    let outbox = Outbox::builder(pool).schema(format!("once_{run}")).build()?;
    outbox.migrate().await?;
    let publisher = publisher.with_topic_prefix(format!("{run}-"))?;
    for order in 0..100 {
        let mut tx = outbox.begin().await?;
        tx.emit(OrderPlaced(order))?;
        tx.commit().await?;
    }

    let first = tokio::spawn(relay(outbox.clone(), publisher.clone()));
    while outbox.status().await?.backlog == 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    first.abort();
    println!("the first relay is gone, and another one publishes what is left");
    let second = tokio::spawn(relay(outbox.clone(), publisher));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", std::env::var("KAFKA_BROKERS")?)
        .set("group.id", run.to_string())
        .set("auto.offset.reset", "earliest")
        // Java's clients need to be told.
        .set("isolation.level", "read_committed")
        .create()?;
    consumer.subscribe(&[&format!("{run}-orders")])?;
    let (mut orders, mut copies) = (BTreeSet::new(), 0);
    while orders.len() < 100 {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        orders.insert(message.key().unwrap_or_default().to_vec());
        copies += 1;
    }
    assert_eq!(copies, orders.len());
    second.abort();
    println!("100 orders are on Kafka, each of them once");
    Ok(())
}
