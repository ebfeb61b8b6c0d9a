//! A database and topics of its own, and relays that deliver its events exactly once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, ExactlyOnce, Outbox, OutboxError};
use serde::Serialize;
use sqlx::{Executor, Pool, Postgres, Sqlite, SqlitePool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::doomed::Doomed;
use crate::support::log::Log;
use crate::support::oracle::{Expected, assert_exactly_once};
use crate::support::relays::{DeliversOnce, RunningRelay, kafka_publisher_of, quick};
use crate::support::topics::{create_topic_of, read_committed};
use crate::support::{self, POSTGRES, eventually, kafka, migrated, server};

/// It takes messages of 4,000 bytes at most.
#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
pub struct Ordered {
    #[event(key)]
    pub customer: String,
    pub n: i64,
    pub ballast: String,
}

/// In the process of a relay that is to die: the URL of its database, and the prefix of its topics.
const DOOMED: &str = "OUTBOX_TEST_DOOMED";
const PREFIX: &str = "OUTBOX_TEST_PREFIX";

pub const CUSTOMERS: i64 = 20;

pub trait Stored: DeliversOnce {
    /// A new database: its pool, its URL, and the guard that keeps it.
    async fn create() -> (Pool<Self>, String, Option<TempDir>);
    async fn open(url: &str) -> Pool<Self>;
    /// Whether somebody may write: a process that is suspended may keep all others from it.
    async fn is_writable(pool: &Pool<Self>) -> bool;
    async fn forget_witnesses(pool: &Pool<Self>);
    /// The ids of the events that it has.
    async fn ids(pool: &Pool<Self>) -> BTreeSet<Uuid>;
}

impl Stored for Postgres {
    async fn create() -> (Pool<Self>, String, Option<TempDir>) {
        let pool = support::postgres(POSTGRES, 4).await;
        let name: String =
            sqlx::query_scalar("select current_database()::text").fetch_one(&pool).await.unwrap();
        let url = server(POSTGRES);
        let (base, _) = url.rsplit_once('/').unwrap();
        (pool, format!("{base}/{name}"), None)
    }

    async fn open(url: &str) -> Pool<Self> {
        Pool::connect(url).await.unwrap()
    }

    async fn is_writable(_: &Pool<Self>) -> bool {
        true
    }

    async fn forget_witnesses(pool: &Pool<Self>) {
        pool.execute("delete from outbox_witness").await.unwrap();
    }

    async fn ids(pool: &Pool<Self>) -> BTreeSet<Uuid> {
        let ids = sqlx::query_scalar("select id from outbox_event").fetch_all(pool).await;
        ids.unwrap().into_iter().collect()
    }
}

impl Stored for Sqlite {
    async fn create() -> (Pool<Self>, String, Option<TempDir>) {
        let (pool, directory) = support::sqlite(4).await;
        let url = format!("sqlite://{}", directory.path().join("orders.db").display());
        (pool, url, Some(directory))
    }

    async fn open(url: &str) -> Pool<Self> {
        SqlitePool::connect(url).await.unwrap()
    }

    async fn is_writable(pool: &Pool<Self>) -> bool {
        let mut connection = pool.acquire().await.unwrap();
        connection.execute("pragma busy_timeout = 0").await.unwrap();
        let is = connection.execute("begin immediate").await.is_ok();
        if is {
            connection.execute("rollback").await.unwrap();
        }
        connection.execute("pragma busy_timeout = 20000").await.unwrap();
        is
    }

    async fn forget_witnesses(pool: &Pool<Self>) {
        pool.execute("delete from outbox_witness").await.unwrap();
    }

    async fn ids(pool: &Pool<Self>) -> BTreeSet<Uuid> {
        let ids = sqlx::query_scalar("select id from outbox_event").fetch_all(pool).await;
        ids.unwrap().into_iter().collect()
    }
}

pub struct Scene<DB: Stored> {
    /// Of the test, as the test program knows it.
    pub name: &'static str,
    pub outbox: Outbox<DB>,
    pub url: String,
    pub prefix: String,
    pub topic: &'static str,
    pub brokers: String,
    /// Where the relay connects.
    pub relay_brokers: String,
    /// Number of the last event of each customer.
    pub last: AtomicU64,
    pub directory: Option<TempDir>,
}

pub fn publisher(brokers: &str, prefix: &str) -> KafkaPublisher {
    kafka_publisher_of(brokers).with_topic_prefix(prefix).unwrap()
}

impl<DB: Stored> Scene<DB> {
    pub async fn new(name: &'static str) -> Self {
        if let Ok(url) = std::env::var(DOOMED) {
            // We are the relay that is to die: see `doomed`.
            Log::of_this_program();
            let outbox = Outbox::new(DB::open(&url).await);
            let relay = quick(&outbox, publisher(&kafka(), &std::env::var(PREFIX).unwrap()));
            DB::run_once(relay, ExactlyOnce::new(), std::future::pending()).await.unwrap();
        }
        Log::of_this_program();
        let (pool, url, directory) = DB::create().await;
        Self { name, url, directory, ..Self::on(pool, kafka()).await }
    }

    /// On servers of its own.
    pub async fn on(pool: Pool<DB>, brokers: String) -> Self {
        Log::of_this_program();
        let prefix = format!("once-{}-", Uuid::now_v7().simple());
        let topic: &'static str = format!("{prefix}orders").leak();
        create_topic_of(&brokers, topic, 3, &[("max.message.bytes", "4000")]).await;
        let relay_brokers = brokers.clone();
        Self {
            name: "",
            outbox: migrated(Outbox::new(pool)).await,
            url: String::new(),
            prefix,
            topic,
            brokers,
            relay_brokers,
            last: AtomicU64::new(0),
            directory: None,
        }
    }

    /// Another event of each customer, several times.
    pub async fn commit(&self, times: u64) {
        for _ in 0..times {
            self.try_to_commit().await.unwrap();
        }
    }

    pub async fn try_to_commit(&self) -> Result<(), OutboxError> {
        let n = self.last.load(Ordering::SeqCst) as i64 + 1;
        let mut tx = self.outbox.begin().await?;
        for customer in 0..CUSTOMERS {
            let customer = customer.to_string();
            tx.emit(Ordered { customer, n, ballast: String::new() })?;
        }
        tx.commit().await?;
        self.last.store(n as u64, Ordering::SeqCst);
        Ok(())
    }

    /// The ids of the events that the database has.
    pub async fn stored_ids(&self) -> BTreeSet<Uuid> {
        DB::ids(self.outbox.pool()).await
    }

    /// Of a customer of its own, the third of five events is too large for the topic:
    /// incompressible, or it would not be.
    pub async fn commit_a_poison_event(&self) {
        let noise: String = (0..400).map(|_| Uuid::now_v7().simple().to_string()).collect();
        for n in 1..=5 {
            let ballast = if n == 3 { noise.clone() } else { String::new() };
            let mut tx = self.outbox.begin().await.unwrap();
            tx.emit(Ordered { customer: "poison".to_owned(), n, ballast }).unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// A relay as a process, which dies at the failpoint if there is one.
    pub fn doomed(&self, failpoint: &str) -> Doomed {
        let environment =
            [(DOOMED, &*self.url), (PREFIX, &*self.prefix), ("OUTBOX_FAILPOINT", failpoint)];
        Doomed::start(self.name, &environment)
    }

    pub fn relay(&self) -> RunningRelay {
        let relay = quick(&self.outbox, publisher(&self.relay_brokers, &self.prefix));
        RunningRelay::spawn(|stopped| {
            DB::run_once(relay, ExactlyOnce::new(), async { _ = stopped.await })
        })
    }

    pub async fn until_published(&self) {
        eventually("all is published but what is parked", async || {
            self.outbox.status().await.unwrap().backlog == 0
        })
        .await;
    }

    pub fn expected(&self) -> Expected {
        let last = self.last.load(Ordering::SeqCst) as i64;
        (0..CUSTOMERS).map(|customer| (customer.to_string(), last)).collect()
    }

    pub async fn each_arrived_once(&self, expected: &Expected) {
        assert_exactly_once(&read_committed(&self.brokers, &[self.topic]).await, expected);
    }

    /// The relays that hold lanes, one for each lane that is held.
    pub async fn owners(&self) -> Vec<Uuid> {
        let lanes = self.outbox.status().await.unwrap().lanes;
        lanes.iter().filter_map(|lane| lane.owner).collect()
    }
}
