//! Fields that are headers too: what a consumer, a filter or a router reads without the payload.
//!
//! ```text
//! emitted: [("tenant", "acme"), ("x-priority", "3")]
//! emitted: [("x-priority", "1")]
//! apples for Some("acme"), priority Some("3")
//! pears for None, priority Some("1")
//! ```

use std::error::Error;

use outbox::consume::EventContext;
use outbox::testing::{HandlerTest, TestMessage, emitted};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    item: String,
    /// The header `tenant`. `None` leaves it out.
    #[event(header)]
    tenant: Option<String>,
    /// A header with another name than the field.
    #[event(header = "x-priority")]
    priority: u8,
}

/// The fields are in the payload as well. The context has all headers, also those that are no
/// field of the event: `ce_id`, `ce_time`, `traceparent`.
#[event_handler]
async fn route(
    _: &mut OutboxTx<'_, Sqlite>,
    order: OrderPlaced,
    context: &EventContext,
) -> Result<(), sqlx::Error> {
    let (tenant, priority) = (context.headers.get("tenant"), context.headers.get("x-priority"));
    println!("{} for {tenant:?}, priority {priority:?}", order.item);
    assert!(context.headers.get("ce_id").is_some());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let orders = [
        OrderPlaced { item: "apples".into(), tenant: Some("acme".into()), priority: 3 },
        OrderPlaced { item: "pears".into(), tenant: None, priority: 1 },
    ];

    let mut tx = outbox.begin().await?;
    tx.emit_all(&orders)?;
    tx.commit().await?;
    for event in emitted(&outbox).await?.iter() {
        println!("emitted: {:?}", event.headers.iter().collect::<Vec<_>>());
    }

    let handler = HandlerTest::new(outbox, route())?;
    for order in &orders {
        handler.deliver(&TestMessage::of(order)?).await?;
    }
    Ok(())
}
