//! Several events of a topic as the variants of one enum.
//!
//! ```text
//! order.placed     {"customer":"alice","item":"apples"}
//! order.paid       {"customer":"alice","cents":250}
//! order.cancelled  {"customer":"alice"}
//! alice ordered apples
//! alice paid 250 cents
//! alice cancelled
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage, emitted};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

/// Each variant has a key of its own, which may be another field than that of its neighbours.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders")]
enum OrderEvent {
    #[event(name = "order.placed")]
    Placed {
        #[event(key)]
        customer: String,
        item: String,
    },
    #[event(name = "order.paid")]
    Paid {
        #[event(key)]
        customer: String,
        cents: u32,
    },
    #[event(name = "order.cancelled")]
    Cancelled {
        #[event(key)]
        customer: String,
    },
}

/// One handler for all of them. The header `ce_type` of a message decides which variant it is.
#[event_handler]
async fn follow(_: &mut OutboxTx<'_, Sqlite>, event: OrderEvent) -> Result<(), sqlx::Error> {
    match event {
        OrderEvent::Placed { customer, item } => println!("{customer} ordered {item}"),
        OrderEvent::Paid { customer, cents } => println!("{customer} paid {cents} cents"),
        OrderEvent::Cancelled { customer } => println!("{customer} cancelled"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let events = [
        OrderEvent::Placed { customer: "alice".into(), item: "apples".into() },
        OrderEvent::Paid { customer: "alice".into(), cents: 250 },
        OrderEvent::Cancelled { customer: "alice".into() },
    ];

    let mut tx = outbox.begin().await?;
    tx.emit_all(&events)?;
    tx.commit().await?;
    for event in emitted(&outbox).await?.iter() {
        let payload = str::from_utf8(event.payload.as_deref().unwrap_or_default())?;
        println!("{:16} {payload}", event.name);
    }
    let handler = HandlerTest::new(outbox, follow())?;
    for event in &events {
        assert_eq!(handler.deliver(&TestMessage::of(event)?).await?, Delivery::Handled);
    }
    Ok(())
}
