//! Delivery exactly once, on a real Postgres and a real Kafka: whatever dies, and whichever answer
//! is lost, a reader of committed records gets each event once, and those of a key in order.

#[path = "exactly_once/faults.rs"]
mod faults;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, ExactlyOnce, ExactlyOnceRelay, Outbox, OutboxError, RelayBuilder};
use serde::Serialize;
use sqlx::postgres::PgPool;
use sqlx::{Executor, Postgres};
use support::doomed::Doomed;
use support::log::Log;
use support::oracle::{Expected, assert_at_least_once, assert_exactly_once};
use support::relays::{RunningRelay, kafka_publisher_of, new_relay, quick, until_parked_count};
use support::topics::{create_topic_of, raise_limit, read_committed};
use support::{POSTGRES, eventually, eventually_some, kafka, migrated, server, until_true};
use uuid::Uuid;

/// It takes messages of 4,000 bytes at most.
#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Ordered {
    #[event(key)]
    customer: String,
    n: i64,
    ballast: String,
}

/// In the process of a relay that is to die: the URL of its database, and the prefix of its topics.
const DOOMED: &str = "OUTBOX_TEST_DOOMED";
const PREFIX: &str = "OUTBOX_TEST_PREFIX";

const CUSTOMERS: i64 = 20;

/// A database, and topics of its own.
struct Scene {
    /// Of the test, as the test program knows it.
    name: &'static str,
    outbox: Outbox<Postgres>,
    url: String,
    prefix: String,
    topic: &'static str,
    brokers: String,
    /// Where the relay connects.
    relay_brokers: String,
    /// Number of the last event of each customer.
    last: AtomicU64,
}

fn publisher(brokers: &str, prefix: &str) -> KafkaPublisher {
    kafka_publisher_of(brokers).with_topic_prefix(prefix).unwrap()
}

fn exactly_once(
    relay: RelayBuilder<Postgres, KafkaPublisher>,
) -> ExactlyOnceRelay<Postgres, KafkaPublisher> {
    relay.build_exactly_once(ExactlyOnce::new()).unwrap()
}

impl Scene {
    async fn new(name: &'static str) -> Self {
        if let Ok(url) = std::env::var(DOOMED) {
            // We are the relay that is to die: see `doomed`.
            Log::of_this_program();
            let outbox = Outbox::new(PgPool::connect(&url).await.unwrap());
            let relay = quick(&outbox, publisher(&kafka(), &std::env::var(PREFIX).unwrap()));
            exactly_once(relay).run(std::future::pending()).await.unwrap();
        }
        Log::of_this_program();
        let pool = support::postgres(POSTGRES, 4).await;
        let database: String =
            sqlx::query_scalar("select current_database()::text").fetch_one(&pool).await.unwrap();
        let url = server(POSTGRES);
        let (base, _) = url.rsplit_once('/').unwrap();
        Self { name, url: format!("{base}/{database}"), ..Self::on(pool, kafka()).await }
    }

    /// On servers of its own.
    async fn on(pool: PgPool, brokers: String) -> Self {
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
        }
    }

    /// Another event of each customer, several times.
    async fn commit(&self, times: u64) {
        for _ in 0..times {
            self.try_to_commit().await.unwrap();
        }
    }

    /// The same, once the database has been away. The numbers go on after those that it has.
    async fn commit_again(&self, times: u64) {
        let last = "select coalesce(max((convert_from(payload, 'utf8')::json->>'n')::bigint), 0) from outbox_event";
        let last = async || {
            let last = sqlx::query_scalar::<_, i64>(last).fetch_one(self.outbox.pool()).await;
            last.ok()
        };
        let last = eventually_some("the database is back", last).await;
        self.last.store(last as u64, Ordering::SeqCst);
        for _ in 0..times {
            let committed = async || self.try_to_commit().await.ok();
            eventually_some("the database takes an event", committed).await;
        }
    }

    async fn try_to_commit(&self) -> Result<(), OutboxError> {
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
    async fn stored_ids(&self) -> BTreeSet<Uuid> {
        let ids = sqlx::query_scalar("select id from outbox_event");
        ids.fetch_all(self.outbox.pool()).await.unwrap().into_iter().collect()
    }

    /// Of a customer of its own, the third of five events is too large for the topic:
    /// incompressible, or it would not be.
    async fn commit_a_poison_event(&self) {
        let noise: String = (0..400).map(|_| Uuid::now_v7().simple().to_string()).collect();
        for n in 1..=5 {
            let ballast = if n == 3 { noise.clone() } else { String::new() };
            let mut tx = self.outbox.begin().await.unwrap();
            tx.emit(Ordered { customer: "poison".to_owned(), n, ballast }).unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// A relay as a process, which dies at the failpoint if there is one.
    fn doomed(&self, failpoint: &str) -> Doomed {
        let environment =
            [(DOOMED, &*self.url), (PREFIX, &*self.prefix), ("OUTBOX_FAILPOINT", failpoint)];
        Doomed::start(self.name, &environment)
    }

    fn relay(&self) -> RunningRelay {
        let relay = exactly_once(quick(&self.outbox, publisher(&self.relay_brokers, &self.prefix)));
        RunningRelay::spawn(|stopped| relay.run(async { _ = stopped.await }))
    }

    async fn until_published(&self) {
        eventually("all is published but what is parked", async || {
            self.outbox.status().await.unwrap().backlog == 0
        })
        .await;
    }

    fn expected(&self) -> Expected {
        let last = self.last.load(Ordering::SeqCst) as i64;
        (0..CUSTOMERS).map(|customer| (customer.to_string(), last)).collect()
    }

    async fn each_arrived_once(&self, expected: &Expected) {
        assert_exactly_once(&read_committed(&self.brokers, &[self.topic]).await, expected);
    }
}

async fn dies_at(scene: Scene, failpoint: &str) {
    scene.commit(10).await;
    scene.doomed(failpoint).dies().await;
    scene.commit(5).await;
    let relay = scene.relay();
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

macro_rules! dies_at {
    ($($promise:ident at $failpoint:literal;)*) => {
        mod dies {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let name = concat!("dies::", stringify!($promise));
                super::dies_at(super::Scene::new(name).await, $failpoint).await;
            })*
        }
    };
}

dies_at! {
    with_a_claim_that_is_not_confirmed at "after-group-claim";
    after_it_fenced_and_before_it_adopted at "after-group-fence";
    after_it_adopted_and_before_that_is_noted at "after-adoption";
    after_it_read at "after-read";
    before_it_commits_a_wave at "before-wave-commit";
    after_it_committed_a_wave_and_before_it_saved_the_cursor at "after-wave-commit";
    after_it_saved_the_cursor at "after-save";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_share_the_groups_and_take_them_over_from_each_other() {
    let scene = Scene::new("relays_share_the_groups_and_take_them_over_from_each_other").await;
    let first = scene.relay();
    scene.commit(5).await;
    let second = scene.relay();
    until_true(
        scene.outbox.pool(),
        "select count(distinct owner) = 2 and count(owner) = 16 from outbox_lane",
    )
    .await;
    scene.commit(5).await;
    // One is killed, and the other one has its group in the end.
    first.abort().await;
    scene.commit(5).await;
    scene.until_published().await;
    second.stop().await;
    let third = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    third.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_suspended_past_its_lease_publishes_nothing_more_of_what_it_had() {
    let scene = Scene::new(
        "a_relay_that_was_suspended_past_its_lease_publishes_nothing_more_of_what_it_had",
    )
    .await;
    let zombie = scene.doomed("");
    let holds_all = "select count(owner) = 16 from outbox_lane";
    until_true(scene.outbox.pool(), holds_all).await;
    let owner: Uuid = sqlx::query_scalar("select owner from outbox_lane limit 1")
        .fetch_one(scene.outbox.pool())
        .await
        .unwrap();
    // In the middle of its work, more often than not.
    scene.commit(20).await;
    zombie.signal("-STOP");
    scene.commit(5).await;
    let relay = scene.relay();
    eventually("another relay has the lanes", async || {
        let others = "select count(*) from outbox_lane where owner <> $1";
        let others: i64 =
            sqlx::query_scalar(others).bind(owner).fetch_one(scene.outbox.pool()).await.unwrap();
        others == 16
    })
    .await;
    scene.until_published().await;
    zombie.signal("-CONT");
    scene.commit(20).await;
    scene.until_published().await;
    drop(zombie);
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_event_is_parked_with_those_behind_it_and_is_published_once_when_released() {
    let scene = Scene::new(
        "a_refused_event_is_parked_with_those_behind_it_and_is_published_once_when_released",
    )
    .await;
    scene.commit(3).await;
    scene.commit_a_poison_event().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.commit(3).await;
    scene.until_published().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 2);
    scene.each_arrived_once(&expected).await;

    // Another relay meets the parked events, and passes over them.
    relay.abort().await;
    let relay = scene.relay();
    scene.commit(2).await;
    scene.until_published().await;
    raise_limit(&kafka(), scene.topic).await;
    assert_eq!(scene.outbox.release_all_parked().await.unwrap(), 3);
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

async fn parks_and_dies(scene: Scene, failpoint: &str) {
    scene.commit_a_poison_event().await;
    scene.commit(3).await;
    scene.doomed(failpoint).dies().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.until_published().await;
    raise_limit(&kafka(), scene.topic).await;
    scene.outbox.release_all_parked().await.unwrap();
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_when_it_has_parked_and_progress_has_not_passed_it_publishes_nothing_twice()
 {
    const NAME: &str = "a_relay_that_dies_when_it_has_parked_and_progress_has_not_passed_it_publishes_nothing_twice";
    parks_and_dies(Scene::new(NAME).await, "after-group-parking").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_event_that_was_published_and_not_deleted_is_not_published_again() {
    const NAME: &str = "a_parked_event_that_was_published_and_not_deleted_is_not_published_again";
    let scene = Scene::new(NAME).await;
    scene.commit_a_poison_event().await;
    scene.commit(3).await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.until_published().await;
    relay.stop().await;
    raise_limit(&kafka(), scene.topic).await;
    assert_eq!(scene.outbox.release_all_parked().await.unwrap(), 3);
    scene.doomed("after-parked-delivery").dies().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_database_has_lost_commits_nothing_is_lost_and_the_fall_back_is_said() {
    const NAME: &str =
        "after_the_database_has_lost_commits_nothing_is_lost_and_the_fall_back_is_said";
    let scene = Scene::new(NAME).await;
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    // What a failover to a lagging standby does: the witnesses are gone, and the rows are not.
    scene.outbox.pool().execute("delete from outbox_witness").await.unwrap();
    let log = Log::of_this_program();
    let relay = scene.relay();
    log.until_it_says(&["the progress on Kafka and the history of the database do not fit"]).await;
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    let arrivals = read_committed(&kafka(), &[scene.topic]).await;
    assert_at_least_once(&arrivals, &scene.expected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_publishes_what_is_committed_once() {
    let scene = Scene::new("a_drain_publishes_what_is_committed_once").await;
    scene.commit(10).await;
    let drain = || async {
        let relay = new_relay(&scene.outbox, publisher(&scene.brokers, &scene.prefix))
            .lease(Duration::from_secs(5));
        exactly_once(relay).drain().await.unwrap()
    };
    assert_eq!(drain().await, 10 * CUSTOMERS as u64);
    scene.commit(1).await;
    assert_eq!(drain().await, CUSTOMERS as u64);
    scene.each_arrived_once(&scene.expected()).await;
}
