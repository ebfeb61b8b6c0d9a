//! Tests of a service: what it emits, and that it emits nothing if it fails.
//!
//! In your own package these are `#[tokio::test]`s, or `#[sqlx::test]`s on Postgres.
//!
//! ```text
//! an order is published: ok
//! an order that is refused is not published: ok
//! ```

use std::error::Error;

use outbox::event::EventRecord;
use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

#[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    item: String,
}

#[transactional_outbox(tx in outbox)]
async fn place_order(
    outbox: &Outbox<Sqlite>,
    customer: &str,
    item: &str,
) -> Result<(), OutboxError> {
    tx.emit(OrderPlaced { customer: customer.into(), item: item.into() })?;
    let insert = sqlx::query("insert into orders (customer, item) values ($1, $2)");
    insert.bind(customer).bind(item).execute(&mut *tx).await?;
    Ok(())
}

/// A database for each test.
async fn outbox() -> Result<Outbox<Sqlite>, OutboxError> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    pool.execute("create table orders (customer text, item text check (item <> ''))").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    Ok(outbox)
}

/// Publishes what is committed, and returns it.
async fn published(outbox: Outbox<Sqlite>) -> Result<Vec<EventRecord>, OutboxError> {
    let kafka = MemoryPublisher::new();
    Relay::new(outbox, kafka.clone()).drain().await?;
    Ok(kafka.published())
}

async fn an_order_is_published() -> Result<(), Box<dyn Error>> {
    let outbox = outbox().await?;
    place_order(&outbox, "alice", "apples").await?;
    let [event] = &*published(outbox).await? else { panic!("not one event") };
    assert_eq!((&*event.topic, &*event.name), ("orders", "order.placed"));
    assert_eq!(event.key.as_deref(), Some(&b"alice"[..]));
    let order: OrderPlaced = serde_json::from_slice(event.payload.as_deref().unwrap())?;
    assert_eq!(order, OrderPlaced { customer: "alice".into(), item: "apples".into() });
    println!("an order is published: ok");
    Ok(())
}

async fn an_order_that_is_refused_is_not_published() -> Result<(), Box<dyn Error>> {
    let outbox = outbox().await?;
    place_order(&outbox, "alice", "").await.unwrap_err();
    assert_eq!(published(outbox).await?, []);
    println!("an order that is refused is not published: ok");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    an_order_is_published().await?;
    an_order_that_is_refused_is_not_published().await
}
