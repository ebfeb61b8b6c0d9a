//! A new version of an event, and consumers that still read the old one.
//!
//! ```text
//! alice ordered ["apples"]
//! alice ordered ["pears", "plums"]
//! version 3 is a dead letter
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

/// What the service emitted until last week. Topics and dead letters still have such events, but
/// none is emitted any more: `read_only`.
#[derive(Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 1, read_only)]
struct OrderPlacedV1 {
    customer: String,
    item: String,
}

/// An order may have several items now, which an old consumer could not read: a new version.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2, upcast_from = OrderPlacedV1)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    items: Vec<String>,
}

impl From<OrderPlacedV1> for OrderPlaced {
    fn from(old: OrderPlacedV1) -> Self {
        Self { customer: old.customer, items: vec![old.item] }
    }
}

/// Knows version 2 only. Of version 1, it gets what `From` makes of it.
#[event_handler]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), sqlx::Error> {
    println!("{} ordered {:?}", order.customer, order.items);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let inventory = HandlerTest::new(outbox, reserve())?;
    let order =
        OrderPlaced { customer: "alice".into(), items: vec!["pears".into(), "plums".into()] };

    // Deploy the consumers of version 2 first, and then the service that emits it.
    let new = TestMessage::of(&order)?;
    let old = TestMessage::of(&order)?
        .header("ce_dataversion", "1")
        .payload(r#"{"customer": "alice", "item": "apples"}"#);
    assert_eq!(inventory.deliver(&old).await?, Delivery::Handled);
    assert_eq!(inventory.deliver(&new).await?, Delivery::Handled);
    // A version that no handler reads becomes a dead letter, and can be replayed.
    let newer = TestMessage::of(&order)?.header("ce_dataversion", "3");
    assert!(matches!(inventory.deliver(&newer).await?, Delivery::Undecodable(_)));
    println!("version 3 is a dead letter");
    Ok(())
}
