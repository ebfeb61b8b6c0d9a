//! Postgres: what commits late, or never, or in pieces. Each would be lost, doubled or turned round
//! by a relay that reads `where seq > last`.

use std::time::Duration;

use crate::support::relays::{self, RunningRelay, drain, new_relay, run_error};
use crate::support::{
    self, OTHER_POSTGRES, OrderCreated, POSTGRES, migrated, order, until_true, within_a_minute,
};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox};
use sqlx::{Executor, PgPool, Postgres, Transaction};

async fn new_outbox() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 8).await)).await
}

/// A transaction whose event is inserted, and which has not committed.
async fn open_with_event(
    outbox: &Outbox<Postgres>,
    customer: &str,
    n: i64,
) -> Transaction<'static, Postgres> {
    let mut open = outbox.pool().begin().await.unwrap();
    insert(outbox, &mut open, customer, n).await;
    open
}

async fn insert(
    outbox: &Outbox<Postgres>,
    open: &mut Transaction<'_, Postgres>,
    customer: &str,
    n: i64,
) {
    let mut tx = outbox.attach(open).await.unwrap();
    tx.emit(OrderCreated::new(customer, n)).unwrap();
    tx.commit().await.unwrap();
}

async fn commit(outbox: &Outbox<Postgres>, customer: &str, n: i64) {
    open_with_event(outbox, customer, n).await.commit().await.unwrap();
}

/// What a relay publishes now, as (customer, n).
async fn drained(outbox: &Outbox<Postgres>) -> Vec<(String, i64)> {
    let published = relays::drained(outbox).await;
    published.iter().map(order).map(|order| (order.customer, order.n)).collect()
}

fn events<const N: usize>(expected: [(&str, i64); N]) -> Vec<(String, i64)> {
    expected.map(|(customer, n)| (customer.to_owned(), n)).into()
}

#[tokio::test]
async fn late_commit_is_not_lost() {
    let outbox = new_outbox().await;
    let late = open_with_event(&outbox, "late", 1).await;
    commit(&outbox, "early", 1).await;
    assert_eq!(drained(&outbox).await, events([("early", 1)]));
    late.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, events([("late", 1)]));
    assert_eq!(drained(&outbox).await, events([]));
}

#[tokio::test]
async fn late_commit_of_the_very_first_event_is_not_lost() {
    let outbox = new_outbox().await;
    // Windows open and close on an empty sequence first.
    let other = outbox.pool().begin().await.unwrap();
    assert_eq!(drained(&outbox).await, events([]));
    let late = open_with_event(&outbox, "late", 1).await;
    assert_eq!(drained(&outbox).await, events([]));
    late.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, events([("late", 1)]));
    drop(other);
}

#[tokio::test]
async fn a_transaction_that_spans_many_windows_is_in_exactly_one() {
    let outbox = new_outbox().await;
    let mut long = open_with_event(&outbox, "long", 1).await;
    for n in 0..5 {
        commit(&outbox, "short", n).await;
        insert(&outbox, &mut long, "long", n + 2).await;
        assert_eq!(drained(&outbox).await, events([("short", n)]));
    }
    long.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, (1..=6).map(|n| ("long".to_owned(), n)).collect::<Vec<_>>());
    assert_eq!(drained(&outbox).await, events([]));
}

#[tokio::test]
async fn a_transaction_id_drawn_long_ago_stalls_nobody_and_loses_nothing() {
    let outbox = new_outbox().await;
    let mut old = outbox.pool().begin().await.unwrap();
    old.execute("select pg_current_xact_id()").await.unwrap();
    for n in 0..3 {
        commit(&outbox, "young", n).await;
        assert_eq!(drained(&outbox).await, events([("young", n)]));
    }
    // Its number is the highest, its transaction id the lowest.
    insert(&outbox, &mut old, "old", 1).await;
    commit(&outbox, "young", 3).await;
    assert_eq!(drained(&outbox).await, events([("young", 3)]));
    old.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, events([("old", 1)]));
}

#[tokio::test]
async fn a_transaction_held_open_in_another_database_stalls_nobody() {
    let outbox = new_outbox().await;
    let elsewhere = support::postgres(POSTGRES, 1).await;
    let mut held = elsewhere.begin().await.unwrap();
    held.execute("select pg_current_xact_id()").await.unwrap();
    commit(&outbox, "a", 1).await;
    assert_eq!(drained(&outbox).await, events([("a", 1)]));
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn a_prepared_transaction_is_published_when_it_commits() {
    let outbox = new_outbox().await;
    let gid = format!("outbox_{}", uuid::Uuid::now_v7().simple());
    let mut two_phase = open_with_event(&outbox, "prepared", 1).await;
    two_phase.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{gid}'"))).await.unwrap();
    two_phase.commit().await.unwrap(); // only tells sqlx that it is over
    commit(&outbox, "a", 1).await;
    assert_eq!(drained(&outbox).await, events([("a", 1)]));
    outbox.pool().execute(sqlx::AssertSqlSafe(format!("commit prepared '{gid}'"))).await.unwrap();
    assert_eq!(drained(&outbox).await, events([("prepared", 1)]));
}

#[tokio::test]
async fn events_of_a_savepoint_rolled_back_after_their_insertion_are_not_published() {
    let outbox = new_outbox().await;
    let mut open = open_with_event(&outbox, "a", 1).await;
    open.execute("savepoint s").await.unwrap();
    insert(&outbox, &mut open, "a", 2).await;
    open.execute("rollback to savepoint s").await.unwrap();
    insert(&outbox, &mut open, "a", 3).await;
    open.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, events([("a", 1), ("a", 3)]));
}

#[tokio::test]
async fn an_attached_transaction_that_rolls_back_publishes_nothing() {
    let outbox = new_outbox().await;
    open_with_event(&outbox, "a", 1).await.rollback().await.unwrap();
    // Dropped without commit: the sqlx transaction continues without its events.
    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new("a", 2)).unwrap();
    drop(tx);
    insert(&outbox, &mut open, "a", 3).await;
    open.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, events([("a", 3)]));
}

#[tokio::test]
async fn a_commit_in_another_process_wakes_the_relay() {
    let outbox = new_outbox().await;
    let kafka = MemoryPublisher::new();
    let relay = new_relay(&outbox, kafka.clone())
        .poll_interval(Duration::from_secs(3600))
        .lease(Duration::from_secs(3 * 3600));
    let relay = RunningRelay::start(relay);
    // A ring reaches it from then on.
    let listens = "select exists (select from pg_stat_activity
                                  where datname = current_database() and query ilike 'listen%')";
    until_true(outbox.pool(), listens).await;
    // Another handle has another doorbell, as another process has.
    let elsewhere = Outbox::new(outbox.pool().clone());
    let mut tx = elsewhere.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.commit().await.unwrap();
    within_a_minute(kafka.wait_for(1)).await;
    relay.abort().await;
}

/// As after a dump restored into a new cluster: whose transaction ids are lower, or happen to be
/// higher by now.
async fn another_cluster_stops_the_relay_with_the_way_out(disguise: &'static str) {
    let outbox = new_outbox().await;
    commit(&outbox, "a", 1).await;
    drained(&outbox).await;
    outbox.pool().execute(disguise).await.unwrap();
    commit(&outbox, "a", 2).await;
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let relay = new_relay(&outbox, MemoryPublisher::new());
    assert_eq!(run_error(relay).await.to_string(), error.to_string());
    let message = error.to_string();
    let remedy = message.split('`').nth(1).expect("the statements to run, in backquotes");
    let page = include_str!("../../docs/guide/operating.md");
    assert!(remedy.split("; ").all(|statement| page.contains(statement)), "{remedy}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(remedy)).execute(outbox.pool()).await.unwrap();
    assert_eq!(drained(&outbox).await, events([("a", 1), ("a", 2)]));
}

#[tokio::test]
async fn transaction_ids_that_started_over_stop_the_relay_with_the_way_out() {
    let disguise = "insert into outbox_progress (lane, prev) select lane, '900000000000:900000000000:' from outbox_lane";
    another_cluster_stops_the_relay_with_the_way_out(disguise).await;
}

#[tokio::test]
async fn progress_of_another_cluster_stops_the_relay_with_the_way_out() {
    another_cluster_stops_the_relay_with_the_way_out("update outbox_lane set sysid = sysid - 1")
        .await;
}

/// `pg_upgrade` keeps the ids, and makes a new cluster of them.
#[tokio::test]
async fn an_upgraded_cluster_goes_on_where_it_was() {
    let outbox = new_outbox().await;
    commit(&outbox, "a", 1).await;
    drained(&outbox).await;
    outbox.pool().execute("update outbox_lane set sysid = sysid - 1").await.unwrap();
    commit(&outbox, "a", 2).await;
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err().to_string();
    let remedy = error.split('"').nth(1).expect("the statement to run, in quotes").to_owned();
    outbox.pool().execute(sqlx::AssertSqlSafe(remedy)).await.unwrap();
    assert_eq!(drained(&outbox).await, events([("a", 2)]));
}

async fn settings_are_quoted_in(pool: PgPool) {
    let outbox = Outbox::builder(pool.clone())
        .schema("odd \"schema\"; drop table x")
        .table_prefix("it's ")
        .build()
        .unwrap();
    outbox.migrate().await.unwrap();
    commit(&outbox, "a", 1).await;
    // A second outbox in the same database, untouched by the first.
    let plain = migrated(Outbox::new(pool)).await;
    assert_eq!(drained(&plain).await, events([]));
    assert_eq!(drained(&outbox).await, events([("a", 1)]));
}

#[tokio::test]
async fn schema_and_prefix_are_quoted() {
    settings_are_quoted_in(support::postgres(POSTGRES, 4).await).await;
    settings_are_quoted_in(support::postgres(OTHER_POSTGRES, 4).await).await;
}

#[tokio::test]
async fn the_printed_migration_is_what_migrate_does() {
    let outbox =
        Outbox::builder(support::postgres(POSTGRES, 4).await).schema("own").build().unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(outbox.migration_sql()))
        .execute(outbox.pool())
        .await
        .unwrap();
    outbox.migrate().await.unwrap();
    commit(&outbox, "a", 1).await;
    assert_eq!(drained(&outbox).await, events([("a", 1)]));
}

#[tokio::test]
async fn missing_tables_are_named_with_the_command_that_creates_them() {
    let outbox = Outbox::new(support::postgres(POSTGRES, 4).await);
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated);
    assert!(error.to_string().contains("outbox.migrate()"), "{error}");
    let relay = new_relay(&outbox, MemoryPublisher::new());
    let error = run_error(relay).await;
    assert_eq!(error.kind(), ErrorKind::NotMigrated, "waiting would not help: {error}");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let outbox = new_outbox().await;
    outbox.pool().execute("insert into outbox_migration (version) values (99)").await.unwrap();
    let error = outbox.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated);
    assert!(error.to_string().contains("99"), "{error}");
}
