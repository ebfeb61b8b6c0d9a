//! Handlers that are methods of a service, with what they share in its fields.
//!
//! ```text
//! apples in the cellar: 3
//! apples in the cellar: 2, which is low
//! apples in the cellar: 12
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] String);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "deliveries", name = "items.delivered")]
struct ItemsDelivered {
    #[event(key)]
    item: String,
    count: i64,
}

/// Each handler has a clone. What is large, or must be one and the same, belongs into an `Arc`.
#[derive(Clone)]
struct Inventory {
    room: String,
    low: i64,
}

impl Inventory {
    #[event_handler(group = "inventory")]
    async fn reserve(
        &self,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> Result<(), sqlx::Error> {
        self.add(tx, &order.0, -1).await
    }

    #[event_handler(group = "inventory")]
    async fn stock_up(
        &self,
        tx: &mut OutboxTx<'_, Sqlite>,
        new: ItemsDelivered,
    ) -> Result<(), sqlx::Error> {
        self.add(tx, &new.item, new.count).await
    }

    async fn add(&self, tx: &mut OutboxTx<'_, Sqlite>, item: &str, by: i64) -> sqlx::Result<()> {
        let add = "update stock set count = count + $1 where item = $2 returning count";
        let count: i64 = sqlx::query_scalar(add).bind(by).bind(item).fetch_one(&mut *tx).await?;
        let remark = if count < self.low { ", which is low" } else { "" };
        println!("{item} in the {}: {count}{remark}", self.room);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table stock (item text, count integer)").await?;
    pool.execute("insert into stock values ('apples', 4)").await?;

    // A consumer takes them in the same way: `.handler(service.reserve())`.
    let service = Inventory { room: "cellar".into(), low: 3 };
    let inventory = HandlerTest::new(outbox, service.reserve())?.handler(service.stock_up())?;
    let order = || TestMessage::of(&OrderPlaced("apples".into()));
    let delivery = TestMessage::of(&ItemsDelivered { item: "apples".into(), count: 10 });
    for message in [order()?, order()?, delivery?] {
        assert_eq!(inventory.deliver(&message).await?, Delivery::Handled);
    }
    Ok(())
}
