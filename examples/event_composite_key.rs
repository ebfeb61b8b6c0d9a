//! A key of two fields: what must stay in order is the stock of an item in a warehouse.
//!
//! ```text
//! 1:apples  {"warehouse":1,"item":"apples","by":5}
//! 2:apples  {"warehouse":2,"item":"apples","by":3}
//! 1:apples  {"warehouse":1,"item":"apples","by":-2}
//! 2:a\:b    {"warehouse":2,"item":"a:b","by":1}
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox};
use serde::Serialize;
use sqlx::sqlite::SqlitePoolOptions;

/// The parts are joined by `:`, in the order of their declaration, and a `:` in a part is escaped.
#[derive(Serialize, DomainEvent)]
#[event(topic = "stock", name = "stock.changed")]
struct StockChanged {
    #[event(key)]
    warehouse: u32,
    #[event(key)]
    item: &'static str,
    by: i32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;

    let mut tx = outbox.begin().await?;
    for (warehouse, item, by) in
        [(1, "apples", 5), (2, "apples", 3), (1, "apples", -2), (2, "a:b", 1)]
    {
        tx.emit(StockChanged { warehouse, item, by })?;
    }
    tx.commit().await?;

    // Kafka keeps the two changes of `1:apples` in order. Between keys there is no order.
    for event in emitted(&outbox).await?.iter() {
        let key = str::from_utf8(event.key.as_deref().unwrap_or_default())?;
        let payload = str::from_utf8(event.payload.as_deref().unwrap_or_default())?;
        println!("{key:9} {payload}");
    }
    Ok(())
}
