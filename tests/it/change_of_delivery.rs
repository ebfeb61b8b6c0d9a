//! The delivery is changed from at least once to exactly once and back, and no event is lost or
//! arrives twice by that.

use std::future::pending;
use std::time::Duration;

use outbox::admin::DeliveryStatus;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{ErrorKind, ExactlyOnce, Outbox, OutboxError, RelayBuilder};
use sqlx::{Executor as _, Pool, Postgres, Sqlite};
use uuid::Uuid;

use crate::support::oracle::{Expected, assert_exactly_once};
use crate::support::relays::{DeliversOnce, drain, kafka_publisher, quick, run_error};
use crate::support::topics::{create_topic, read_committed};
use crate::support::{eventually, kafka, within_a_minute};

event_on_topic!(Changed, "change-of-delivery");

const KEYS: i64 = 5;
/// Events of each key that are emitted at a time.
const EACH: i64 = 4;
const AT_A_TIME: usize = (KEYS * EACH) as usize;

/// A database whose saved cursors are set back to what they were.
trait Stored: DeliversOnce {
    async fn saved(pool: &Pool<Self>) -> Vec<(i64, i64)>;
    async fn set_back(pool: &Pool<Self>, saved: &[(i64, i64)]);
}

impl Stored for Postgres {
    /// None of a relay that delivers exactly once counts.
    async fn saved(_: &Pool<Self>) -> Vec<(i64, i64)> {
        Vec::new()
    }

    async fn set_back(pool: &Pool<Self>, _: &[(i64, i64)]) {
        pool.execute("delete from outbox_progress where claim is not null").await.unwrap();
    }
}

impl Stored for Sqlite {
    async fn saved(pool: &Pool<Self>) -> Vec<(i64, i64)> {
        sqlx::query_as("select lane, last_seq from outbox_lane").fetch_all(pool).await.unwrap()
    }

    async fn set_back(pool: &Pool<Self>, saved: &[(i64, i64)]) {
        for (lane, seq) in saved {
            let set =
                "update outbox_lane set last_seq = $2, claim = null, wave = null where lane = $1";
            sqlx::query(set).bind(lane).bind(seq).execute(pool).await.unwrap();
        }
    }
}

/// A database, and a topic of its own.
struct Scene<DB: Stored> {
    outbox: Outbox<DB>,
    prefix: String,
    topic: &'static str,
    /// How many events each key has.
    emitted: i64,
}

impl<DB: Stored> Scene<DB> {
    async fn new(outbox: Outbox<DB>) -> Self {
        let prefix = format!("changed-{}-", Uuid::now_v7().simple());
        let topic: &'static str = format!("{prefix}{}", Changed::TOPIC).leak();
        create_topic(topic, 2, &[]).await;
        Self { outbox, prefix, topic, emitted: 0 }
    }

    fn relay(&self) -> RelayBuilder<DB, KafkaPublisher> {
        quick(&self.outbox, kafka_publisher().with_topic_prefix(&self.prefix).unwrap())
    }

    /// Emits the next events of each key.
    async fn emit(&mut self) {
        for n in self.emitted + 1..=self.emitted + EACH {
            let mut tx = self.outbox.begin().await.unwrap();
            for key in 0..KEYS {
                tx.emit(Changed::new(format!("key-{key}"), n)).unwrap();
            }
            tx.commit().await.unwrap();
        }
        self.emitted += EACH;
    }

    async fn arrived(&self) -> usize {
        read_committed(&kafka(), &[self.topic]).await.len()
    }

    async fn try_to_hand_back(&self) -> Result<(), OutboxError> {
        within_a_minute(DB::hand_back(self.relay(), ExactlyOnce::new())).await
    }

    /// Once the leases of a relay that was killed have run out.
    async fn hand_back(&self) {
        let handed_back = async || match self.try_to_hand_back().await {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
                false
            }
        };
        eventually("the delivery is changed back", handed_back).await;
    }

    async fn delivery(&self) -> DeliveryStatus {
        self.outbox.status().await.unwrap().delivery
    }

    /// A relay that publishes some of what there is, and dies. What it has saved is undone, as if it
    /// had died before.
    async fn publishes_and_dies(&self) {
        let before = self.arrived().await;
        let saved = DB::saved(self.outbox.pool()).await;
        let relay = tokio::spawn(DB::run_once(self.relay(), ExactlyOnce::new(), pending()));
        eventually("something arrives", async || self.arrived().await > before).await;
        relay.abort();
        relay.await.unwrap_err();
        DB::set_back(self.outbox.pool(), &saved).await;
    }
}

async fn each_event_arrives_once_whichever_way_the_delivery_is_changed<DB: Stored>(
    outbox: Outbox<DB>,
) {
    let mut scene = Scene::new(outbox).await;
    assert_eq!(scene.delivery().await, DeliveryStatus::AtLeastOnce);
    scene.try_to_hand_back().await.expect("nothing is to be done");
    assert_eq!(scene.delivery().await, DeliveryStatus::AtLeastOnce);

    scene.emit().await;
    assert_eq!(drain(scene.relay()).await.unwrap(), AT_A_TIME as u64);
    scene.emit().await;
    scene.publishes_and_dies().await;
    let said = run_error(scene.relay()).await.to_string();
    assert!(said.contains("exactly once") && said.contains("hand-back"), "{said}");
    let DeliveryStatus::ExactlyOnce { groups, .. } = scene.delivery().await else {
        panic!("it is delivered exactly once");
    };
    assert_eq!(groups.iter().map(|group| group.lanes.len()).collect::<Vec<_>>(), [8, 8]);

    scene.hand_back().await;
    assert_eq!(scene.delivery().await, DeliveryStatus::AtLeastOnce);
    let left = 2 * AT_A_TIME - scene.arrived().await;
    let drained = drain(scene.relay()).await.unwrap();
    assert_eq!(drained, left as u64, "without what the dead relay has published");
    scene.emit().await;
    assert_eq!(drain(scene.relay()).await.unwrap(), AT_A_TIME as u64);

    // Another number of groups is other producers, and another topic for the progress.
    for groups in [2, 4] {
        scene.emit().await;
        let options = ExactlyOnce::new().groups(groups);
        let drained = within_a_minute(DB::drain_once(scene.relay(), options.clone())).await;
        assert_eq!(drained.unwrap(), AT_A_TIME as u64, "from where the other relay ended");
        within_a_minute(DB::hand_back(scene.relay(), options)).await.unwrap();
    }
    let expected: Expected = (0..KEYS).map(|key| (format!("key-{key}"), scene.emitted)).collect();
    assert_exactly_once(&read_committed(&kafka(), &[scene.topic]).await, &expected);
}

async fn nothing_is_handed_back_while_a_relay_holds_lanes<DB: Stored>(outbox: Outbox<DB>) {
    let scene = Scene::new(outbox).await;
    let relay = scene.relay().lease(Duration::from_secs(3_600));
    let relay = tokio::spawn(DB::run_once(relay, ExactlyOnce::new(), pending()));
    let is_taken = |delivery: &DeliveryStatus| {
        matches!(delivery, DeliveryStatus::ExactlyOnce { groups, .. }
            if groups.iter().all(|group| group.owner.is_some() && group.claim.is_some()))
    };
    eventually("all groups are taken over", async || is_taken(&scene.delivery().await)).await;
    let error = scene.try_to_hand_back().await.unwrap_err();
    assert!(error.to_string().contains("was not changed"), "{error}");
    assert!(is_taken(&scene.delivery().await), "it is delivered as before");
    relay.abort();
    relay.await.unwrap_err();
}

on_postgres_and_sqlite! {
    each_event_arrives_once_whichever_way_the_delivery_is_changed
    nothing_is_handed_back_while_a_relay_holds_lanes
}
