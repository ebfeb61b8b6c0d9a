//! An event as a struct, and the message that Kafka gets for it.
//!
//! ```text
//! topic    orders
//! key      alice
//! type     order.placed, version 1
//! payload  {"customer":"alice","item":"apples"}
//! ```

use std::error::Error;

use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use serde::Serialize;
use sqlx::sqlite::SqlitePoolOptions;

/// `name` and `version` are what consumers know it by. Nothing of the Rust name is in the message.
#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 1)]
struct OrderPlaced {
    /// The Kafka key: events of one customer stay in order.
    #[event(key)]
    customer: String,
    item: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One connection, since each connection to `:memory:` would have a database of its own.
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?; // creates the tables `outbox_…`

    let mut tx = outbox.begin().await?;
    tx.emit(OrderPlaced { customer: "alice".into(), item: "apples".into() })?;
    tx.commit().await?;

    // The relay publishes what is committed: here into memory, in a service to Kafka.
    let kafka = MemoryPublisher::new();
    let published = Relay::new(outbox, kafka.clone()).drain().await?;
    assert_eq!(published, 1);
    for event in kafka.published() {
        println!("topic    {}", event.topic);
        println!("key      {}", String::from_utf8(event.key.unwrap_or_default())?);
        println!("type     {}, version {}", event.name, event.version);
        println!("payload  {}", String::from_utf8(event.payload.unwrap_or_default())?);
    }
    Ok(())
}
