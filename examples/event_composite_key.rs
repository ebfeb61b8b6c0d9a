//! A key of two fields: what must stay in order is the stock of an item in a warehouse.
//!
//! ```text
//! 1:apples     +5
//! 1:apples     -2
//! 1:pears      +9
//! 2:a\:b       +1
//! 2:apples     +3
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;

/// The parts are joined by `:`, in the order of their declaration. Both are in the payload as well.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "stock", name = "stock.changed")]
struct StockChanged {
    #[event(key)]
    warehouse: u32,
    #[event(key)]
    item: String,
    by: i32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;

    let mut tx = outbox.begin().await?;
    for (warehouse, item, by) in
        [(1, "apples", 5), (2, "apples", 3), (1, "pears", 9), (1, "apples", -2), (2, "a:b", 1)]
    {
        tx.emit(StockChanged { warehouse, item: item.into(), by })?;
    }
    tx.commit().await?;

    let mut changes = Vec::new();
    let emitted = emitted(&outbox).await?;
    for (event, change) in emitted.iter().zip(emitted.of::<StockChanged>()?) {
        changes.push((String::from_utf8(event.key.clone().unwrap_or_default())?, change.by));
    }
    // Between keys there is no order. A stable sort keeps the order within each key.
    changes.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (key, by) in &changes {
        println!("{key:12} {by:+}");
    }
    Ok(())
}
