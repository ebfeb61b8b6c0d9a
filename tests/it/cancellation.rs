//! The future of an annotated method, dropped at every await: no event without its order, no
//! transaction left open, a pool that works. (sqlx 0.9.0 alone leaves a transaction open when
//! `begin` is dropped: launchbadge/sqlx #4385.)

use std::task::{Context, Waker};

use outbox::testing::{Emitted, at_every_await};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, MySql, Postgres, Sqlite, SqlitePool};

use crate::support::{self, OTHER_POSTGRES, OrderCreated, POSTGRES, eventually, migrated};

/// Another event of a call, of another name.
#[derive(Debug, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "order-events")]
struct LineAdded {
    #[event(key)]
    customer: String,
    n: i64,
}

const TABLES: &str = "create table orders (n bigint); create table order_lines (n bigint)";

macro_rules! place_order_on {
    ($name:ident, $nested:ident, $helper:ident, $database:ty, $parameter:literal) => {
        #[transactional_outbox(tx in outbox)]
        async fn $name(outbox: &Outbox<$database>, n: i64) -> Result<(), OutboxError> {
            let insert = concat!("insert into orders (n) values (", $parameter, ")");
            sqlx::query(insert).bind(n).execute(&mut *tx).await?;
            $nested(tx, n).await?;
            $helper(tx, n).await?;
            tx.emit(OrderCreated::new("a", n))?;
            Ok(())
        }

        #[transactional_outbox(tx in outer)]
        async fn $nested(outer: &mut OutboxTx<'_, $database>, n: i64) -> Result<(), OutboxError> {
            let insert = concat!("insert into order_lines (n) values (", $parameter, ")");
            sqlx::query(insert).bind(n).execute(&mut *tx).await?;
            tx.emit(LineAdded { customer: "a".to_owned(), n })?;
            Ok(())
        }

        async fn $helper(tx: &mut OutboxTx<'_, $database>, n: i64) -> Result<(), OutboxError> {
            let update = concat!("update orders set n = n where n = ", $parameter);
            sqlx::query(update).bind(n).execute(tx).await?;
            Ok(())
        }
    };
}

place_order_on!(place_order, add_line, touch_order, Postgres, "$1");
place_order_on!(place_sqlite_order, add_sqlite_line, touch_sqlite_order, Sqlite, "$1");
place_order_on!(place_mysql_order, add_mysql_line, touch_mysql_order, MySql, "?");

macro_rules! dropped_at_every_await_leaves_nothing_behind {
    ($outbox:expr, $place_order:ident) => {{
        let outbox = $outbox;
        outbox.pool().execute(TABLES).await.unwrap();
        let numbers = async |statement: &'static str| -> Vec<i64> {
            sqlx::query_scalar(statement).fetch_all(outbox.pool()).await.unwrap()
        };
        let mut n = 0;
        let place_order = || {
            n += 1;
            $place_order(&outbox, n)
        };
        let dropped = at_every_await(&outbox, place_order)
            .check(async |emitted| {
                let orders = numbers("select n from orders order by n").await;
                let lines = numbers("select n from order_lines order by n").await;
                assert_eq!(orders, of_orders(emitted));
                assert_eq!(lines, of_lines(emitted));
            })
            .await
            .unwrap();
        assert!(
            dropped.completed >= 3 && dropped.awaits >= ROUND_TRIPS.len() as u32,
            "{dropped:?}"
        );
        dropped
    }};
}

fn of_orders(emitted: &Emitted) -> Vec<i64> {
    emitted.of::<OrderCreated>().unwrap().into_iter().map(|order| order.n).collect()
}

fn of_lines(emitted: &Emitted) -> Vec<i64> {
    emitted.of::<LineAdded>().unwrap().into_iter().map(|line| line.n).collect()
}

/// One connection: what one call leaves on it, the next one meets.
async fn on_postgres(server: &str) -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres_that_is_waited_for(server, 1).await)).await
}

const ROUND_TRIPS: [&str; 8] =
    ["begin", "insert", "savepoint", "insert", "release", "update", "insert events", "commit"];

/// It was dropped within each of its statements.
async fn an_annotated_method_dropped_on_postgres(server: &str) {
    let outbox = on_postgres(server).await;
    let dropped = dropped_at_every_await_leaves_nothing_behind!(outbox, place_order);
    for statement in ["insert into orders", "insert into order_lines", "update orders", "_event\""]
    {
        let within = dropped.under_way.iter().any(|under_way| under_way.contains(statement));
        assert!(within, "{statement}: {dropped:?}");
    }
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_postgres() {
    an_annotated_method_dropped_on_postgres(POSTGRES).await;
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_the_other_postgres() {
    an_annotated_method_dropped_on_postgres(OTHER_POSTGRES).await;
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_sqlite() {
    let (pool, _directory) = support::sqlite(1).await;
    let outbox = migrated(Outbox::new(pool)).await;
    dropped_at_every_await_leaves_nothing_behind!(outbox, place_sqlite_order);
}

/// The thread of the connection has committed, and nobody takes its answer. sqlx 0.9.0 then ignores
/// one rollback: it must not be that of another transaction.
#[tokio::test]
async fn on_sqlite_a_commit_that_is_given_up_once_it_is_done_leaves_the_next_transaction_alone() {
    let (pool, _directory) = support::sqlite(1).await;
    let other = SqlitePool::connect_with((*pool.connect_options()).clone()).await.unwrap();
    let outbox = migrated(Outbox::new(pool)).await;
    outbox.pool().execute(TABLES).await.unwrap();
    let orders = async |pool: &SqlitePool| -> Vec<i64> {
        sqlx::query_scalar("select n from orders").fetch_all(pool).await.unwrap()
    };
    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert into orders (n) values (1)").await.unwrap();
    let mut commit = Box::pin(tx.commit());
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    eventually("it is committed", async || orders(&other).await == [1]).await;
    drop(commit);

    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert into orders (n) values (2)").await.unwrap();
    drop(tx);
    assert_eq!(orders(outbox.pool()).await, [1], "the second one was rolled back");
}

/// sqlx 0.9.0 alone leaves a connection that it cannot use when a query is dropped in the middle of
/// its answer.
#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_mysql() {
    let outbox = migrated(Outbox::new(support::mysql_that_is_waited_for(1).await)).await;
    dropped_at_every_await_leaves_nothing_behind!(outbox, place_mysql_order);
}

#[tokio::test]
async fn a_panic_in_the_body_rolls_back_and_leaves_the_pool_usable() {
    #[transactional_outbox(tx in outbox)]
    async fn panics(outbox: Outbox<Postgres>) -> Result<(), OutboxError> {
        sqlx::query("insert into orders (n) values (1)").execute(&mut *tx).await?;
        tx.emit(OrderCreated::new("a", 1))?;
        panic!("a bug in the service");
    }

    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 1).await)).await;
    outbox.pool().execute("create table orders (n bigint)").await.unwrap();
    assert!(tokio::spawn(panics(outbox.clone())).await.unwrap_err().is_panic());
    let left: (i64, i64) =
        sqlx::query_as("select (select count(*) from orders), (select count(*) from outbox_event)")
            .fetch_one(outbox.pool())
            .await
            .unwrap();
    assert_eq!(left, (0, 0));
}

#[tokio::test]
async fn an_error_swallowed_in_the_body_does_not_commit_half() {
    // Postgres aborts a transaction at its first error. A body that ignores it gets an error, not a
    // silent loss.
    #[transactional_outbox(tx in outbox)]
    async fn swallows(outbox: &Outbox<Postgres>) -> Result<(), OutboxError> {
        sqlx::query("insert into orders (n) values (1)").execute(&mut *tx).await?;
        let _ = sqlx::query("select 1 / 0").execute(&mut *tx).await;
        tx.emit(OrderCreated::new("a", 1))?;
        Ok(())
    }

    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 1).await)).await;
    outbox.pool().execute("create table orders (n bigint)").await.unwrap();
    let error = swallows(&outbox).await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    let orders: i64 =
        sqlx::query_scalar("select count(*) from orders").fetch_one(outbox.pool()).await.unwrap();
    assert_eq!(orders, 0);
}

/// Drops a call at each of its awaits. It emits nothing.
async fn given_up_at_every_await<DB: OutboxDatabase, T>(
    what: &str,
    outbox: &Outbox<DB>,
    call: impl AsyncFnMut() -> Result<T, OutboxError>,
) {
    let dropped = at_every_await(outbox, call)
        .check(async |emitted| assert_eq!(emitted.names(), [] as [&str; 0]))
        .await;
    assert!(dropped.unwrap_or_else(|found| panic!("{what}: {found}")).dropped > 0);
}

#[tokio::test]
async fn a_call_given_up_at_any_await_leaves_no_transaction_open() {
    use std::time::Duration;

    use outbox::admin::Replay;
    use uuid::Uuid;

    let outbox = Outbox::new(support::postgres(POSTGRES, 1).await);
    let unknown = Uuid::now_v7();
    given_up_at_every_await("migrate", &outbox, || outbox.migrate()).await;
    given_up_at_every_await("status", &outbox, || outbox.status()).await;
    given_up_at_every_await("parked", &outbox, || outbox.parked(10)).await;
    given_up_at_every_await("release", &outbox, || outbox.release_all_parked()).await;
    given_up_at_every_await("discard", &outbox, || outbox.discard_parked(unknown)).await;
    given_up_at_every_await("replay", &outbox, async || outbox.replay(Replay::all()).await).await;
    given_up_at_every_await("reclaim", &outbox, || outbox.reclaim(Duration::ZERO)).await;
}
