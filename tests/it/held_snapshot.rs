//! Progress is append-only: a snapshot or a lock that is held for hours costs space, and no time.

use std::time::Duration;

use crate::support::relays::{self, RunningRelay, drain, new_relay, run_error};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually, migrated, next_leaf,
    within_a_minute,
};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox};
use sqlx::{Connection, Executor, PgConnection, Postgres};

async fn new_outbox() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await
}

async fn drained(outbox: &Outbox<Postgres>) -> Vec<i64> {
    by_customer(&relays::drained(outbox).await).remove("a").unwrap_or_default()
}

async fn progress_mib(outbox: &Outbox<Postgres>) -> i64 {
    sqlx::query_scalar("select pg_relation_size('outbox_progress') >> 20")
        .fetch_one(outbox.pool())
        .await
        .unwrap()
}

/// As after a quarter of an hour of a relay that is busy in all lanes.
async fn much_progress(outbox: &Outbox<Postgres>) {
    outbox
        .pool()
        .execute(
            "insert into outbox_progress (lane, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq)
             select l.lane, p.prev, p.prev_floor, p.prev_h, p.cur, p.cur_floor, p.cur_h, p.last_seq
             from generate_series(1, 20000) n, outbox_lane l cross join lateral (
               select * from outbox_progress p where p.lane = l.lane order by id desc limit 1) p",
        )
        .await
        .unwrap();
    assert!(progress_mib(outbox).await >= 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_space_of_progress_comes_back_under_a_running_relay_and_nothing_is_published_twice() {
    let outbox = new_outbox().await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    for n in 0..100 {
        commit(&outbox, [OrderCreated::new("a", n)]).await;
        if n % 40 == 20 {
            much_progress(&outbox).await;
            eventually("the space has come back", async || {
                outbox.reclaim(Duration::ZERO).await.unwrap();
                progress_mib(&outbox).await == 0
            })
            .await;
        }
    }
    within_a_minute(kafka.wait_for(100)).await;
    relay.stop().await;
    assert_eq!(by_customer(&kafka.published())["a"], (0..100).collect::<Vec<_>>());
    assert_eq!(drained(&outbox).await, [] as [i64; 0]);
}

/// `pg_dump` holds such a lock on every table until it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_locks_the_tables_delays_the_space_and_no_event() {
    let outbox = new_outbox().await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(drained(&outbox).await, [1]);
    let mut dump = outbox.pool().acquire().await.unwrap().detach();
    dump.execute(
        "begin isolation level repeatable read; lock table outbox_progress in access share mode",
    )
    .await
    .unwrap();
    much_progress(&outbox).await;

    outbox.reclaim(Duration::ZERO).await.unwrap();
    assert!(progress_mib(&outbox).await >= 16, "it is in use");
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drained(&outbox).await, [2]);

    dump.execute("rollback").await.unwrap();
    outbox.reclaim(Duration::ZERO).await.unwrap();
    assert_eq!(progress_mib(&outbox).await, 0);
    commit(&outbox, [OrderCreated::new("a", 3)]).await;
    assert_eq!(drained(&outbox).await, [3]);
}

/// To a snapshot from before a TRUNCATE, the table is empty: that must not mean that everything is
/// published, or nothing.
#[tokio::test]
async fn where_no_progress_is_seen_nothing_is_reclaimed_and_nothing_is_published_again() {
    let outbox = new_outbox().await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(drained(&outbox).await, [1]);
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    outbox.pool().execute("delete from outbox_progress").await.unwrap();

    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(outbox.status().await.unwrap().backlog, 2);
    let kafka = MemoryPublisher::new();
    let error = drain(new_relay(&outbox, kafka.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let error = run_error(new_relay(&outbox, kafka.clone())).await.to_string();
    assert!(kafka.published().is_empty());

    // The way out, which it names for one lane after the other.
    let remedy = error.split('`').nth(1).expect("the statement to run, in backquotes");
    assert!(remedy.contains("\"outbox_progress\" (lane) values ("), "{remedy}");
    let all = "insert into outbox_progress (lane) select lane from outbox_lane";
    outbox.pool().execute(all).await.unwrap();
    assert_eq!(drained(&outbox).await, [1, 2]);
}

#[tokio::test]
async fn progress_survives_the_loss_of_the_rows_that_say_who_holds_a_lane() {
    let outbox = new_outbox().await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(drained(&outbox).await, [1]);
    outbox.pool().execute("delete from outbox_lane").await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drained(&outbox).await, [2], "put back, and from where it was");
}

#[tokio::test]
async fn a_relay_that_is_no_longer_the_holder_cannot_save() {
    let outbox = new_outbox().await;
    let held = support::HeldPublisher::default();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let mut relay = RunningRelay::start(new_relay(&outbox, held.clone()));
    within_a_minute(held.got(1)).await;
    // Another takes its lanes, and is about to commit that.
    let url = support::server(POSTGRES);
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let database: String =
        sqlx::query_scalar("select current_database()").fetch_one(outbox.pool()).await.unwrap();
    let mut other = PgConnection::connect_with(&options.database(&database)).await.unwrap();
    other
        .execute("begin; update outbox_lane set owner = gen_random_uuid(), epoch = epoch + 1")
        .await
        .unwrap();
    held.answer();
    relay.ask_to_stop();
    other.execute("commit").await.unwrap();
    relay.stop().await;
    let saved: i64 =
        sqlx::query_scalar("select count(*) from outbox_progress where prev_floor > 0")
            .fetch_one(outbox.pool())
            .await
            .unwrap();
    assert_eq!(saved, 0);
}
