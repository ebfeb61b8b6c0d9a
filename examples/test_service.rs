//! Tests of a service: what it emits, and that it emits nothing if it fails.
//!
//! In your own package these are `#[tokio::test]`s, or `#[sqlx::test]`s on Postgres.
//!
//! ```text
//! an order is emitted: ok
//! an order that is refused is not emitted: ok
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
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

async fn an_order_is_emitted() -> Result<(), Box<dyn Error>> {
    let outbox = outbox().await?;
    place_order(&outbox, "alice", "apples").await?;

    let emitted = emitted(&outbox).await?;
    let order = OrderPlaced { customer: "alice".into(), item: "apples".into() };
    assert_eq!(emitted.of::<OrderPlaced>()?, [order]);
    // What other programs rely on.
    assert_eq!((&*emitted[0].topic, &*emitted[0].name), ("orders", "order.placed"));
    assert_eq!(emitted[0].key.as_deref(), Some(&b"alice"[..]));
    println!("an order is emitted: ok");
    Ok(())
}

async fn an_order_that_is_refused_is_not_emitted() -> Result<(), Box<dyn Error>> {
    let outbox = outbox().await?;
    place_order(&outbox, "alice", "").await.unwrap_err();
    assert_eq!(emitted(&outbox).await?.names(), [""; 0]);
    println!("an order that is refused is not emitted: ok");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    an_order_is_emitted().await?;
    an_order_that_is_refused_is_not_emitted().await
}
