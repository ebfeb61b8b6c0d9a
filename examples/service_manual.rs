//! The API below the macros: begin, emit, commit, for code that cannot be a function of its own.
//!
//! ```text
//! 2 events are part of the transaction
//! rolled back: []
//! dropped: []
//! committed: ["order.placed"]
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::tx::{Isolation, TxOptions};
use outbox::{DomainEvent, Outbox};
use serde::Serialize;
use sqlx::{Executor, sqlite::SqlitePoolOptions};

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: &'static str,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table orders (customer text)").await?;

    let mut tx = outbox.begin().await?;
    tx.execute("insert into orders values ('alice')").await?;
    tx.emit(OrderPlaced { customer: "alice" })?;
    tx.emit(OrderPlaced { customer: "alice" })?;
    println!("{} events are part of the transaction", tx.pending_events());
    tx.rollback().await?;
    println!("rolled back: {:?}", emitted(&outbox).await?.names());

    // The same happens after an early return, a panic, or a request that is cancelled.
    let mut tx = outbox.begin().await?;
    tx.execute("insert into orders values ('bob')").await?;
    tx.emit(OrderPlaced { customer: "bob" })?;
    drop(tx);
    println!("dropped: {:?}", emitted(&outbox).await?.names());

    let options = TxOptions::new().isolation(Isolation::Serializable);
    let mut tx = outbox.begin_with(options).await?;
    tx.execute("insert into orders values ('carol')").await?;
    tx.emit(OrderPlaced { customer: "carol" })?;
    tx.commit().await?; // the event is inserted here, and the relay is woken
    println!("committed: {:?}", emitted(&outbox).await?.names());

    let orders: Vec<String> =
        sqlx::query_scalar("select customer from orders").fetch_all(&pool).await?;
    assert_eq!(orders, ["carol"]);
    Ok(())
}
