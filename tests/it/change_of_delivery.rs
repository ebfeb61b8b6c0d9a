//! The delivery is changed from at least once to exactly once and back, and no event is lost or
//! arrives twice by that.

use std::future::pending;
use std::time::Duration;

use outbox::admin::DeliveryStatus;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{ErrorKind, ExactlyOnce, ExactlyOnceRelay, Outbox};
use sqlx::{Executor as _, Postgres};

use crate::support::oracle::{Expected, assert_exactly_once};
use crate::support::relays::{drain, kafka_publisher, new_relay, quick, run_error};
use crate::support::topics::{create_topic, read_committed};
use crate::support::{self, POSTGRES, eventually, kafka, within_a_minute};

event_on_topic!(Changed, "change-of-delivery");

const KEYS: i64 = 5;
/// Events of each key that are emitted at a time.
const EACH: i64 = 4;
const AT_A_TIME: usize = (KEYS * EACH) as usize;

fn exactly_once(outbox: &Outbox<Postgres>) -> ExactlyOnceRelay<Postgres, KafkaPublisher> {
    quick(outbox, kafka_publisher()).build_exactly_once(ExactlyOnce::new()).unwrap()
}

/// Emits the next events of each key. Returns how many each has then.
async fn emit(outbox: &Outbox<Postgres>, emitted: &mut i64) {
    for n in *emitted + 1..=*emitted + EACH {
        let mut tx = outbox.begin().await.unwrap();
        for key in 0..KEYS {
            tx.emit(Changed::new(format!("key-{key}"), n)).unwrap();
        }
        tx.commit().await.unwrap();
    }
    *emitted += EACH;
}

async fn arrived() -> usize {
    read_committed(&kafka(), &[Changed::TOPIC]).await.len()
}

/// Once the leases of a relay that was killed have run out.
async fn hand_back(outbox: &Outbox<Postgres>) {
    let handed_back = async || match exactly_once(outbox).hand_back().await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            false
        }
    };
    eventually("the delivery is changed back", handed_back).await;
}

async fn delivery(outbox: &Outbox<Postgres>) -> DeliveryStatus {
    outbox.status().await.unwrap().delivery
}

/// A relay that publishes some of what there is, and dies. What it has saved is undone, as if it had
/// died before.
async fn publishes_and_dies(outbox: &Outbox<Postgres>) {
    let before = arrived().await;
    let relay = tokio::spawn(exactly_once(outbox).run(pending()));
    eventually("something arrives", async || arrived().await > before).await;
    relay.abort();
    relay.await.unwrap_err();
    outbox.pool().execute("delete from outbox_progress where claim is not null").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_arrives_once_whichever_way_the_delivery_is_changed() {
    create_topic(Changed::TOPIC, 2, &[]).await;
    let outbox = Outbox::new(support::postgres(POSTGRES, 4).await);
    outbox.migrate().await.unwrap();
    let mut emitted = 0;
    assert_eq!(delivery(&outbox).await, DeliveryStatus::AtLeastOnce);
    within_a_minute(exactly_once(&outbox).hand_back()).await.expect("nothing is to be done");
    assert_eq!(delivery(&outbox).await, DeliveryStatus::AtLeastOnce);

    emit(&outbox, &mut emitted).await;
    let at_least_once = || quick(&outbox, kafka_publisher());
    assert_eq!(drain(at_least_once()).await.unwrap(), AT_A_TIME as u64);
    emit(&outbox, &mut emitted).await;
    publishes_and_dies(&outbox).await;
    let said = run_error(at_least_once()).await.to_string();
    assert!(said.contains("exactly once") && said.contains("hand-back"), "{said}");
    let DeliveryStatus::ExactlyOnce { groups, .. } = delivery(&outbox).await else {
        panic!("it is delivered exactly once");
    };
    assert_eq!(groups.iter().map(|group| group.lanes.len()).collect::<Vec<_>>(), [8, 8]);

    hand_back(&outbox).await;
    assert_eq!(delivery(&outbox).await, DeliveryStatus::AtLeastOnce);
    let left = 2 * AT_A_TIME - arrived().await;
    let drained = drain(at_least_once()).await.unwrap();
    assert_eq!(drained, left as u64, "without what the dead relay has published");
    emit(&outbox, &mut emitted).await;
    assert_eq!(drain(at_least_once()).await.unwrap(), AT_A_TIME as u64);

    emit(&outbox, &mut emitted).await;
    let drained = within_a_minute(exactly_once(&outbox).drain()).await.unwrap();
    assert_eq!(drained, AT_A_TIME as u64, "from where the other relay ended");
    let expected: Expected = (0..KEYS).map(|key| (format!("key-{key}"), emitted)).collect();
    assert_exactly_once(&read_committed(&kafka(), &[Changed::TOPIC]).await, &expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_handed_back_while_a_relay_holds_lanes() {
    let outbox = Outbox::new(support::postgres(POSTGRES, 4).await);
    outbox.migrate().await.unwrap();
    let relay = new_relay(&outbox, kafka_publisher()).lease(Duration::from_secs(3_600));
    let relay = relay.build_exactly_once(ExactlyOnce::new()).unwrap();
    let relay = tokio::spawn(relay.run(pending()));
    let is_taken = |delivery: &DeliveryStatus| {
        matches!(delivery, DeliveryStatus::ExactlyOnce { groups, .. }
            if groups.iter().all(|group| group.owner.is_some() && group.claim.is_some()))
    };
    eventually("all groups are taken over", async || is_taken(&delivery(&outbox).await)).await;
    let error = within_a_minute(exactly_once(&outbox).hand_back()).await.unwrap_err();
    assert!(error.to_string().contains("was not changed"), "{error}");
    assert!(is_taken(&delivery(&outbox).await), "it is delivered as before");
    relay.abort();
    relay.await.unwrap_err();
}
