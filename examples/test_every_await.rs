//! A test that drops a call at each of its awaits, as a request is dropped whose client hangs up.
//! It finds the service that commits an order and its event one after the other.
//!
//! ```text
//! in one transaction: nothing is found
//! in two transactions: an order without its event
//! ```

use std::error::Error;

use outbox::testing::{Emitted, at_every_await};
use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: &'static str,
}

/// Right: one commit for both.
#[transactional_outbox(tx in outbox)]
async fn place_order(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.execute("insert into orders values ('alice')").await?;
    tx.emit(OrderPlaced { customer: "alice" })?;
    Ok(())
}

/// Wrong: between the two, the order has no event.
async fn place_order_wrongly(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    outbox.pool().execute("insert into orders values ('alice')").await?;
    let mut tx = outbox.begin().await?;
    tx.emit(OrderPlaced { customer: "alice" })?;
    tx.commit().await
}

/// What must be true at any time.
async fn check(outbox: &Outbox<Sqlite>, emitted: &Emitted) {
    let orders = sqlx::query_scalar("select count(*) from orders").fetch_one(outbox.pool()).await;
    assert_eq!(orders.ok(), Some(emitted.len() as i64), "orders and events");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = &Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table orders (customer text)").await?;

    let test = at_every_await(outbox, || place_order(outbox));
    let dropped = test.check(async |emitted| check(outbox, emitted).await).await?;
    assert!(dropped.dropped > 0);
    println!("in one transaction: nothing is found");

    let test = at_every_await(outbox, || place_order_wrongly(outbox));
    let finding = test.check(async |emitted| check(outbox, emitted).await).await.unwrap_err();
    assert!(finding.to_string().contains("orders and events"));
    println!("in two transactions: an order without its event");
    Ok(())
}
