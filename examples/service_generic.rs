//! A service that is generic over the database. Its second half needs `DATABASE_URL`, a Postgres.
//!
//! ```text
//! SQLite: 1 order, 1 event
//! PostgreSQL: 1 order, 1 event
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, transactional_outbox};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Executor, Pool, Postgres, Sqlite, pool::PoolOptions};

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced<'a> {
    #[event(key)]
    customer: &'a str,
}

/// The SQL, for each database: the bounds that sqlx asks of a generic query are longer than this.
trait Orders: OutboxDatabase {
    fn add(
        tx: &mut OutboxTx<'_, Self>,
        customer: &str,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
}

macro_rules! orders_on {
    ($($database:ty)*) => {$(
        impl Orders for $database {
            async fn add(tx: &mut OutboxTx<'_, Self>, customer: &str) -> Result<i64, sqlx::Error> {
                let insert = sqlx::query("insert into orders (customer) values ($1)");
                insert.bind(customer).execute(&mut *tx).await?;
                sqlx::query_scalar("select count(*) from orders").fetch_one(&mut *tx).await
            }
        }
    )*};
}
orders_on!(Postgres Sqlite);

struct OrderService<DB: Orders> {
    outbox: Outbox<DB>,
}

impl<DB: Orders> OrderService<DB> {
    #[transactional_outbox(tx in self.outbox)]
    async fn place_order(&self, customer: &str) -> Result<i64, OutboxError> {
        let orders = DB::add(tx, customer).await?;
        tx.emit(OrderPlaced { customer })?;
        Ok(orders)
    }
}

async fn run<DB: Orders>(pool: Pool<DB>) -> Result<(), OutboxError> {
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let orders = OrderService { outbox: outbox.clone() }.place_order("alice").await?;
    let events = emitted(&outbox).await?.len();
    println!("{}: {orders} order, {events} event", DB::NAME);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sqlite = PoolOptions::<Sqlite>::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlite.execute("create table orders (customer text)").await?;
    run(sqlite).await?;
    if let Ok(url) = std::env::var("DATABASE_URL") {
        let options: PgConnectOptions = url.parse()?;
        let postgres = PgPool::connect_with(options.options([("search_path", "demo")])).await?;
        postgres.execute("drop schema if exists demo cascade; create schema demo").await?;
        postgres.execute("create table orders (customer text)").await?;
        run(postgres).await?;
    }
    Ok(())
}
