//! What servers do: nodes of Kafka die, answers are held back, Postgres crashes and fails over.

use std::path::Path;
use std::sync::atomic::Ordering;

use sqlx::postgres::PgPoolOptions;
use tokio::task::block_in_place;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaCluster, KafkaOptions, PgOptions, PgVersion, Postgres, Standby};

use super::scene::Scene;
use crate::support::oracle::assert_at_least_once;
use crate::support::oracle::{assert_at_most_once, assert_none_lost};
use crate::support::proxy::{Moment, Proxy};
use crate::support::requests::END_TXN;
use crate::support::topics::read_committed;
use crate::support::{eventually, eventually_some, kafka};

impl Scene<sqlx::Postgres> {
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
}

fn postgres(dir: &Path) -> Postgres {
    block_in_place(|| Postgres::start(PgVersion::V15, &dir.join("postgres"), PgOptions::default()))
        .unwrap()
}

async fn pool(url: &str) -> sqlx::PgPool {
    PgPoolOptions::new().max_connections(4).connect(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_kafka_die_one_after_the_other_while_events_are_published() {
    let scratch = ScratchDir::new("once-cluster").unwrap();
    let mut cluster = block_in_place(|| {
        KafkaCluster::start(&scratch.path().join("kafka"), KafkaOptions::default())
    })
    .unwrap();
    let server = postgres(scratch.path());
    let scene = Scene::<sqlx::Postgres>::on(pool(server.url()).await, cluster.brokers()).await;
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    for node in 0..3 {
        // One of them leads the topic's partitions, and one is the coordinator.
        scene.commit(3).await;
        cluster.kill(node);
        scene.commit(3).await;
        scene.until_published().await;
        block_in_place(|| cluster.restart(node)).unwrap();
        eventually("all copies are complete", async || {
            block_in_place(|| cluster.is_in_sync()).unwrap()
        })
        .await;
    }
    scene.commit(2).await;
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_commit_is_held_back_or_lost() {
    let scratch = ScratchDir::new("once-proxy").unwrap();
    let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
    let kafka = block_in_place(|| Kafka::start(&scratch.path().join("kafka"), options)).unwrap();
    let proxy = Proxy::of_kafka(std::slice::from_ref(&kafka)).await;
    let server = postgres(scratch.path());
    let mut scene =
        Scene::<sqlx::Postgres>::on(pool(server.url()).await, kafka.brokers().to_owned()).await;
    scene.relay_brokers = proxy.addresses();
    let relay = scene.relay();
    scene.commit(3).await;
    scene.until_published().await;
    for moment in [Moment::AfterRequest(END_TXN), Moment::BeforeRequest(END_TXN)] {
        let silent = proxy.silence_one(moment);
        scene.commit(3).await;
        silent.await;
        scene.commit(3).await;
        proxy.cut_silent();
        scene.until_published().await;
    }
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_crashes_and_draws_again_the_ids_that_it_had_not_logged() {
    let scratch = ScratchDir::new("once-crash").unwrap();
    let mut server = postgres(scratch.path());
    let scene = Scene::<sqlx::Postgres>::on(pool(server.url()).await, kafka()).await;
    let relay = scene.relay();
    for _ in 0..3 {
        scene.commit(5).await;
        // Windows draw ids that no commit has logged.
        scene.until_published().await;
        scene.commit(1).await;
        server.kill();
        block_in_place(|| server.restart()).unwrap();
        scene.commit_again(5).await;
        scene.until_published().await;
    }
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_changes_nothing() {
    let scratch = ScratchDir::new("once-standby").unwrap();
    let mut primary = postgres(scratch.path());
    let (proxy, url) = Proxy::of_postgres(primary.url()).await;
    let scene = Scene::<sqlx::Postgres>::on(pool(&url).await, kafka()).await;
    let standby = block_in_place(|| {
        primary.start_standby(&scratch.path().join("standby"), Standby::Synchronous)
    })
    .unwrap();
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    scene.commit(3).await;
    primary.kill();
    block_in_place(|| standby.promote()).unwrap();
    proxy.redirect(format!("127.0.0.1:{}", standby.port()));
    scene.commit_again(5).await;
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_commits_loses_no_event_that_is_left() {
    let scratch = ScratchDir::new("once-lossy").unwrap();
    let mut primary = postgres(scratch.path());
    let (proxy, url) = Proxy::of_postgres(primary.url()).await;
    let scene = Scene::<sqlx::Postgres>::on(pool(&url).await, kafka()).await;
    let mut standby = block_in_place(|| {
        primary.start_standby(&scratch.path().join("standby"), Standby::Asynchronous)
    })
    .unwrap();
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    let before = read_committed(&kafka(), &[scene.topic]).await;
    assert_at_most_once(&before);
    standby.kill();
    // The standby never hears of these.
    scene.commit(3).await;
    scene.until_published().await;
    primary.kill();
    block_in_place(|| standby.restart()).unwrap();
    block_in_place(|| standby.promote()).unwrap();
    proxy.redirect(format!("127.0.0.1:{}", standby.port()));
    scene.commit_again(5).await;
    scene.until_published().await;
    relay.stop().await;
    let ids = scene.stored_ids().await;
    let arrivals = read_committed(&kafka(), &[scene.topic]).await;
    assert_none_lost(&arrivals, &ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_is_deleted_from_kafka_is_no_reason_to_lose_an_event() {
    let scene = Scene::<sqlx::Postgres>::new(
        "faults::progress_that_is_deleted_from_kafka_is_no_reason_to_lose_an_event",
    )
    .await;
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    let outbox: uuid::Uuid = sqlx::query_scalar("select outbox from outbox_group limit 1")
        .fetch_one(scene.outbox.pool())
        .await
        .unwrap();
    let topic = format!("{}outbox-{outbox}-progress", scene.prefix).leak();
    crate::support::topics::delete_topic(topic).await;
    scene.commit(5).await;
    let relay = scene.relay();
    scene.until_published().await;
    relay.stop().await;
    let arrivals = read_committed(&kafka(), &[scene.topic]).await;
    // The cursor in the database was saved as the relay stopped: nothing comes again.
    assert_eq!(assert_at_least_once(&arrivals, &scene.expected()), 0);
}
