//! A method that is a transaction: `Ok` commits the order and its event, `Err` rolls both back.
//!
//! ```text
//! Ok(1)
//! Err(NotSold("moon"))
//! Ok(2)
//! events: ["apples", "pears"]
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    item: String,
}

/// The macro asks for the last one: the commit can fail, too.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{0} is not sold here")]
    NotSold(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

struct OrderService {
    outbox: Outbox<Sqlite>,
}

impl OrderService {
    /// In the body, `tx` is a `&mut OutboxTx`: queries run on it, and `emit` adds events to it.
    #[transactional_outbox(tx in self.outbox)]
    async fn place_order(&self, customer: &str, item: &str) -> Result<i64, OrderError> {
        let number = next_number(tx, customer).await?;
        tx.emit(OrderPlaced { customer: customer.into(), item: item.into() })?;
        if item == "moon" {
            return Err(OrderError::NotSold(item.into()));
        }
        Ok(number)
    }
}

/// A part of its caller's transaction. On Postgres, it locks the customer's row until the commit,
/// so that the events of a customer are in the order of their commits.
async fn next_number(tx: &mut OutboxTx<'_, Sqlite>, customer: &str) -> Result<i64, sqlx::Error> {
    let next = "insert into customer (name, orders) values ($1, 1)
                on conflict (name) do update set orders = customer.orders + 1 returning orders";
    sqlx::query_scalar(next).bind(customer).fetch_one(&mut *tx).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table customer (name text primary key, orders integer)").await?;

    let service = OrderService { outbox: outbox.clone() };
    for item in ["apples", "moon", "pears"] {
        println!("{:?}", service.place_order("alice", item).await);
    }
    let events = emitted(&outbox).await?.of::<OrderPlaced>()?;
    println!("events: {:?}", events.iter().map(|event| &*event.item).collect::<Vec<_>>());
    Ok(())
}
