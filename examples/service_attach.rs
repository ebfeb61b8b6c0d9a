//! Joining a transaction that sqlx has open, for services that cannot begin theirs on the outbox:
//! it comes from a framework, or from a code base that is changed step by step.
//!
//! ```text
//! alice's order is committed, events: 1
//! bob's order is rolled back, events: 1
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError};
use serde::Serialize;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite, Transaction};

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced<'a> {
    #[event(key)]
    customer: &'a str,
}

/// The code that was there before, with the event added.
async fn place_order(
    outbox: &Outbox<Sqlite>,
    sqlx_tx: &mut Transaction<'_, Sqlite>,
    customer: &str,
) -> Result<(), OutboxError> {
    let insert = sqlx::query("insert into orders (customer) values ($1)").bind(customer);
    insert.execute(&mut **sqlx_tx).await?;

    // A savepoint. Its commit makes the event a part of `sqlx_tx`, whose commit decides.
    let mut tx = outbox.attach(sqlx_tx).await?;
    tx.emit(OrderPlaced { customer })?;
    tx.commit().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table orders (customer text)").await?;

    let mut sqlx_tx = pool.begin().await?;
    place_order(&outbox, &mut sqlx_tx, "alice").await?;
    sqlx_tx.commit().await?;
    outbox.ring(); // the outbox did not see that commit: without this, the relay's next poll finds it
    println!("alice's order is committed, events: {}", emitted(&outbox).await?.len());

    let mut sqlx_tx = pool.begin().await?;
    place_order(&outbox, &mut sqlx_tx, "bob").await?;
    sqlx_tx.rollback().await?;
    println!("bob's order is rolled back, events: {}", emitted(&outbox).await?.len());

    let orders: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&pool).await?;
    assert_eq!(orders, 1);
    Ok(())
}
