//! The relay as a process of its own: the service only commits, and need not reach Kafka. This
//! program starts itself again, as the relay. Needs `KAFKA_BROKERS`.
//!
//! ```text
//! alice has ordered, and 1 event waits
//! the relay starts
//! 0 events wait, and the relay stops
//! bob has ordered, and 1 event waits
//! the relay starts
//! 0 events wait, and the relay stops
//! ```

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use serde::Serialize;
use sqlx::SqlitePool;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders-of-example", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
}

/// The whole program of a relay. It does not create the tables, which belong to the service.
async fn relay(database: &str) -> Result<(), Box<dyn Error>> {
    let outbox = Outbox::new(SqlitePool::connect(database).await?);
    Relay::new(outbox, KafkaPublisher::new(KafkaConfig::from_env()?)?)
        .run(async { _ = tokio::signal::ctrl_c().await })
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(database) = std::env::args().nth(1) {
        return relay(&database).await;
    }
    let directory = tempfile::tempdir()?;
    let database = format!("sqlite://{}/orders.db?mode=rwc", directory.path().display());
    let outbox = Outbox::new(SqlitePool::connect(&database).await?);
    outbox.migrate().await?;

    for customer in ["alice", "bob"] {
        let mut tx = outbox.begin().await?;
        tx.emit(OrderPlaced { customer: customer.into() })?;
        tx.commit().await?;
        let waiting = outbox.status().await?.backlog;
        println!("{customer} has ordered, and {waiting} event waits");

        println!("the relay starts");
        let mut relay = Command::new(std::env::current_exe()?).arg(&database).spawn()?;
        while outbox.status().await?.backlog > 0 {
            assert!(relay.try_wait()?.is_none(), "the relay ended by itself");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A kill would lose nothing either. But the next relay would wait for the end of its lease.
        Command::new("kill").args(["-INT", &relay.id().to_string()]).status()?;
        assert!(relay.wait()?.success());
        println!("0 events wait, and the relay stops");
    }
    Ok(())
}
