//! A unit of work: a struct that owns the transaction, with the service's queries as methods.
//!
//! ```text
//! alice: 7 euros
//! bob: -2 euros, so nothing of it is kept
//! events: ["euros.spent", "order.placed"]
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "shop")]
enum ShopEvent<'a> {
    #[event(name = "euros.spent")]
    EurosSpent(#[event(key)] &'a str, i64),
    #[event(name = "order.placed")]
    OrderPlaced(#[event(key)] &'a str),
}

/// What one request does to the database. Dropped without `commit`, it leaves nothing.
struct UnitOfWork {
    tx: OutboxTx<'static, Sqlite>,
}

impl UnitOfWork {
    async fn begin(outbox: &Outbox<Sqlite>) -> Result<Self, OutboxError> {
        Ok(Self { tx: outbox.begin().await? })
    }

    async fn spend(&mut self, customer: &str, euros: i64) -> Result<i64, OutboxError> {
        let update = "update customer set euros = euros - $1 where name = $2 returning euros";
        let update = sqlx::query_scalar(update).bind(euros).bind(customer);
        let left = update.fetch_one(&mut self.tx).await?;
        self.tx.emit(ShopEvent::EurosSpent(customer, euros))?;
        Ok(left)
    }

    async fn add_order(&mut self, customer: &str) -> Result<(), OutboxError> {
        let insert = sqlx::query("insert into orders (customer) values ($1)").bind(customer);
        insert.execute(&mut self.tx).await?;
        self.tx.emit(ShopEvent::OrderPlaced(customer))?;
        Ok(())
    }

    async fn commit(self) -> Result<(), OutboxError> {
        self.tx.commit().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table orders (customer text)").await?;
    pool.execute("create table customer (name text, euros integer)").await?;
    pool.execute("insert into customer values ('alice', 10), ('bob', 1)").await?;

    for customer in ["alice", "bob"] {
        let mut work = UnitOfWork::begin(&outbox).await?;
        let left = work.spend(customer, 3).await?;
        work.add_order(customer).await?;
        if left < 0 {
            println!("{customer}: {left} euros, so nothing of it is kept");
            continue;
        }
        work.commit().await?;
        println!("{customer}: {left} euros");
    }

    println!("events: {:?}", emitted(&outbox).await?.names());
    Ok(())
}
