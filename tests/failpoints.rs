//! A relay that dies at each boundary at which a crash is most dangerous
//! (`outbox-runtime/src/failpoint.rs`): as a process, on each store and a real Kafka. Its successor
//! publishes what is left; nothing is lost, and the order of each key stands.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxDatabase, RelayBuilder};
use rdkafka::Message;
use serde::Serialize;
use sqlx::postgres::PgPool;
use sqlx::{MySql, MySqlPool, Pool, Postgres, Sqlite, SqlitePool};
use support::doomed::Doomed;
use support::relays::{RunningRelay, kafka_publisher, new_relay};
use support::topics::read_topic;
use support::{MYSQL, POSTGRES, eventually, migrated, next_leaf, server};
use uuid::Uuid;

/// It takes messages of 4,000 bytes at most.
const TOPIC: &str = "failpoints";

#[derive(Serialize, DomainEvent)]
#[event(topic = "failpoints")]
struct Ordered {
    #[event(key)]
    customer: String,
    n: i64,
    ballast: String,
}

/// In the process of a relay that is to die: the URL of its database.
const DOOMED: &str = "OUTBOX_TEST_DOOMED";

trait Stored: OutboxDatabase {
    /// A new database: its pool, its URL, and the guard that keeps it.
    async fn create() -> (Pool<Self>, String, Option<tempfile::TempDir>);
    async fn open(url: &str) -> Pool<Self>;
    /// The relay that is to die at a failpoint.
    fn doomed(
        relay: RelayBuilder<Self, KafkaPublisher>,
        _failpoint: &str,
    ) -> RelayBuilder<Self, KafkaPublisher> {
        relay
    }
    /// Separates published events from later ones, on stores that reclaim space in large pieces.
    async fn next_piece(_: &Outbox<Self>) {}
}

impl Stored for Postgres {
    async fn create() -> (Pool<Self>, String, Option<tempfile::TempDir>) {
        let pool = support::postgres(POSTGRES, 4).await;
        let name: String =
            sqlx::query_scalar("select current_database()::text").fetch_one(&pool).await.unwrap();
        let url = server(POSTGRES);
        let (base, _) = url.rsplit_once('/').unwrap();
        (pool, format!("{base}/{name}"), None)
    }

    async fn open(url: &str) -> Pool<Self> {
        PgPool::connect(url).await.unwrap()
    }

    async fn next_piece(outbox: &Outbox<Self>) {
        next_leaf(outbox).await;
    }
}

impl Stored for MySql {
    async fn create() -> (Pool<Self>, String, Option<tempfile::TempDir>) {
        let pool = support::mysql(4).await;
        let name: String = sqlx::query_scalar("select database()").fetch_one(&pool).await.unwrap();
        let url = server(MYSQL);
        let (base, _) = url.rsplit_once('/').unwrap();
        (pool, format!("{base}/{name}"), None)
    }

    async fn open(url: &str) -> Pool<Self> {
        MySqlPool::connect(url).await.unwrap()
    }

    /// Only copies of what is published are ever reclaimed.
    fn doomed(
        relay: RelayBuilder<Self, KafkaPublisher>,
        failpoint: &str,
    ) -> RelayBuilder<Self, KafkaPublisher> {
        match failpoint {
            "after-reclaim" | "after-retaining" => relay.retention(Duration::from_millis(1)),
            _ => relay,
        }
    }
}

impl Stored for Sqlite {
    async fn create() -> (Pool<Self>, String, Option<tempfile::TempDir>) {
        let (pool, directory) = support::sqlite(4).await;
        let url = format!("sqlite://{}", directory.path().join("orders.db").display());
        (pool, url, Some(directory))
    }

    async fn open(url: &str) -> Pool<Self> {
        SqlitePool::connect(url).await.unwrap()
    }
}

/// What each test has: a database, and customers of its own on the one topic.
struct Scene<DB: OutboxDatabase> {
    /// Of the test, as the test program knows it.
    name: &'static str,
    failpoint: &'static str,
    outbox: Outbox<DB>,
    url: String,
    _directory: Option<tempfile::TempDir>,
}

impl<DB: Stored> Scene<DB> {
    async fn new(name: &'static str, failpoint: &'static str) -> Self {
        if let Ok(url) = std::env::var(DOOMED) {
            // We are the relay that is to die: see `start_doomed`.
            let relay = new_relay(&Outbox::new(DB::open(&url).await), kafka_publisher());
            let relay = DB::doomed(relay, failpoint).build().unwrap();
            relay.run(std::future::pending()).await.unwrap();
        }
        static TOPIC_EXISTS: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let create = || support::topics::create_topic(TOPIC, 3, &[("max.message.bytes", "4000")]);
        TOPIC_EXISTS.get_or_init(create).await;
        let (pool, url, directory) = DB::create().await;
        Self {
            name,
            failpoint,
            outbox: migrated(Outbox::new(pool)).await,
            url,
            _directory: directory,
        }
    }

    fn customer(&self, n: i64) -> String {
        format!("{}-{n}", self.name)
    }

    async fn commit(&self, customers: i64, numbers: std::ops::RangeInclusive<i64>) {
        for n in numbers {
            let mut tx = self.outbox.begin().await.unwrap();
            for customer in 0..customers {
                tx.emit(Ordered { customer: self.customer(customer), n, ballast: String::new() })
                    .unwrap();
            }
            tx.commit().await.unwrap();
        }
    }

    /// Events 1 to 5 of one customer, the third of which is too large for the topic:
    /// incompressible, or it would not be.
    async fn commit_a_poison_event(&self) {
        let noise: String = (0..400).map(|_| Uuid::now_v7().simple().to_string()).collect();
        for n in 1..=5 {
            let ballast = if n == 3 { noise.clone() } else { String::new() };
            let mut tx = self.outbox.begin().await.unwrap();
            tx.emit(Ordered { customer: self.customer(99), n, ballast }).unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// A relay as a process, which dies at the failpoint: this test again, that finds its database
    /// in the environment.
    fn start_doomed(&self) -> Doomed {
        let environment = [(DOOMED, &*self.url), ("OUTBOX_FAILPOINT", self.failpoint)];
        Doomed::start(self.name, &environment)
    }

    fn relay(&self) -> RelayBuilder<DB, KafkaPublisher> {
        new_relay(&self.outbox, kafka_publisher())
    }

    /// A relay that lives, until all is published but what is parked.
    async fn recover(&self, parked: u64) {
        let relay = RunningRelay::start(self.relay());
        eventually("all is published but what is parked", async || {
            let status = self.outbox.status().await.unwrap();
            status.backlog == 0 && status.parked == parked
        })
        .await;
        relay.stop().await;
    }

    /// The first arrival of each event of our customers, by an independent reading of the topic.
    async fn arrived(&self) -> BTreeMap<String, Vec<i64>> {
        let prefix = format!("{}-", self.name);
        let mut arrived = BTreeMap::<String, Vec<i64>>::new();
        let mut seen = BTreeSet::new();
        for message in read_topic(TOPIC).await {
            let payload: serde_json::Value =
                serde_json::from_slice(message.payload().unwrap()).unwrap();
            let customer = payload["customer"].as_str().unwrap();
            let n = payload["n"].as_i64().unwrap();
            if customer.starts_with(&prefix) && seen.insert((customer.to_owned(), n)) {
                arrived.entry(customer.to_owned()).or_default().push(n);
            }
        }
        arrived
    }

    async fn all_arrived(&self, customers: i64, last: i64) {
        let expected: BTreeMap<String, Vec<i64>> = (0..customers)
            .map(|customer| (self.customer(customer), (1..=last).collect()))
            .collect();
        let mut arrived = self.arrived().await;
        arrived.remove(&self.customer(99));
        assert_eq!(arrived, expected, "all events, in the order of their keys");
    }
}

async fn dies_while_it_publishes<DB: Stored>(scene: Scene<DB>) {
    scene.commit(20, 1..=10).await;
    scene.start_doomed().dies().await;
    scene.commit(20, 11..=15).await;
    scene.recover(0).await;
    scene.all_arrived(20, 15).await;
}

async fn dies_after_it_gave_lanes_away<DB: Stored>(scene: Scene<DB>) {
    scene.commit(20, 1..=10).await;
    let doomed = scene.start_doomed();
    eventually("it has all lanes", async || {
        scene.outbox.status().await.unwrap().lanes.iter().all(|lane| lane.owner.is_some())
    })
    .await;
    // A second one joins, and the first gives it half of its lanes.
    let second = RunningRelay::start(scene.relay());
    doomed.dies().await;
    scene.commit(20, 11..=15).await;
    second.stop().await;
    scene.recover(0).await;
    scene.all_arrived(20, 15).await;
}

async fn dies_while_it_parks<DB: Stored>(scene: Scene<DB>) {
    scene.commit(5, 1..=3).await;
    scene.commit_a_poison_event().await;
    scene.start_doomed().dies().await;
    scene.recover(3).await;
    scene.all_arrived(5, 3).await;
    assert_eq!(scene.arrived().await[&scene.customer(99)], [1, 2]);
    let mut parked: Vec<i64> =
        scene.outbox.parked(10).await.unwrap().iter().map(|parked| parked.seq).collect();
    parked.dedup();
    assert_eq!(parked.len(), 3, "each of them once");
}

async fn dies_after_it_delivered_a_parked_event<DB: Stored>(scene: Scene<DB>) {
    scene.commit_a_poison_event().await;
    scene.recover(3).await;
    let head = scene
        .outbox
        .parked(10)
        .await
        .unwrap()
        .into_iter()
        .find(|parked| parked.reason.is_some())
        .unwrap();
    assert!(scene.outbox.discard_parked(head.event.id).await.unwrap());
    assert_eq!(scene.outbox.release_all_parked().await.unwrap(), 2);
    scene.start_doomed().dies().await;
    scene.recover(0).await;
    assert_eq!(scene.arrived().await[&scene.customer(99)], [1, 2, 4, 5]);
}

async fn dies_while_it_reclaims<DB: Stored>(scene: Scene<DB>) {
    scene.commit(5, 1..=3).await;
    DB::next_piece(&scene.outbox).await;
    scene.commit(5, 4..=6).await;
    scene.start_doomed().dies().await;
    scene.commit(5, 7..=8).await;
    scene.recover(0).await;
    scene.all_arrived(5, 8).await;
}

/// The table of signs of life is larger than what is left as it is.
async fn dies_while_it_compacts(scene: Scene<sqlx::Postgres>) {
    scene.commit(5, 1..=3).await;
    sqlx::query(
        "insert into outbox_heartbeat (owner, alive_until, lease_millis)
         select gen_random_uuid(), now(), 1 from generate_series(1, 300000)",
    )
    .execute(scene.outbox.pool())
    .await
    .unwrap();
    scene.start_doomed().dies().await;
    scene.commit(5, 4..=5).await;
    scene.recover(0).await;
    scene.all_arrived(5, 5).await;
}

macro_rules! tests {
    ($store:ident, $database:ty: $($promise:ident = $act:ident at $failpoint:literal;)*) => {
        mod $store {
            $(#[tokio::test]
            async fn $promise() {
                let name = concat!(stringify!($store), "::", stringify!($promise));
                super::$act(super::Scene::<$database>::new(name, $failpoint).await).await;
            })*
        }
    };
}

macro_rules! tests_on_every_store {
    ($($test:tt)*) => {
        tests!(postgres, sqlx::Postgres: $($test)*);
        tests!(sqlite, sqlx::Sqlite: $($test)*);
        tests!(mysql, sqlx::MySql: $($test)*);
    };
}

tests_on_every_store! {
    a_relay_that_dies_after_it_took_its_lanes_loses_nothing = dies_while_it_publishes at "after-taking-lanes";
    a_relay_that_dies_after_it_read_loses_nothing = dies_while_it_publishes at "after-read";
    a_relay_that_dies_between_delivery_and_cursor_loses_nothing = dies_while_it_publishes at "after-delivery";
    a_relay_that_dies_after_it_saved_its_cursor_loses_nothing = dies_while_it_publishes at "after-save";
    a_relay_that_dies_after_it_gave_lanes_away_loses_nothing =
        dies_after_it_gave_lanes_away at "after-giving-lanes";
    a_relay_that_dies_before_it_parks_an_event_loses_nothing = dies_while_it_parks at "before-parking";
    a_relay_that_dies_before_the_parking_is_committed_loses_nothing = dies_while_it_parks at "after-parking";
    a_relay_that_dies_after_it_delivered_a_parked_event_loses_nothing =
        dies_after_it_delivered_a_parked_event at "after-parked-delivery";
    a_relay_that_dies_after_it_reclaimed_space_loses_nothing = dies_while_it_reclaims at "after-reclaim";
}

tests!(postgres_only, sqlx::Postgres:
    a_relay_that_dies_while_it_truncates_a_leaf_loses_nothing = dies_while_it_reclaims at "in-reclaim";
    a_relay_that_dies_while_it_truncates_its_signs_of_life_loses_nothing =
        dies_while_it_compacts at "while-compacting";
);

tests!(mysql_only, sqlx::MySql:
    a_relay_that_dies_between_the_copy_of_what_is_delivered_and_its_deletion_loses_nothing =
        dies_while_it_publishes at "after-retaining";
);
