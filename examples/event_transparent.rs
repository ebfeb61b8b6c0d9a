//! An enum of events that are structs of their own: each keeps its topic, name, key and payload.
//!
//! ```text
//! orders    order.placed 1      {"customer":"alice","item":"apples"}
//! payments  payment.received 2  {"customer":"alice","cents":250}
//! the handler of the struct got alice's order of apples
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage, emitted};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    item: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments", name = "payment.received", version = 2)]
struct PaymentReceived {
    #[event(key)]
    customer: String,
    cents: u32,
}

/// What the domain returns, without knowing of a database. `emit` takes it as it takes the structs.
#[derive(DomainEvent)]
#[event(transparent)]
enum ShopEvent {
    Placed(OrderPlaced),
    Received(PaymentReceived),
}

fn buy(customer: &str, item: &str, cents: u32) -> Vec<ShopEvent> {
    vec![
        ShopEvent::Placed(OrderPlaced { customer: customer.into(), item: item.into() }),
        ShopEvent::Received(PaymentReceived { customer: customer.into(), cents }),
    ]
}

/// A consumer may take the enum, or one of the structs. In the message there is no enum.
#[event_handler]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), sqlx::Error> {
    println!("the handler of the struct got {}'s order of {}", order.customer, order.item);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let events = buy("alice", "apples", 250);
    let message = TestMessage::of(&events[0])?;

    let mut tx = outbox.begin().await?;
    tx.emit_all(events)?;
    tx.commit().await?;
    for event in emitted(&outbox).await?.iter() {
        let what = format!("{} {}", event.name, event.version);
        let payload = String::from_utf8_lossy(event.payload.as_deref().unwrap_or_default());
        println!("{:9} {what:19} {payload}", event.topic);
    }

    let inventory = HandlerTest::new(outbox, reserve())?;
    assert_eq!(inventory.deliver(&message).await?, Delivery::Handled);
    Ok(())
}
