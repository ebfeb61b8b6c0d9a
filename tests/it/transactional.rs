//! What `#[transactional_outbox]` does when it runs, on both databases.

use crate::support::relays::drained;
use crate::support::{self, OrderCreated, POSTGRES, migrated};
use outbox::{Outbox, OutboxDatabase, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, Pool, Postgres, Sqlite};

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("order {0} is refused")]
    Refused(i64),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// What a method does after its order is inserted and its event emitted.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Succeed,
    Fail,
    ReturnEarly,
}

/// The same service on each database: an attribute needs a concrete one.
macro_rules! order_service_on {
    ($module:ident, $database:ty) => {
        mod $module {
            use super::*;

            #[transactional_outbox(tx in outbox)]
            pub async fn place(
                outbox: &Outbox<$database>,
                n: i64,
                then: Then,
            ) -> Result<i64, OrderError> {
                insert(tx, n).await?;
                tx.emit(OrderCreated::new("outer", n))?;
                if then == Then::ReturnEarly {
                    return Ok(n);
                }
                if then == Then::Fail {
                    Err(OrderError::Refused(n))?;
                }
                Ok(n)
            }

            /// The outer order is placed, whether or not the inner one is.
            #[transactional_outbox(tx in outbox)]
            pub async fn place_two(
                outbox: &Outbox<$database>,
                n: i64,
                inner: Then,
            ) -> Result<bool, OrderError> {
                insert(tx, n).await?;
                tx.emit(OrderCreated::new("outer", n))?;
                let placed = place_inner(tx, n + 1, inner).await.is_ok();
                insert(tx, n + 2).await?;
                tx.emit(OrderCreated::new("outer", n + 2))?;
                Ok(placed)
            }

            #[transactional_outbox(tx in tx)]
            async fn place_inner(
                tx: &mut OutboxTx<'_, $database>,
                n: i64,
                then: Then,
            ) -> Result<(), OrderError> {
                insert(tx, n).await?;
                tx.emit(OrderCreated::new("inner", n))?;
                if then == Then::Fail { Err(OrderError::Refused(n)) } else { Ok(()) }
            }

            /// A pool has no settings, and is enough for the usual tables.
            #[transactional_outbox(tx in pool)]
            pub async fn place_on_pool(pool: &Pool<$database>, n: i64) -> Result<(), OrderError> {
                insert(tx, n).await?;
                tx.emit(OrderCreated::new("outer", n))?;
                Ok(())
            }

            /// Joins the transaction of its caller.
            async fn insert(tx: &mut OutboxTx<'_, $database>, n: i64) -> Result<(), sqlx::Error> {
                sqlx::query("insert into orders (n) values ($1)").bind(n).execute(tx).await?;
                Ok(())
            }

            pub async fn ordered(pool: &Pool<$database>) -> Vec<i64> {
                sqlx::query_scalar("select n from orders order by n").fetch_all(pool).await.unwrap()
            }
        }

        /// Ends of all kinds: the orders and the events are the same ones.
        async fn $module(pool: Pool<$database>) {
            use $module::{ordered, place, place_on_pool, place_two};

            let outbox = migrated(Outbox::new(pool)).await;
            outbox.pool().execute("create table orders (n bigint)").await.unwrap();
            assert_eq!(place(&outbox, 1, Then::Succeed).await.unwrap(), 1);
            assert!(matches!(place(&outbox, 2, Then::Fail).await, Err(OrderError::Refused(2))));
            assert_eq!(place(&outbox, 3, Then::ReturnEarly).await.unwrap(), 3);
            assert!(place_two(&outbox, 10, Then::Succeed).await.unwrap());
            assert!(!place_two(&outbox, 20, Then::Fail).await.unwrap());
            place_on_pool(outbox.pool(), 30).await.unwrap();

            let placed = [1, 3, 10, 11, 12, 20, 22, 30];
            assert_eq!(ordered(outbox.pool()).await, placed);
            assert_eq!(published(&outbox).await, placed);
        }
    };
}

order_service_on!(on_sqlite, Sqlite);
order_service_on!(on_postgres, Postgres);

async fn published<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<i64> {
    let n = |payload: &[u8]| serde_json::from_slice::<OrderCreated>(payload).unwrap().n;
    let mut published: Vec<i64> =
        drained(outbox).await.iter().map(|record| n(record.payload.as_deref().unwrap())).collect();
    published.sort_unstable();
    published
}

#[tokio::test]
async fn ok_commits_and_err_rolls_back_order_and_event_alike_on_sqlite() {
    let (pool, _directory) = support::sqlite(4).await;
    on_sqlite(pool).await;
}

#[tokio::test]
async fn ok_commits_and_err_rolls_back_order_and_event_alike_on_postgres() {
    on_postgres(support::postgres(POSTGRES, 4).await).await;
}
