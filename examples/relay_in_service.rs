//! The relay as a task of the service: a commit wakes it, and it ends with the service.
//!
//! ```text
//! the relay is ready
//! alice's event is published
//! bob's event is published
//! stopped, and nothing is left to publish
//! ```

use std::error::Error;

use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::sync::watch;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced<'a> {
    #[event(key)]
    customer: &'a str,
}

#[transactional_outbox(tx in outbox)]
async fn place_order(outbox: &Outbox<Sqlite>, customer: &str) -> Result<(), OutboxError> {
    tx.emit(OrderPlaced { customer })?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;

    // One signal for all tasks of the service. Usually it is Ctrl-C or SIGTERM.
    let (stop, mut stopped) = watch::channel(());
    let shutdown = async move { _ = stopped.changed().await };

    // In production: `KafkaPublisher::new("kafka-1:9092,kafka-2:9092")?`.
    let kafka = MemoryPublisher::new();
    let relay = Relay::new(outbox.clone(), kafka.clone());
    let health = relay.health(); // for the probes of an orchestrator
    let relay = tokio::spawn(relay.run(shutdown));

    for (count, customer) in [(1, "alice"), (2, "bob")] {
        place_order(&outbox, customer).await?;
        kafka.wait_for(count).await;
        if count == 1 {
            assert!(health.is_ready());
            println!("the relay is ready");
        }
        println!("{customer}'s event is published");
    }

    // It waits for what is in flight, saves its progress, and gives its work to other relays.
    drop(stop);
    relay.await??;
    assert_eq!(outbox.status().await?.backlog, 0);
    println!("stopped, and nothing is left to publish");
    Ok(())
}
