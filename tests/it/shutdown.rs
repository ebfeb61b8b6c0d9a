//! How a relay process ends on a signal.

use crate::support::processes::Process;
use crate::support::topics::create_topic_of;
use crate::support::{OrderCreated, commit, eventually, migrated, within_a_minute};
use outbox::Outbox;
use sqlx::postgres::PgPoolOptions;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

struct Scene {
    scratch: ScratchDir,
    postgres: Postgres,
    kafka: Kafka,
    outbox: Outbox<sqlx::Postgres>,
}

impl Scene {
    async fn new() -> Self {
        let scratch = ScratchDir::new("shutdown").unwrap();
        let dir = scratch.path().join("postgres");
        let postgres = Postgres::start(PgVersion::V15, &dir, PgOptions::default()).unwrap();
        let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
        create_topic_of(kafka.brokers(), "order-events", 6, &[]).await;
        let pool = PgPoolOptions::new().max_connections(4).connect(postgres.url()).await.unwrap();
        let outbox = migrated(Outbox::new(pool)).await;
        Self { scratch, postgres, kafka, outbox }
    }

    fn relay(&self) -> Process {
        let environment = [
            ("DATABASE_URL", self.postgres.url()),
            ("KAFKA_BROKERS", self.kafka.brokers()),
            ("RUST_LOG", "info,outbox::relay=debug"),
            ("NO_COLOR", "1"),
        ];
        Process::start("relay", "orders", &["relay"], &environment, self.scratch.path())
    }

    async fn backlog_is(&self, events: u64) {
        let is = async || Box::pin(self.outbox.status()).await.unwrap().backlog == events;
        eventually(&format!("{events} events are not published"), is).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_relay_finish_and_give_its_lanes_back() {
    let scene = Scene::new().await;
    let mut relay = scene.relay();
    commit(&scene.outbox, [OrderCreated::new("a", 1)]).await;
    within_a_minute(scene.backlog_is(0)).await;

    relay.signal("-TERM");

    assert_eq!(within_a_minute(relay.ended()).await, Some(0));
    let lanes = scene.outbox.status().await.unwrap().lanes;
    assert!(lanes.iter().all(|lane| lane.owner.is_none()), "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_relay_that_waits_for_its_broker_and_nothing_is_lost() {
    let mut scene = Scene::new().await;
    let mut relay = scene.relay();
    commit(&scene.outbox, [OrderCreated::new("a", 1)]).await;
    within_a_minute(scene.backlog_is(0)).await;
    tokio::task::block_in_place(|| scene.kafka.kill());
    commit(&scene.outbox, [OrderCreated::new("a", 2), OrderCreated::new("a", 3)]).await;
    within_a_minute(relay.says("batch sent lane=0 events=2")).await;

    relay.signal("-TERM");
    within_a_minute(relay.says("it waits for what is in flight")).await;
    relay.signal("-TERM");

    assert_eq!(within_a_minute(relay.ended()).await, Some(130));
    assert_eq!(
        scene.outbox.status().await.unwrap().backlog,
        2,
        "the events are still in the outbox"
    );
}
