//! The future of an annotated method, dropped at every await: no event without its order, no
//! transaction left open, a pool that works. (sqlx 0.9.0 alone leaves a transaction open when
//! `begin` is dropped: launchbadge/sqlx #4385.)

use std::pin::pin;
use std::task::Poll;

use outbox::{Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, Postgres, Sqlite};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, OTHER_POSTGRES, OrderCreated, POSTGRES, migrated};

/// Polls `future` until it has returned `Pending` `awaits` times, then drops it. `Some`: it
/// finished before.
async fn dropped_after<T>(future: impl Future<Output = T>, awaits: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut pending = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if pending == awaits => Poll::Ready(None),
        Poll::Pending => {
            pending += 1;
            Poll::Pending
        }
    })
    .await
}

macro_rules! place_order_on {
    ($name:ident, $nested:ident, $helper:ident, $database:ty) => {
        #[transactional_outbox(tx in outbox)]
        async fn $name(outbox: &Outbox<$database>, n: i64) -> Result<(), OutboxError> {
            sqlx::query("insert into orders (n) values ($1)").bind(n).execute(&mut *tx).await?;
            $nested(tx, n).await?;
            $helper(tx, n).await?;
            tx.emit(OrderCreated::new("a", n))?;
            Ok(())
        }

        #[transactional_outbox(tx in outer)]
        async fn $nested(outer: &mut OutboxTx<'_, $database>, n: i64) -> Result<(), OutboxError> {
            sqlx::query("insert into lines (n) values ($1)").bind(n).execute(&mut *tx).await?;
            tx.emit(OrderCreated::new("line", n))?;
            Ok(())
        }

        async fn $helper(tx: &mut OutboxTx<'_, $database>, n: i64) -> Result<(), OutboxError> {
            sqlx::query("update orders set n = n where n = $1").bind(n).execute(tx).await?;
            Ok(())
        }
    };
}

place_order_on!(place_order, add_line, touch_order, Postgres);
place_order_on!(place_sqlite_order, add_sqlite_line, touch_sqlite_order, Sqlite);

/// The same server, reached through a task of the current runtime.
async fn through_this_thread(server: PgConnectOptions) -> PgConnectOptions {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let upstream = (server.get_host().to_owned(), server.get_port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            let mut server = TcpStream::connect(upstream.clone()).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    server
        .host("127.0.0.1")
        .port(port)
        .options([("default_transaction_read_only", "off"), ("search_path", "public")])
}

/// Drops the method at its first await, at its second, … until it finishes.
async fn dropped_at_every_await_leaves_nothing_behind(server: &str) {
    // Looks at the connection under test from outside.
    let observer = support::postgres(server, 1).await;
    // One connection: what one call leaves on it, the next one meets. Its answers come through a
    // task of this thread, which cannot run while the method is polled: so each round trip is an
    // await that is pending.
    let address = through_this_thread((*observer.connect_options()).clone()).await;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(address).await.unwrap();
    let outbox = migrated(Outbox::new(pool)).await;
    outbox
        .pool()
        .execute("create table orders (n bigint); create table lines (n bigint)")
        .await
        .unwrap();
    let (mut finished, mut dropped) = (0, 0);
    for awaits in 0.. {
        match dropped_after(place_order(&outbox, awaits), awaits as usize).await {
            Some(result) => {
                result.unwrap();
                finished += 1;
            }
            None => {
                dropped += 1;
                finished = 0;
            }
        }
        let (orders, lines, order_events, line_events): (i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from orders), (select count(*) from lines),
                    (select count(*) from outbox_event where key = 'a'),
                    (select count(*) from outbox_event where key = 'line')",
        )
        .fetch_one(outbox.pool())
        .await
        .expect("the pool is usable");
        assert_eq!(
            (orders, lines, orders),
            (order_events, line_events, line_events),
            "after await {awaits}"
        );
        let in_transaction: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and state like 'idle in transaction%'",
        )
        .fetch_one(&observer)
        .await
        .unwrap();
        assert_eq!(in_transaction, 0, "no transaction is open after await {awaits}");
        // A statement is prepared in a round trip of its own until the connection knows it.
        if finished == 3 {
            break;
        }
    }
    let round_trips =
        ["begin", "insert", "savepoint", "insert", "release", "update", "insert events", "commit"];
    assert!(dropped >= round_trips.len(), "dropped at {dropped} awaits only");
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_postgres() {
    dropped_at_every_await_leaves_nothing_behind(POSTGRES).await;
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_the_other_postgres() {
    dropped_at_every_await_leaves_nothing_behind(OTHER_POSTGRES).await;
}

#[tokio::test]
async fn an_annotated_method_dropped_at_every_await_leaves_nothing_behind_on_sqlite() {
    let (pool, _directory) = support::sqlite(1).await;
    let outbox = migrated(Outbox::new(pool)).await;
    outbox
        .pool()
        .execute("create table orders (n bigint); create table lines (n bigint)")
        .await
        .unwrap();
    let (mut finished, mut dropped) = (0, 0);
    for awaits in 0.. {
        match dropped_after(place_sqlite_order(&outbox, awaits), awaits as usize).await {
            Some(result) => {
                result.unwrap();
                finished += 1;
            }
            None => {
                dropped += 1;
                finished = 0;
            }
        }
        let (orders, lines, order_events, line_events): (i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from orders), (select count(*) from lines),
                    (select count(*) from outbox_event where key = cast('a' as blob)),
                    (select count(*) from outbox_event where key = cast('line' as blob))",
        )
        .fetch_one(outbox.pool())
        .await
        .expect("the pool is usable");
        assert_eq!(
            (orders, lines, orders),
            (order_events, line_events, line_events),
            "after await {awaits}"
        );
        if finished == 3 {
            break;
        }
    }
    assert!(dropped >= 5, "dropped at {dropped} awaits only");
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

/// Drops a call at its first await, at its second, … until it finishes.
macro_rules! given_up_at_every_await {
    ($observer:expr, $outbox:expr, $call:expr) => {
        for awaits in 0.. {
            let finished =
                dropped_after($call, awaits).await.map(|result| result.map(drop).unwrap());
            $outbox.pool().execute("select 1").await.expect("the pool is usable");
            let in_transaction: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                 where datname = current_database() and state like 'idle in transaction%'",
            )
            .fetch_one(&$observer)
            .await
            .unwrap();
            assert_eq!(in_transaction, 0, "{}, given up after await {awaits}", stringify!($call));
            if finished.is_some() {
                break;
            }
        }
    };
}

#[tokio::test]
async fn a_call_given_up_at_any_await_leaves_no_transaction_open() {
    let observer = support::postgres(POSTGRES, 1).await;
    let address = through_this_thread((*observer.connect_options()).clone()).await;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(address).await.unwrap();
    let outbox = Outbox::new(pool);
    given_up_at_every_await!(observer, outbox, outbox.migrate());
    given_up_at_every_await!(observer, outbox, outbox.status());
    given_up_at_every_await!(observer, outbox, outbox.parked(10));
    given_up_at_every_await!(observer, outbox, outbox.release_all_parked());
    given_up_at_every_await!(observer, outbox, outbox.discard_parked(uuid::Uuid::now_v7()));
    given_up_at_every_await!(observer, outbox, outbox.replay(outbox::admin::Replay::all()));
    given_up_at_every_await!(observer, outbox, outbox.reclaim(std::time::Duration::ZERO));
}
