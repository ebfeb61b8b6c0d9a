//! What consumers promise of their database: the order of keys that wait in it, conflicts, and
//! connections that go dead.

use std::time::Duration;

use crate::support::consumers::{
    PERMANENT, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox, new_consumer,
    pairs, publish, run_error, until_dead_letters, until_handled,
};
use crate::support::proxy::{Moment, Proxy};
use crate::support::topics::{create_again, create_topic, delete_topic};
use crate::support::{eventually, kafka, within_a_minute};
use outbox::consume::{EventContext, EventHandler, LaterEvents};
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxTx};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;

const SHORT: &[Duration] = &[Duration::from_millis(200)];

async fn until_waiting(outbox: &Outbox<Postgres>, count: i64) {
    let wait = async || {
        let waiting = sqlx::query_scalar("select count(*) from outbox_key_queue");
        waiting.fetch_one(outbox.pool()).await.is_ok_and(|waiting: i64| waiting == count)
    };
    eventually(&format!("{count} events wait"), wait).await;
}

/// Until the brokers have forgotten how far the group was in a topic that is deleted.
async fn until_forgotten(topic: &str, group: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    eventually("the offset is forgotten", async || {
        let committed = consumer.committed_offsets(list.clone(), Duration::from_secs(30));
        committed.is_ok_and(|of| of.elements()[0].offset() == Offset::Invalid)
    })
    .await;
}

/// The same outbox through a proxy.
async fn through_a_proxy(outbox: &Outbox<Postgres>) -> (Outbox<Postgres>, Proxy) {
    let (proxy, options) = Proxy::of_pool(outbox.pool()).await;
    let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(20));
    (Outbox::new(pool.connect_with(options).await.unwrap()), proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_login_is_refused_at_its_start_ends_with_an_error() {
    event_on_topic!(Created, "consume-db-login");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let options = (*outbox.pool().connect_options()).clone().username("outbox_has_no_such_role");
    let refused = Outbox::new(PgPoolOptions::new().connect_lazy_with(options));
    let handler = Scripted::<Created>::new("login", QUICK, |_, _, _| async { Ok(()) });
    let error = run_error(new_consumer(&refused).handler(handler)).await;
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("does not accept this user"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_topic_made_anew_waits_behind_one_of_the_old_topic_and_is_not_dropped() {
    event_on_topic!(Created, "consume-db-anew");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("a", 1)]).await;
    const LATER: &[Duration] = &[Duration::from_secs(5)];
    let options = QUICK.retry_topics(LATER, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("anew", options, |_, n, attempt| async move {
        if n == 1 && attempt == 1 { TRANSIENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    until_waiting(&outbox, 1).await;
    consumer.stop().await;

    // The new topic has another event at the same place.
    delete_topic(Created::TOPIC).await;
    until_forgotten(Created::TOPIC, "anew").await;
    create_again(Created::TOPIC).await;
    publish(&outbox, [Created::new("a", 2), Created::new("a", 3)]).await;
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "anew", 3).await, pairs("a", 1..=3));
    consumer.stop().await;
    until_waiting(&outbox, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_settled_before_that_is_noted_holds_nothing_up() {
    event_on_topic!(Created, "consume-db-ghost");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let (slow, proxy) = through_a_proxy(&outbox).await;
    let held = proxy.silence_one(Moment::Before("set state = 'sent'"));
    let handler = Scripted::<Created>::new(
        "ghost",
        QUICK.retry_topics(SHORT, LaterEvents::Wait),
        |_, n, attempt| async move {
            match (n, attempt) {
                (1, 1) => TRANSIENT,
                (1, _) => PERMANENT,
                _ => Ok(()),
            }
        },
    );
    let consumer = consume(&slow, &handler);
    publish(&outbox, [Created::new("a", 1), Created::new("a", 2)]).await;
    within_a_minute(held).await;
    until_dead_letters(Created::TOPIC, "ghost", 1).await;
    proxy.thaw();
    assert_eq!(until_handled(&outbox, "ghost", 1).await, pairs("a", [2]));
    consumer.stop().await;
    until_waiting(&outbox, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_as_long_as_kafka_takes_waits_like_any_other() {
    event_on_topic!(Created, "consume-db-long-key");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    // Random, or Postgres would make a short index entry of it.
    let key: String = (0..3_000).map(|_| uuid::Uuid::now_v7().simple().to_string()).collect();
    publish(&outbox, [Created::new(&*key, 1), Created::new(&*key, 2), Created::new("b", 1)]).await;
    const AN_HOUR: &[Duration] = &[Duration::from_secs(3600)];
    let handler = Scripted::<Created>::new(
        "long-key",
        QUICK.retry_topics(AN_HOUR, LaterEvents::Wait),
        |customer, _, _| async move { if customer == "b" { Ok(()) } else { TRANSIENT } },
    );
    let consumer = consume(&outbox, &handler);
    until_waiting(&outbox, 2).await;
    assert_eq!(until_handled(&outbox, "long-key", 1).await, pairs("b", [1]));
    let consumed = consumer.stop().await;
    assert_eq!((consumed.to_retry_topics, consumed.queued), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_wait_are_handled_in_order_also_when_their_handler_has_no_retry_topics_any_more()
 {
    event_on_topic!(Created, "consume-db-no-retries");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).map(|n| Created::new("a", n))).await;
    let before = Scripted::<Created>::new(
        "no-retries",
        QUICK.retry_topics(SHORT, LaterEvents::Wait),
        |_, _, attempt| async move {
            if attempt == 1 { TRANSIENT } else { std::future::pending().await }
        },
    );
    let consumer = consume(&outbox, &before);
    until_waiting(&outbox, 3).await;
    consumer.stop().await;

    let after = Scripted::<Created>::new("no-retries", QUICK, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &after);
    assert_eq!(until_handled(&outbox, "no-retries", 3).await, pairs("a", 1..=3));
    consumer.stop().await;
    until_waiting(&outbox, 0).await;
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-db-policy", name = "order.paid", version = 1)]
struct Paid {
    #[event(key)]
    customer: String,
    fails: bool,
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-db-policy", name = "order.shipped", version = 1)]
struct Shipped {
    #[event(key)]
    customer: String,
}

#[outbox::event_handler(group = "policy", attempts = 1, retry_topics = ["300ms"], later_events = "wait")]
async fn pay(
    tx: &mut OutboxTx<'_, Postgres>,
    event: Paid,
    context: &EventContext,
) -> Result<(), sqlx::Error> {
    if event.fails && context.attempt == 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    note(tx, &event.customer, 1).await
}

#[outbox::event_handler(group = "policy")]
async fn ship(
    tx: &mut OutboxTx<'_, Postgres>,
    event: Shipped,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    note(tx, &event.customer, 2).await
}

async fn note(tx: &mut OutboxTx<'_, Postgres>, customer: &str, n: i64) -> Result<(), sqlx::Error> {
    sqlx::query("insert into handled (consumer, customer, n) values ('policy', $1, $2)")
        .bind(customer)
        .bind(n)
        .execute(tx)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_handler_without_retry_topics_wait_behind_those_of_one_that_says_wait() {
    create_topic("consume-db-policy", 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Paid { customer: "a".to_owned(), fails: true }]).await;
    publish(&outbox, ["a", "b"].map(|customer| Shipped { customer: customer.to_owned() })).await;
    let consumer = new_consumer(&outbox).handler(pay()).handler(ship());
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "policy", 3).await;
    consumer.stop().await;
    let expected = [pairs("b", [2]), pairs("a", [1, 2])].concat();
    assert_eq!(handled, expected, "`b` does not wait, and `a` is shipped when it is paid");
}

#[tokio::test]
async fn handlers_that_disagree_on_the_order_of_a_key_are_refused_and_named() {
    let overtaking = ship().with_options(|_| QUICK.retry_topics(SHORT, LaterEvents::Overtake));
    let outbox = consumer_outbox().await;
    let consumer = new_consumer(&outbox).handler(pay()).handler(overtaking);
    let error = consumer.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for hint in
        ["consume-db-policy", "consume_db::pay", "consume_db::ship", "\"wait\"", "\"overtake\""]
    {
        assert!(error.to_string().contains(hint), "{error}");
    }
}
