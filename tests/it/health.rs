//! When relays and consumers are ready, and when they are live.

use std::time::Duration;

use crate::support::consumers::{
    RunningConsumer, consumer_outbox, new_consumer, new_consumer_of, run_error,
};
use crate::support::proxy::{Proxy, Way};
use crate::support::relays::{RunningRelay, new_relay};
use crate::support::topics::create_topic;
use crate::support::wait::try_within;
use crate::support::{POSTGRES, eventually, migrated, postgres, within_a_minute};
use outbox::consume::{EventContext, handler_fn};
use outbox::observe::Health;
use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxTx};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;

/// An outbox that reaches the database of another one through a proxy.
async fn through_a_proxy(outbox: &Outbox<Postgres>) -> (Outbox<Postgres>, Proxy) {
    let (proxy, options) = Proxy::of_pool(outbox.pool()).await;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(1));
    (Outbox::new(pool.connect_lazy_with(options)), proxy)
}

/// The database answers nothing, neither on old connections nor on new ones.
fn take_away(proxy: &Proxy) {
    proxy.silence(Way::Both);
}

fn bring_back(proxy: &Proxy) {
    proxy.heal();
    proxy.cut();
}

/// Fails if it is not live at any time within the longest turn of a relay's loop and a second.
async fn stays_live(health: &Health) {
    let dies = try_within(Duration::from_secs(6), async || (!health.is_live()).then_some(()));
    assert_eq!(dies.await, None, "{health:?}");
}

fn has_ended(health: &Health) -> bool {
    !health.is_ready() && !health.is_live()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_ready_after_its_first_claim_and_live_while_the_database_is_away() {
    let outbox = migrated(Outbox::new(postgres(POSTGRES, 4).await)).await;
    let (through, proxy) = through_a_proxy(&outbox).await;
    take_away(&proxy);
    let relay = new_relay(&through, MemoryPublisher::new()).lease(Duration::from_millis(300));
    let relay = relay.build().unwrap();
    let health = relay.health();
    assert!(!health.is_ready() && health.is_live(), "not started");
    let relay = RunningRelay::run(relay);
    proxy.until_accepted(1).await;
    assert!(!health.is_ready() && health.is_live(), "no answer yet");

    bring_back(&proxy);
    assert!(within_a_minute(health.ready()).await);
    assert!(health.is_ready());
    let lanes = outbox.status().await.unwrap().lanes;
    assert!(lanes.iter().all(|lane| lane.owner.is_some()), "{lanes:?}");

    take_away(&proxy);
    stays_live(&health).await;
    assert!(health.is_ready(), "to be restarted would not help it");

    bring_back(&proxy);
    relay.stop().await;
    assert!(has_ended(&health) && !within_a_minute(health.ready()).await);
}

#[tokio::test]
async fn a_relay_that_ends_before_it_is_ready_says_so() {
    let unmigrated = Outbox::new(postgres(POSTGRES, 4).await);
    let relay = new_relay(&unmigrated, MemoryPublisher::new()).build().unwrap();
    let health = relay.health();
    let (ready, ended) = tokio::join!(health.ready(), relay.run(std::future::pending()));
    assert_eq!((ready, ended.unwrap_err().kind()), (false, ErrorKind::NotMigrated));
    let dropped = new_relay(&unmigrated, MemoryPublisher::new()).build().unwrap();
    let health = dropped.health();
    drop(dropped);
    assert!(has_ended(&health) && !health.ready().await);
}

async fn nothing(
    _: &mut OutboxTx<'_, Postgres>,
    _: Noted,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

#[derive(Debug, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "health-noted", keyless)]
struct Noted {}

#[derive(Debug, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "health-unseen", keyless)]
struct Unseen {}

async fn unseen(
    _: &mut OutboxTx<'_, Postgres>,
    _: Unseen,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_ready_with_its_tables_and_its_partitions_and_not_before() {
    create_topic(Noted::DESCRIPTORS[0].topic, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let (through, proxy) = through_a_proxy(&outbox).await;
    take_away(&proxy);
    let consumer = new_consumer(&through).group("health").handler(handler_fn(nothing));
    let consumer = consumer.build().unwrap();
    let health = consumer.health();
    assert!(!health.is_ready() && health.is_live(), "not started");
    let consumer = RunningConsumer::run(consumer);
    proxy.until_accepted(1).await;
    assert!(!health.is_ready() && health.is_live(), "the database has not answered");

    bring_back(&proxy);
    assert!(within_a_minute(health.ready()).await);
    let inbox: i64 = sqlx::query_scalar("select count(*) from outbox_inbox")
        .fetch_one(outbox.pool())
        .await
        .unwrap();
    assert_eq!(inbox, 0, "nothing is left of the search for the tables");

    // One more member than there are partitions is ready too.
    let second = new_consumer(&outbox).group("health").handler(handler_fn(nothing));
    let second = second.build().unwrap();
    let idle = second.health();
    let second = RunningConsumer::run(second);
    assert!(within_a_minute(idle.ready()).await);
    second.stop().await;
    assert!(has_ended(&idle));

    take_away(&proxy);
    assert!(health.is_ready() && health.is_live());
    bring_back(&proxy);
    consumer.stop().await;
    assert!(has_ended(&health));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_brokers_is_live_and_never_ready() {
    let outbox = consumer_outbox().await;
    let consumer = new_consumer_of(&outbox, "127.0.0.1:1").group("g").handler(handler_fn(nothing));
    let consumer = consumer.build().unwrap();
    let health = consumer.health();
    let consumer = RunningConsumer::run(consumer);
    assert!(!health.is_ready() && health.is_live());
    consumer.stop().await;
    eventually("it has ended", async || has_ended(&health)).await;
    assert!(!health.ready().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_tables_are_missing_ends_before_the_first_event() {
    let unmigrated = Outbox::new(postgres(POSTGRES, 4).await);
    let consumer = new_consumer(&unmigrated).group("unmigrated").handler(handler_fn(unseen));
    assert_eq!(run_error(consumer).await.kind(), ErrorKind::NotMigrated);
}
