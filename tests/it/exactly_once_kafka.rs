//! Delivery exactly once, where Kafka or the way to it fails.

use std::slice;
use std::time::Duration;

use outbox::{ExactlyOnce, Outbox};
use sqlx::Postgres;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

use crate::support::log::Log;
use crate::support::oracle::{Expected, assert_exactly_once};
use crate::support::proxy::{Moment, Proxy};
use crate::support::relays::{RunningRelay, kafka_publisher_of, new_relay};
use crate::support::requests::END_TXN;
use crate::support::topics::{create_replicated, create_topic_of, read_committed, set};
use crate::support::{POSTGRES, eventually, migrated, postgres, within_a_minute};

event_on_topic!(Ordered, "exactly-once-ordered");
event_on_topic!(Stuck, "exactly-once-stuck");

async fn new_outbox() -> Outbox<Postgres> {
    migrated(Outbox::new(postgres(POSTGRES, 8).await)).await
}

/// One group, so that all is in one transaction after the other.
fn start(outbox: &Outbox<Postgres>, brokers: &str) -> RunningRelay {
    let relay = new_relay(outbox, kafka_publisher_of(brokers));
    let relay = relay.lease(Duration::from_secs(2)).retry_parked(Duration::from_secs(3600));
    let relay = relay.build_exactly_once(ExactlyOnce::new().groups(1)).unwrap();
    RunningRelay::spawn(|stopped| relay.run(async { _ = stopped.await }))
}

/// Emits the next `count` events of each key.
async fn emit(outbox: &Outbox<Postgres>, emitted: &mut Expected, count: i64) {
    let mut tx = outbox.begin().await.unwrap();
    for _ in 0..count {
        for (key, n) in emitted.iter_mut() {
            *n += 1;
            tx.emit(Ordered::new(key, *n)).unwrap();
        }
    }
    tx.commit().await.unwrap();
}

async fn until_settled(outbox: &Outbox<Postgres>) {
    let is = async || outbox.status().await.unwrap().backlog == 0;
    eventually("all is published or parked", is).await;
}

/// librdkafka sends the request again by itself and reports success. The first one may still come,
/// when another transaction of the producer is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_asked_for_twice_ends_the_session_and_publishes_nothing_twice() {
    let log = Log::of_this_program();
    let scratch = ScratchDir::new("exactly-once").unwrap();
    let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
    let kafka = Kafka::start(scratch.path(), options).unwrap();
    create_topic_of(kafka.brokers(), Ordered::TOPIC, 3, &[]).await;
    let proxy = Proxy::of_kafka(slice::from_ref(&kafka)).await;
    let outbox = new_outbox().await;
    let mut emitted: Expected = ["a", "b", "c"].map(|key| (key.to_owned(), 0)).into();
    let relay = start(&outbox, &proxy.addresses());
    emit(&outbox, &mut emitted, 5).await;
    until_settled(&outbox).await;

    // In time for its repetition to be answered, or too late for that.
    let said = ["a transaction of the producer", "the relay takes the group over again"];
    let before = log.lines(&said).len();
    let held = proxy.silence_one(Moment::AfterRequest(END_TXN));
    emit(&outbox, &mut emitted, 5).await;
    within_a_minute(held).await;
    proxy.cut_silent();
    eventually("the session ends", async || log.lines(&said).len() > before).await;
    emit(&outbox, &mut emitted, 5).await;
    until_settled(&outbox).await;
    relay.stop().await;
    let arrived = within_a_minute(read_committed(kafka.brokers(), &[Ordered::TOPIC])).await;
    assert_exactly_once(&arrived, &emitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_nothing_is_parked_and_the_events_of_others_are_published_once() {
    a_topic_takes_nothing_until(async |_, second| {
        tokio::task::block_in_place(|| second.restart()).unwrap();
    })
    .await;
}

/// No replica comes back, and brokers take events again all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_asks_for_fewer_replicas_by_now_is_published_again() {
    a_topic_takes_nothing_until(async |brokers, _| {
        set(brokers, Stuck::TOPIC, "min.insync.replicas", "1").await;
    })
    .await;
}

async fn a_topic_takes_nothing_until(recovered: impl AsyncFn(&str, &mut Kafka)) {
    let scratch = ScratchDir::new("exactly-once-stuck").unwrap();
    let options = KafkaOptions::default();
    let kafka = Kafka::start(&scratch.path().join("first"), options).unwrap();
    create_topic_of(kafka.brokers(), Ordered::TOPIC, 3, &[]).await;
    let outbox = new_outbox().await;
    let mut emitted = Expected::from([("free".to_owned(), 0)]);
    // The topics of transactions and of the progress are on the first broker alone.
    let relay = start(&outbox, kafka.brokers());
    emit(&outbox, &mut emitted, 1).await;
    until_settled(&outbox).await;
    let mut second = kafka.start_second(&scratch.path().join("second"), options).unwrap();
    create_replicated(kafka.brokers(), Stuck::TOPIC).await;
    second.kill();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_all((1..=20).map(|n| Stuck::new("stuck", n))).unwrap();
    tx.commit().await.unwrap();
    emit(&outbox, &mut emitted, 20).await;
    until_settled(&outbox).await;
    assert_eq!(outbox.status().await.unwrap().parked, 20);
    let arrived = within_a_minute(read_committed(kafka.brokers(), &[Ordered::TOPIC])).await;
    assert_exactly_once(&arrived, &emitted);

    recovered(kafka.brokers(), &mut second).await;
    let nothing_is_parked = async || {
        outbox.release_all_parked().await.unwrap();
        outbox.status().await.unwrap().parked == 0
    };
    eventually("nothing is parked", nothing_is_parked).await;
    relay.stop().await;
    emitted.insert("stuck".to_owned(), 20);
    let topics = [Ordered::TOPIC, Stuck::TOPIC];
    let arrived = within_a_minute(read_committed(kafka.brokers(), &topics)).await;
    assert_exactly_once(&arrived, &emitted);
}
