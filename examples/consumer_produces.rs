//! A handler that changes data and emits an event of its own, all in one transaction: consume,
//! change, produce.
//!
//! ```text
//! order.placed: Handled
//! order.placed: Duplicate
//! 1 apple is left, and 1 event is published: stock.low
//! ```

use std::error::Error;

use outbox::testing::{HandlerTest, MemoryPublisher, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, Relay, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

/// What comes in.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    item: String,
}

/// What goes out.
#[derive(Serialize, DomainEvent)]
#[event(topic = "stock", name = "stock.low")]
struct StockLow {
    #[event(key)]
    item: String,
    left: i64,
}

/// `tx` is the transaction in which the inbox remembers the order. Its commit makes all of that
/// durable at once, and a relay publishes the new event.
#[event_handler]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), OutboxError> {
    let update = "update stock set free = free - 1 where item = $1 returning free";
    let left = sqlx::query_scalar(update).bind(&order.item).fetch_one(&mut *tx).await?;
    if left < 2 {
        tx.emit(StockLow { item: order.item, left })?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table stock (item text, free integer)").await?;
    pool.execute("insert into stock values ('apples', 2)").await?;

    let inventory = HandlerTest::new(outbox.clone(), reserve())?;
    let order = TestMessage::of(&OrderPlaced { item: "apples".into() })?;
    for _ in 0..2 {
        println!("order.placed: {:?}", inventory.deliver(&order).await?);
    }

    let kafka = MemoryPublisher::new();
    let events = Relay::new(outbox, kafka.clone()).drain().await?;
    let left: i64 = sqlx::query_scalar("select free from stock").fetch_one(&pool).await?;
    let name = &kafka.published()[0].name;
    println!("{left} apple is left, and {events} event is published: {name}");
    Ok(())
}
