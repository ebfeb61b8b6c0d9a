//! A unit of work: a struct that owns the transaction, with the service's queries as methods.
//!
//! ```text
//! alice has ordered, and paid: true
//! bob has ordered, and paid: false
//! events: ["order.placed", "euros.spent", "order.placed"]
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "shop")]
enum ShopEvent<'a> {
    #[event(name = "order.placed")]
    OrderPlaced(#[event(key)] &'a str),
    #[event(name = "euros.spent")]
    EurosSpent(#[event(key)] &'a str, i64),
}

/// What one request does to the database. Dropped without `commit`, it leaves nothing.
struct UnitOfWork {
    tx: OutboxTx<'static, Sqlite>,
}

impl UnitOfWork {
    async fn begin(outbox: &Outbox<Sqlite>) -> Result<Self, OutboxError> {
        Ok(Self { tx: outbox.begin().await? })
    }

    async fn add_order(&mut self, customer: &str) -> Result<(), OutboxError> {
        let insert = sqlx::query("insert into orders (customer) values ($1)").bind(customer);
        insert.execute(&mut self.tx).await?;
        self.tx.emit(ShopEvent::OrderPlaced(customer))?;
        Ok(())
    }

    /// In a savepoint of the transaction: if it fails, the rest of the work is kept.
    #[transactional_outbox(tx in self.tx)]
    async fn spend(&mut self, customer: &str, euros: i64) -> Result<(), OutboxError> {
        tx.emit(ShopEvent::EurosSpent(customer, euros))?;
        let update = sqlx::query("update customer set euros = euros - $1 where name = $2");
        update.bind(euros).bind(customer).execute(&mut *tx).await?;
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
    pool.execute("create table customer (name text, euros integer check (euros >= 0))").await?;
    pool.execute("insert into customer values ('alice', 10), ('bob', 1)").await?;

    for customer in ["alice", "bob"] {
        let mut work = UnitOfWork::begin(&outbox).await?;
        work.add_order(customer).await?;
        let paid = work.spend(customer, 3).await.is_ok();
        work.commit().await?;
        println!("{customer} has ordered, and paid: {paid}");
    }
    println!("events: {:?}", emitted(&outbox).await?.names());
    Ok(())
}
