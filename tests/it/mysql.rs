//! MySQL and MariaDB: what commits late, or ends behind the back of the one who has it.

use std::collections::HashSet;

use outbox::{ErrorKind, Outbox};
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlPool, Row, Transaction};

use crate::support::relays::{self, RunningRelay, drain_to, new_relay};
use crate::support::wait::{eventually_some, given_up};
use crate::support::{self, OrderCreated, by_customer, commit, migrated, order, within_a_minute};
use outbox::testing::MemoryPublisher;

pub async fn new_outbox() -> Outbox<MySql> {
    migrated(Outbox::new(support::mysql(8).await)).await
}

/// A transaction whose event is inserted, and which has not committed.
pub async fn open_with_event(
    outbox: &Outbox<MySql>,
    customer: &str,
    n: i64,
) -> Transaction<'static, MySql> {
    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new(customer, n)).unwrap();
    tx.commit().await.unwrap();
    open
}

/// What a relay publishes now, as (customer, n).
async fn drained(outbox: &Outbox<MySql>) -> Vec<(String, i64)> {
    let published = relays::drained(outbox).await;
    published.iter().map(order).map(|order| (order.customer, order.n)).collect()
}

fn event(customer: &str, n: i64) -> Vec<(String, i64)> {
    vec![(customer.to_owned(), n)]
}

#[tokio::test]
async fn what_commits_after_higher_numbers_were_published_is_published() {
    let outbox = new_outbox().await;
    let late = open_with_event(&outbox, "late", 1).await;
    commit(&outbox, [OrderCreated::new("early", 1)]).await;
    assert_eq!(drained(&outbox).await, event("early", 1));
    late.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, event("late", 1));
    assert_eq!(drained(&outbox).await, []);
}

/// The relay that has read the higher numbers still holds the lane, and may have them in flight.
#[tokio::test]
async fn what_commits_late_is_found_by_the_relay_that_has_passed_it() {
    let outbox = new_outbox().await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    // One customer: one lane.
    let late = open_with_event(&outbox, "a", 1).await;
    for n in 2..=20 {
        commit(&outbox, [OrderCreated::new("a", n)]).await;
    }
    within_a_minute(kafka.wait_for(19)).await;
    late.commit().await.unwrap();
    outbox.ring();
    let published = within_a_minute(kafka.wait_for(20)).await;
    let expected: Vec<i64> = (2..=20).chain([1]).collect();
    assert_eq!(by_customer(&published)["a"], expected, "each once, the late one too");
    relay.stop().await;
    assert_eq!(drained(&outbox).await, []);
}

#[tokio::test]
async fn a_rolled_back_transaction_leaves_a_gap_that_holds_nobody_up() {
    let outbox = new_outbox().await;
    open_with_event(&outbox, "gone", 1).await.rollback().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(drained(&outbox).await, event("a", 1));
}

const TWO_ROWS: &str = "\
create table stock (id integer primary key, n integer not null) engine = InnoDB;
insert into stock (id, n) values (1, 0), (2, 0);
create table heavy (n integer not null) engine = InnoDB";

/// Another transaction that holds row 1, wants row 2, and has written so much that InnoDB gives up
/// whoever is in its way.
async fn rival(outbox: &Outbox<MySql>) -> Transaction<'static, MySql> {
    let mut rival = outbox.pool().begin().await.unwrap();
    let many = vec!["(1)"; 500].join(", ");
    let many = format!("insert into heavy (n) values {many}");
    rival.execute(AssertSqlSafe(many)).await.unwrap();
    rival.execute("update stock set n = 1 where id = 1").await.unwrap();
    rival
}

#[tokio::test]
async fn a_deadlock_that_is_swallowed_commits_no_half_of_a_transaction() {
    let outbox = new_outbox().await;
    outbox.pool().execute(TWO_ROWS).await.unwrap();
    let mut rival = rival(&outbox).await;
    let mut tx = outbox.begin().await.unwrap();
    sqlx::query("update stock set n = 7 where id = 2").execute(&mut tx).await.unwrap();
    let waits = tokio::spawn(async move {
        rival.execute("update stock set n = 1 where id = 2").await.unwrap();
        rival.rollback().await.unwrap();
    });
    let deadlock = sqlx::query("update stock set n = 7 where id = 1").execute(&mut tx).await;
    let deadlock = deadlock.unwrap_err();
    assert!(outbox::is_conflict(&deadlock), "{deadlock}");
    within_a_minute(waits).await.unwrap();

    // The error is swallowed. MySQL would take each of these as a transaction of its own.
    let next = sqlx::query("insert into stock (id, n) values (3, 7)").execute(&mut tx).await;
    assert!(next.unwrap_err().to_string().contains("deadlock"));
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    let left: Vec<(i32, i32)> = sqlx::query_as("select id, n from stock order by id")
        .fetch_all(outbox.pool())
        .await
        .unwrap();
    assert_eq!(left, [(1, 0), (2, 0)]);
    assert_eq!(drained(&outbox).await, []);
}

/// Statements on the connection itself are not seen.
#[tokio::test]
async fn a_deadlock_behind_the_back_of_the_transaction_commits_no_event() {
    let outbox = new_outbox().await;
    outbox.pool().execute(TWO_ROWS).await.unwrap();
    let mut rival = rival(&outbox).await;
    let mut tx = outbox.begin().await.unwrap();
    (*tx).execute("update stock set n = 7 where id = 2").await.unwrap();
    let waits = tokio::spawn(async move {
        rival.execute("update stock set n = 1 where id = 2").await.unwrap();
        rival.rollback().await.unwrap();
    });
    (*tx).execute("update stock set n = 7 where id = 1").await.unwrap_err();
    within_a_minute(waits).await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.commit().await.unwrap_err();
    assert_eq!(drained(&outbox).await, []);
}

#[tokio::test]
async fn a_ddl_statement_that_commits_the_transaction_commits_no_event() {
    let outbox = new_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    sqlx::query("create table committed (n integer)").execute(&mut tx).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("before its commit"), "{error}");
    assert_eq!(drained(&outbox).await, []);
}

/// sqlx 0.9.0 would take the rest of its answer for the next one.
#[tokio::test]
async fn after_a_statement_that_was_given_up_in_the_middle_a_transaction_takes_no_other() {
    let outbox = migrated(Outbox::new(support::mysql(1).await)).await;
    outbox.pool().execute("create table stock (id integer primary key)").await.unwrap();
    for in_a_savepoint in [false, true] {
        let mut tx = outbox.begin().await.unwrap();
        tx.execute("insert into stock values (1)").await.unwrap();
        tx.emit(OrderCreated::new("a", 1)).unwrap();
        if in_a_savepoint {
            let mut savepoint = tx.savepoint().await.unwrap();
            given_up(savepoint.execute("do sleep(1)"));
        } else {
            given_up(tx.fetch_optional("select sleep(1)"));
        }
        let error = tx.execute("insert into stock values (2)").await.unwrap_err();
        assert!(error.to_string().contains("given up in the middle"), "{error}");
        tx.commit().await.unwrap_err();
        let left: i64 = sqlx::query_scalar("select count(*) from stock")
            .fetch_one(outbox.pool())
            .await
            .unwrap();
        assert_eq!(left, 0);
    }
    assert_eq!(drained(&outbox).await, []);
}

/// What is left of an answer is read before the next statement.
#[tokio::test]
async fn rows_that_are_not_all_read_leave_a_transaction_as_it_is() {
    let outbox = new_outbox().await;
    outbox.pool().execute(TWO_ROWS).await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    let mut rows = tx.fetch("select id from stock");
    assert!(std::future::poll_fn(|cx| rows.as_mut().poll_next(cx)).await.unwrap().is_ok());
    drop(rows);
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.execute("update stock set n = 7").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(drained(&outbox).await, event("a", 1));
}

/// A transaction of sqlx that was over before it was joined, or before the joined one was committed.
#[tokio::test]
async fn a_joined_transaction_that_is_over_takes_no_event() {
    let outbox = new_outbox().await;
    let mut over = outbox.pool().begin().await.unwrap();
    over.execute("create table committed (n integer)").await.unwrap();
    outbox.attach(&mut over).await.unwrap_err();
    drop(over);

    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    sqlx::query("create table too (n integer)").execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap_err();
    drop(open);
    assert_eq!(drained(&outbox).await, []);
}

#[tokio::test]
async fn a_name_that_a_column_would_cut_off_is_refused() {
    let outbox = new_outbox().await;
    let mut record = outbox::event::EventRecord::from_event(&OrderCreated::new("a", 1)).unwrap();
    record.name = "n".repeat(256).into();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_record(record).unwrap();
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
}

/// In the text of one statement, bound to one, and in several.
#[tokio::test]
async fn events_of_every_size_arrive_as_they_were_emitted_and_in_order() {
    let outbox = new_outbox().await;
    let sizes = [0, 1, 1_000, 60_000, 300_000, 450_000];
    for size in sizes {
        let tenant = Some("x".repeat(size));
        let of_size = |n| OrderCreated { customer: format!("c{size}"), tenant: tenant.clone(), n };
        commit(&outbox, (0..10).map(of_size)).await;
    }
    let published = relays::drained(&outbox).await;
    let by_customer = by_customer(&published);
    for size in sizes {
        assert_eq!(by_customer[&format!("c{size}")], (0..10).collect::<Vec<_>>());
    }
    assert!(published.iter().all(|record| {
        let order = order(record);
        format!("c{}", order.tenant.unwrap().len()) == order.customer
    }));
}

/// As processes leave the tables that are killed while they migrate: DDL commits at once.
#[tokio::test]
async fn several_migrate_at_once_whatever_one_left_half_done_that_was_killed() {
    let script = Outbox::<MySql>::new(support::mysql(1).await).migration_sql();
    let statements: Vec<&str> =
        script.split(";\n").filter(|text| !text.trim().is_empty()).collect();
    for done in [0, 1, 4, statements.len() - 1] {
        let pool = support::mysql(8).await;
        for statement in &statements[..done] {
            pool.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
        }
        let migrate = |pool: MySqlPool| async move { Outbox::<MySql>::new(pool).migrate().await };
        let all: Vec<_> = (0..4).map(|_| tokio::spawn(migrate(pool.clone()))).collect();
        for one in all {
            within_a_minute(one).await.unwrap().unwrap();
        }
        let outbox: Outbox<MySql> = Outbox::new(pool);
        commit(&outbox, [OrderCreated::new("a", 1)]).await;
        assert_eq!(drained(&outbox).await, event("a", 1), "{done} statements were done");
        let slots = "select count(*) from outbox_slot";
        let slots: i64 = sqlx::query_scalar(slots).fetch_one(outbox.pool()).await.unwrap();
        assert_eq!(slots, 1_280, "{done} statements were done");
    }
}

/// `mysqldump --single-transaction` reads as of its begin until it ends.
#[tokio::test]
async fn a_backup_sees_what_was_there_and_holds_up_no_event() {
    let outbox = new_outbox().await;
    let begin = "start transaction with consistent snapshot, read only";
    let mut backup = outbox.pool().begin_with(begin).await.unwrap();
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    const EVENTS: i64 = 20_000;
    for n in (0..EVENTS).step_by(500) {
        commit(&outbox, (n..n + 500).map(|n| OrderCreated::new(format!("c{}", n % 50), n))).await;
    }
    within_a_minute(kafka.wait_for(EVENTS as usize)).await;
    relay.stop().await;
    for (customer, numbers) in by_customer(&kafka.published()) {
        assert!(numbers.is_sorted(), "{customer}");
    }
    assert_eq!(drained(&outbox).await, []);
    let there = "select count(*) from outbox_event";
    let there: i64 = sqlx::query_scalar(there).fetch_one(&mut *backup).await.unwrap();
    assert_eq!(there, 0, "as of its begin");
    backup.rollback().await.unwrap();
}

/// The session that deletes, in the middle of it: some row is locked.
async fn deleting(outbox: &Outbox<MySql>) -> String {
    let query = "select cast(id as char) from information_schema.processlist
                 where db = database() and info like 'delete e from json_table%'";
    let ask = async || sqlx::query_scalar(query).fetch_optional(outbox.pool()).await.unwrap();
    eventually_some("a relay waits for the row that it deletes", ask).await
}

#[tokio::test]
async fn what_a_broken_connection_leaves_undeleted_is_deleted_later_and_nothing_is_lost() {
    const EVENTS: i64 = 5_000;
    let outbox = new_outbox().await;
    for n in (0..EVENTS).step_by(500) {
        commit(&outbox, (n..n + 500).map(|n| OrderCreated::new(format!("c{}", n % 50), n))).await;
    }
    let mut locks = outbox.pool().begin().await.unwrap();
    let locked = locks.fetch_one("select max(seq) as seq from outbox_event").await.unwrap();
    let locked: i64 = locked.get("seq");
    sqlx::query("select 1 from outbox_event where seq = ? for update")
        .bind(locked)
        .execute(&mut *locks)
        .await
        .unwrap();
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    let session = deleting(&outbox).await;
    outbox.pool().execute(AssertSqlSafe(format!("kill {session}"))).await.unwrap();
    locks.rollback().await.unwrap();
    within_a_minute(kafka.wait_for(EVENTS as usize)).await;
    relay.stop().await;
    // What is left was published, and is published again.
    drain_to(&outbox, kafka.clone()).await;
    let mut published = kafka.published();
    for (customer, mut numbers) in by_customer(&published) {
        let mut seen = HashSet::new();
        numbers.retain(|n| seen.insert(*n));
        assert!(numbers.is_sorted(), "{customer}: {numbers:?}");
    }
    published.sort_by_key(|record| record.id);
    published.dedup_by_key(|record| record.id);
    assert_eq!(published.len(), EVENTS as usize);
    assert_eq!(drained(&outbox).await, []);
}
