//! How many connections to Postgres the parts take: docs/guide/operating.md says so.

use crate::support::consumers::{RunningConsumer, Scripted, new_consumer};
use crate::support::log::Log;
use crate::support::relays::{RunningRelay, new_relay};
use crate::support::topics::create_topic;
use crate::support::{
    self, OrderCreated, POSTGRES, commit, eventually, migrated, until_true, within_a_minute,
};
use outbox::Outbox;
use outbox::consume::HandlerOptions;
use outbox::testing::MemoryPublisher;
use sqlx::{PgPool, Postgres};

async fn new_outbox(connections: u32) -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, connections).await)).await
}

/// Connections to the database of `pool` that are not of `pool`.
async fn beside(pool: &PgPool) -> i64 {
    let all = "select count(*) from pg_stat_activity
               where datname = current_database() and backend_type = 'client backend'";
    let all: i64 = sqlx::query_scalar(all).fetch_one(pool).await.unwrap();
    all - i64::from(pool.size())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_takes_three_connections_and_a_service_that_emits_one_beside_its_pool() {
    let outbox = new_outbox(1).await;
    let service = Outbox::new(
        PgPool::connect_with((*outbox.pool().connect_options()).clone()).await.unwrap(),
    );
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    let of_service = async || i64::from(service.pool().size());
    commit(&service, [OrderCreated::new("a", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    // What a relay does every few seconds has been done.
    until_true(outbox.pool(), "select exists (select from outbox_sequence_mark)").await;
    let are_four = async || beside(outbox.pool()).await - of_service().await == 4;
    eventually("the relay has three connections, and the service one", are_four).await;
    relay.stop().await;
    let is_one = async || beside(outbox.pool()).await - of_service().await == 1;
    eventually("the relay has closed its own", is_one).await;
}

event_on_topic!(Created, "connections-consumer");

#[tokio::test]
async fn a_consumer_takes_the_connections_of_its_pool_alone_and_tells_of_a_pool_that_is_too_small()
{
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = new_outbox(3).await;
    let handler =
        |group| Scripted::<Created>::new(group, HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let (log, _guard) = Log::of_this_thread("warn");
    let consume = |group, concurrency| {
        let consumer = new_consumer(&outbox).concurrency(concurrency).handler(handler(group));
        let consumer = consumer.build().unwrap();
        let health = consumer.health();
        (RunningConsumer::run(consumer), health)
    };
    let told = ["the consumer's pool has fewer connections", "connections=3", "concurrency=4"];
    let (enough, health) = consume("connections-enough", 3);
    assert!(within_a_minute(health.ready()).await);
    assert_eq!(log.lines(&told[..1]), [""; 0]);
    // The pool counts a connection that it is about to open.
    let are_none = async || beside(outbox.pool()).await == 0;
    eventually("the consumer has none of its own", are_none).await;
    enough.stop().await;
    let (too_few, _) = consume("connections-too-few", 4);
    log.until_it_says(&told).await;
    too_few.stop().await;
}
