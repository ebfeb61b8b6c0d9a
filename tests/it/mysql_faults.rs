//! Servers of MySQL that crash, or have other settings than ours: each test has one of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::consume::{EventContext, handler_fn};
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{ErrorKind, Outbox, OutboxTx};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{Executor as _, MySql, MySqlPool};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use xtask::ScratchDir;
use xtask::servers::{self, MySqlOptions};

use crate::support::relays::{RunningRelay, new_relay, run_error};
use crate::support::{OrderCreated, commit, eventually, migrated, within_a_minute};

/// A server that only this test uses.
struct Server {
    database: servers::MySql,
    _scratch: ScratchDir,
}

impl Server {
    fn start(settings: &[&str]) -> Self {
        let scratch = ScratchDir::new("mysql-faults").unwrap();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let options = MySqlOptions { fsync: true, settings, ..MySqlOptions::default() };
        let database = servers::MySql::start(scratch.path(), options).unwrap();
        Self { database, _scratch: scratch }
    }

    async fn pool(&self) -> MySqlPool {
        MySqlPoolOptions::new().max_connections(4).connect(self.database.url()).await.unwrap()
    }

    fn set(&self, setting: &str) {
        self.database.query(&format!("set global {setting}")).unwrap();
    }

    fn count(&self, table: &str) -> u64 {
        self.database.query(&format!("select count(*) from {table}")).unwrap().parse().unwrap()
    }

    /// What is committed from now on is visible, and a crash takes it back: as all is for a moment
    /// that is committed while the disk is busy.
    fn keep_commits_from_disk(&self) {
        self.set("innodb_flush_log_at_trx_commit = 0");
    }

    fn write_commits_to_disk(&self) {
        self.set("innodb_flush_log_at_trx_commit = 1");
    }

    fn crash(&mut self) {
        self.database.kill();
        self.database.restart().unwrap();
    }
}

/// No log is written in the background while a test runs.
const NO_FLUSH_IN_BACKGROUND: &str = "innodb_flush_log_at_timeout=2700";

/// Has the server crash when the second event is sent.
struct Crashing {
    server: Arc<Mutex<Server>>,
    /// Number of events that were sent before.
    sent: AtomicUsize,
    /// How many events are in the outbox: when one was sent, and after the crash.
    left: mpsc::UnboundedSender<u64>,
}

impl Publisher for Crashing {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        block_in_place(|| {
            let mut server = self.server.lock().unwrap();
            if self.sent.fetch_add(batch.events.len(), Ordering::SeqCst) == 1 {
                server.crash();
            }
            // The test may have ended.
            let _ = self.left.send(server.count("outbox_event"));
        });
        batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_crash_could_take_back_is_not_published() {
    let server = Server::start(&[NO_FLUSH_IN_BACKGROUND]);
    let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
    let server = Arc::new(Mutex::new(server));
    let (left, mut reports) = mpsc::unbounded_channel();
    let publisher = Crashing { server: Arc::clone(&server), sent: AtomicUsize::new(0), left };
    // Its signs of life, which are commits, come later than the test ends.
    let relay = new_relay(&outbox, publisher).lease(Duration::from_secs(600));
    let relay = RunningRelay::start(relay);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(within_a_minute(reports.recv()).await, Some(1), "it has its lanes");
    eventually("it is deleted", async || outbox.status().await.unwrap().backlog == 0).await;

    // To wait for the disk, the relay writes to one of these rows: it cannot until they are free.
    let mut held = outbox.pool().begin().await.unwrap();
    held.execute("select slot from outbox_slot for update").await.unwrap();
    server.lock().unwrap().keep_commits_from_disk();
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    server.lock().unwrap().write_commits_to_disk();
    held.rollback().await.unwrap();
    let left = within_a_minute(reports.recv()).await;
    assert_eq!(left, Some(1), "what was sent is in the database after the crash");
    within_a_minute(relay.stop()).await;
}

async fn handle(
    tx: &mut OutboxTx<'_, MySql>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    tx.execute("insert into handled values (1)").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_not_skipped_that_a_crash_could_make_unhandled_again() {
    let mut server = Server::start(&[NO_FLUSH_IN_BACKGROUND]);
    let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
    outbox.pool().execute("create table handled (n integer)").await.unwrap();
    let handler = HandlerTest::new(outbox, handler_fn(handle)).unwrap();
    let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
    server.keep_commits_from_disk();
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
    server.write_commits_to_disk();
    // By another member, to which the partition went.
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Duplicate);
    server.crash();
    assert_eq!((server.count("outbox_inbox"), server.count("handled")), (1, 1));
}

#[tokio::test]
async fn a_binary_log_of_statements_is_refused_before_anything_is_created_or_read() {
    let server = Server::start(&["log_bin=log", "binlog_format=STATEMENT"]);
    let outbox: Outbox<MySql> = Outbox::new(server.pool().await);
    let refused = outbox.migrate().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("set binlog_format = ROW"), "{refused}");
    let ours = "information_schema.tables where table_name like 'outbox%'";
    assert_eq!(server.count(ours), 0, "nothing was created");

    server.set("binlog_format = ROW");
    let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    server.set("binlog_format = STATEMENT");
    let kafka = MemoryPublisher::new();
    let refused = run_error(new_relay(&outbox, kafka.clone())).await;
    assert!(refused.to_string().contains("set binlog_format = ROW"), "{refused}");
    assert_eq!((kafka.published().len(), server.count("outbox_event")), (0, 1));
}

#[tokio::test]
async fn a_relay_on_a_replica_waits_until_it_is_the_primary() {
    let server = Server::start(&[]);
    let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    server.set("read_only = 1");
    let other = Outbox::<MySql>::builder(server.pool().await).table_prefix("other_").build();
    let refused = other.unwrap().migrate().await.unwrap_err();
    assert!(refused.to_string().contains("takes no writes"), "{refused}");
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    server.set("read_only = 0");
    within_a_minute(kafka.wait_for(1)).await;
    within_a_minute(relay.stop()).await;
}

/// Each event has this many bytes, half in its key and half in its payload.
fn orders(number: i64, bytes: usize) -> Vec<OrderCreated> {
    (0..number).map(|n| OrderCreated::new("x".repeat(bytes / 2), n)).collect()
}

#[tokio::test]
async fn events_that_a_server_accepts_one_by_one_are_accepted_together_and_a_larger_one_is_an_error()
 {
    let server = Server::start(&["max_allowed_packet=1M"]);
    let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
    commit(&outbox, orders(8, 300_000)).await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    within_a_minute(kafka.wait_for(8)).await;
    within_a_minute(relay.stop()).await;

    let outbox = Outbox::<MySql>::builder(server.pool().await).max_event_bytes(2 << 20);
    let mut tx = outbox.build().unwrap().begin().await.unwrap();
    tx.execute("insert into outbox_pause values ('topic', 't', '', '', 0)").await.unwrap();
    tx.emit(orders(1, 1_060_000).remove(0)).unwrap();
    let refused = tx.commit().await.unwrap_err();
    assert!(refused.to_string().contains("max_allowed_packet"), "{refused}");
    let left = (server.count("outbox_event"), server.count("outbox_pause"));
    assert_eq!(left, (0, 0), "the transaction is rolled back");
}

/// By default, a lock that is not granted in time undoes only its statement.
#[tokio::test]
async fn a_lock_that_is_waited_for_in_vain_commits_nothing_where_that_ends_the_transaction() {
    for (setting, ends_it) in [("ON", true), ("OFF", false)] {
        let setting = format!("innodb_rollback_on_timeout={setting}");
        let server = Server::start(&[&setting, "innodb_lock_wait_timeout=1"]);
        let outbox: Outbox<MySql> = migrated(Outbox::new(server.pool().await)).await;
        for statement in [
            "create table stock (id integer primary key)",
            "create table moved (id integer primary key)",
            "insert into stock values (1)",
        ] {
            outbox.pool().execute(statement).await.unwrap();
        }
        let mut rival = outbox.pool().begin().await.unwrap();
        rival.execute("delete from stock").await.unwrap();
        let mut tx = outbox.begin().await.unwrap();
        let refused = tx.execute("delete from stock").await.unwrap_err();
        assert!(outbox::is_conflict(&refused), "{refused}");
        // The error is swallowed.
        tx.emit(OrderCreated::new("a", 1)).unwrap();
        let next = tx.execute("insert into moved values (1)").await;
        assert_eq!(next.is_err(), ends_it, "{setting}: {next:?}");
        let savepoint = tx.savepoint().await.map(drop);
        assert_eq!(savepoint.is_err(), ends_it, "{setting}: {savepoint:?}");
        let committed = tx.commit().await;
        assert_eq!(committed.is_err(), ends_it, "{setting}: {committed:?}");
        rival.rollback().await.unwrap();
        let left = (server.count("outbox_event"), server.count("moved"));
        assert_eq!(left, if ends_it { (0, 0) } else { (1, 1) }, "{setting}");
    }
}
