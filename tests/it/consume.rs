//! What consumers promise, on a real Kafka and a real Postgres: order, retries, dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::consumers::{
    PERMANENT, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox, dead_letters,
    handled_by, header, new_consumer, new_consumer_with, pairs, produce, publish, run_error,
    until_dead_letters, until_handled,
};
use crate::support::topics::{admin, create_topic, read_topic};
use crate::support::{eventually, kafka};
use outbox::consume::{EventContext, ForeignId, LaterEvents, Undecodable, handler_fn};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxTx};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;
use tokio::sync::Barrier;

const SHORT: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(200)];

/// How many events wait in a retry topic, or behind one that does.
async fn waiting(outbox: &Outbox<Postgres>) -> i64 {
    sqlx::query_scalar("select count(*) from outbox_key_queue")
        .fetch_one(outbox.pool())
        .await
        .unwrap()
}

/// The offset at which the group continues.
fn committed(topic: &str, group: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(topic, 0);
    let committed = consumer.committed_offsets(list, Duration::from_secs(30)).unwrap();
    committed.elements()[0].offset().to_raw().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_one_partition_are_handled_at_the_same_time() {
    event_on_topic!(Created, "consume-parallel");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, ["a", "b", "c", "d"].map(|customer| Created::new(customer, 1))).await;
    // No handler continues until all four are there.
    let together = Arc::new(Barrier::new(4));
    let handler = Scripted::<Created>::new("parallel", QUICK, move |_, _, _| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            Ok(())
        }
    });

    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "parallel", 4).await;
    assert_eq!(consumer.stop().await.handled, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_event_holds_up_its_key_in_order_and_no_other() {
    event_on_topic!(Created, "consume-in-place");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).flat_map(|n| [Created::new("a", n), Created::new("b", n)])).await;
    // The first event of `a` fails at first, and until all of `b` is handled.
    let of_b = Arc::new(AtomicUsize::new(0));
    let handler =
        Scripted::<Created>::new("in-place", QUICK.retry_forever(), move |customer, n, attempt| {
            let of_b = Arc::clone(&of_b);
            async move {
                if customer == "b" {
                    of_b.fetch_add(1, Ordering::SeqCst);
                } else if n == 1 && (attempt == 1 || of_b.load(Ordering::SeqCst) < 3) {
                    return TRANSIENT;
                }
                Ok(())
            }
        });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "in-place", 6).await;
    consumer.stop().await;
    let (of_a, of_b): (Vec<_>, Vec<_>) =
        handled.into_iter().partition(|(customer, _)| customer == "a");
    assert_eq!(of_a, pairs("a", 1..=3), "in order, each once");
    assert_eq!(of_b, pairs("b", 1..=3), "in order, each once");
    assert!(handler.attempts_of("a", 1).len() > 1, "it was retried");
    assert_eq!(
        handler.attempts_of("a", 1),
        (1..=handler.attempts_of("a", 1).len() as u32).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_offset_runs_ahead_of_an_event_that_is_not_done() {
    event_on_topic!(Created, "consume-offsets");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let events =
        |numbers: std::ops::Range<i64>| numbers.map(|n| Created::new(format!("customer-{n}"), n));
    publish(&outbox, events(0..5)).await;
    publish(&outbox, events(5..6)).await;
    publish(&outbox, events(6..20)).await;
    let handler = Scripted::<Created>::new("offsets", QUICK, |_, n, _| async move {
        if n == 5 {
            std::future::pending::<()>().await; // until the consumer is stopped
        }
        Ok(())
    });
    let consumer = new_consumer(&outbox)
        .handler(Arc::clone(&handler))
        .drain_timeout(Duration::from_millis(50));
    let consumer = RunningConsumer::start(consumer);
    until_handled(&outbox, "offsets", 19).await;
    assert_eq!(consumer.stop().await.handled, 19);
    assert_eq!(committed(Created::TOPIC, "offsets"), 5, "the event that is not done comes again");

    let handler = Scripted::<Created>::new("offsets", QUICK, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "offsets", 20).await;
    let consumed = consumer.stop().await;
    assert_eq!(committed(Created::TOPIC, "offsets"), 20);
    assert_eq!(consumed.handled, 1, "the others were known: {consumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_and_time_outs_are_failed_attempts_that_leave_nothing_behind() {
    event_on_topic!(Created, "consume-panics");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(
        &outbox,
        [Created::new("panics", 1), Created::new("hangs", 1), Created::new("well", 1)],
    )
    .await;
    let options = QUICK.timeout(Duration::from_millis(300));
    let handler = Scripted::<Created>::new("panics", options, |customer, _, attempt| async move {
        match (&*customer, attempt) {
            ("panics", 1) => panic!("oh no"),
            ("hangs", 1) => std::future::pending().await,
            _ => Ok(()),
        }
    });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "panics", 3).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled.len(), 3, "each once: {handled:?}");
    assert_eq!((consumed.handled, consumed.dead_letters), (3, 0));
    assert_eq!(handler.attempts_of("panics", 1), [1, 2]);
    assert_eq!(handler.attempts_of("hangs", 1), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_a_dead_letter_with_all_that_is_known_of_it() {
    event_on_topic!(Created, "consume-dead");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("hopeless", 1)]).await;
    publish(&outbox, [Created::new("unlucky", 1)]).await;
    produce(
        Created::TOPIC,
        "garbage",
        "{",
        &[
            ("ce_id", "018f0000-0000-7000-8000-000000000000"),
            ("ce_type", "order.created"),
            ("ce_dataversion", "3"),
        ],
    )
    .await;
    produce(
        Created::TOPIC,
        "newer",
        "{}",
        &[
            ("ce_id", "018f0000-0000-7000-8000-000000000001"),
            ("ce_type", "order.created"),
            ("ce_dataversion", "9"),
        ],
    )
    .await;
    produce(Created::TOPIC, "foreign", "hello", &[]).await;
    produce(
        Created::TOPIC,
        "other",
        "{}",
        &[("ce_type", "order.cancelled"), ("ce_dataversion", "1")],
    )
    .await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler =
        Scripted::<Created>::new("dead", QUICK.attempts(3), |customer, _, _| async move {
            match &*customer {
                "hopeless" => PERMANENT,
                "unlucky" => TRANSIENT,
                _ => Ok(()),
            }
        });

    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "dead", 5).await;
    assert_eq!(until_handled(&outbox, "dead", 1).await, pairs("well", [1]), "no key is blocked");
    let consumed = consumer.stop().await;
    assert_eq!((consumed.dead_letters, consumed.passed_over), (5, 1));
    assert_eq!(committed(Created::TOPIC, "dead"), 7);

    let of = |key: &str| {
        letters.iter().find(|letter| letter.key.as_deref() == Some(key.as_bytes())).unwrap()
    };
    let (hopeless, unlucky) = (of("hopeless"), of("unlucky"));
    assert_eq!(
        (&*hopeless.error_class, hopeless.attempts, &*hopeless.error),
        ("permanent", 1, "never")
    );
    assert_eq!(
        (&*unlucky.error_class, unlucky.attempts, &*unlucky.error),
        ("transient", 3, "not now")
    );
    assert_eq!(
        (&*unlucky.original_topic, unlucky.original_partition, unlucky.original_offset),
        (Created::TOPIC, 0, 1)
    );
    assert!(unlucky.first_failure.unwrap() <= unlucky.last_failure.unwrap());
    assert_eq!((unlucky.name.as_deref(), unlucky.version), (Some("order.created"), Some(3)));
    for (key, hint) in
        [("garbage", "cannot be decoded"), ("newer", "version 9"), ("foreign", "no outbox wrote")]
    {
        assert_eq!((&*of(key).error_class, of(key).attempts), ("undecodable", 0));
        assert!(of(key).error.contains(hint), "{}", of(key).error);
    }
    assert_eq!(of("garbage").payload.as_deref(), Some(&b"{"[..]));

    // By an independent reading: the bytes, key and headers are what they were.
    let on_topic = read_topic("consume-dead.dead.dlt").await;
    let message = on_topic.iter().find(|message| message.key() == Some(b"unlucky")).unwrap();
    let original = read_topic(Created::TOPIC).await;
    let original = original.iter().find(|message| message.key() == Some(b"unlucky")).unwrap();
    assert_eq!(message.payload(), original.payload());
    for name in ["ce_id", "ce_type", "ce_source", "ce_dataversion", "content-type", "x-tenant"] {
        assert_eq!(header(message, name), header(original, name), "{name}");
        assert!(header(message, name).is_some(), "{name}");
    }
    assert_eq!(header(message, "outbox-group"), Some("dead"));
    assert_eq!(
        header(message, "outbox-original-timestamp").unwrap(),
        original.timestamp().to_millis().unwrap().to_string()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_dead_letter_is_handled_once_and_by_its_own_group_only() {
    event_on_topic!(Created, "consume-replayed");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).map(|n| Created::new("a", n))).await;
    let broken = Scripted::<Created>::new("replayed", QUICK, |_, n, _| async move {
        if n < 3 { PERMANENT } else { Ok(()) }
    });
    let other = Scripted::<Created>::new("not-replayed", QUICK, |_, _, _| async { Ok(()) });
    let other_consumer = consume(&outbox, &other);
    let consumer = consume(&outbox, &broken);
    let letters = until_dead_letters(Created::TOPIC, "replayed", 2).await;
    until_handled(&outbox, "replayed", 1).await;
    consumer.stop().await;

    // The cause is fixed; the first is replayed twice by mistake, the second is discarded.
    let fixed = Scripted::<Created>::new("replayed", QUICK, |_, _, _| async { Ok(()) });
    let dead_letters = dead_letters(Created::TOPIC, "replayed");
    dead_letters.replay(&letters[0]).await.unwrap();
    dead_letters.replay(&letters[0]).await.unwrap();
    dead_letters.discard(&letters[1]).await.unwrap();
    assert_eq!(dead_letters.list(10).await.unwrap(), []);
    let consumer = consume(&outbox, &fixed);
    until_handled(&outbox, "replayed", 2).await;
    publish(&outbox, [Created::new("a", 4)]).await;
    assert_eq!(until_handled(&outbox, "replayed", 3).await, pairs("a", [3, 1, 4]));
    until_handled(&outbox, "not-replayed", 4).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (2, 1));
    assert_eq!(other_consumer.stop().await.handled, 4);
    assert_eq!(other.attempts_of("a", 1), [1], "the other group saw it once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_climbs_its_retry_topics_and_then_becomes_a_dead_letter() {
    event_on_topic!(Created, "consume-schedule");
    create_topic(Created::TOPIC, 2, &[]).await;
    let outbox = consumer_outbox().await;
    publish(
        &outbox,
        [Created::new("never", 1), Created::new("later", 1), Created::new("later", 2)],
    )
    .await;
    let options = QUICK.attempts(2).retry_topics(SHORT, LaterEvents::Overtake);
    let handler =
        Scripted::<Created>::new("schedule", options, |customer, n, attempt| async move {
            match (&*customer, n, attempt) {
                ("never", ..) | ("later", 1, 1..=3) => TRANSIENT,
                _ => Ok(()),
            }
        });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "schedule", 2).await;
    let letters = until_dead_letters(Created::TOPIC, "schedule", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled, pairs("later", [2, 1]), "the later one has overtaken");
    assert_eq!(
        handler.attempts_of("later", 1),
        [1, 2, 3, 4],
        "two in place, and one after each retry topic"
    );
    assert_eq!(handler.attempts_of("never", 1), [1, 2, 3, 4]);
    assert_eq!((letters[0].attempts, &*letters[0].original_topic), (4, Created::TOPIC));
    assert_eq!((consumed.to_retry_topics, consumed.dead_letters), (4, 1));
    let partitions = admin()
        .inner()
        .fetch_metadata(Some("consume-schedule.schedule.retry.200ms"), Duration::from_secs(30))
        .unwrap();
    assert_eq!(partitions.topics()[0].partitions().len(), 2, "as many as the topic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_events_wait_behind_one_in_a_retry_topic_and_other_keys_do_not() {
    event_on_topic!(Created, "consume-wait");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=5).flat_map(|n| [Created::new("a", n), Created::new("b", n)])).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("wait", options, |customer, n, attempt| async move {
        match (&*customer, n, attempt) {
            ("a", 1, 1..=2) | ("a", 3, 1) => TRANSIENT,
            _ => Ok(()),
        }
    });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "wait", 10).await;
    // New ones, while and after the old ones wait.
    publish(&outbox, (6..=8).map(|n| Created::new("a", n))).await;
    let all = until_handled(&outbox, "wait", 13).await;
    let consumed = consumer.stop().await;
    let of =
        |customer: &str| all.iter().filter(|(c, _)| c == customer).cloned().collect::<Vec<_>>();
    assert_eq!(of("a"), pairs("a", 1..=8), "in order, each once");
    assert_eq!(of("b"), pairs("b", 1..=5));
    let first_of_a = handled.iter().position(|(customer, _)| customer == "a").unwrap();
    let last_of_b = handled.iter().rposition(|(customer, _)| customer == "b").unwrap();
    assert!(last_of_b < first_of_a, "`b` did not wait: {handled:?}");
    assert_eq!(consumed.dead_letters, 0);
    assert_eq!(waiting(&outbox).await, 0, "nothing is noted as waiting any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_on_when_the_event_it_waits_for_becomes_a_dead_letter() {
    event_on_topic!(Created, "consume-unblocked");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).map(|n| Created::new("a", n))).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("unblocked", options, |_, n, _| async move {
        if n == 1 { TRANSIENT } else { Ok(()) }
    });

    let consumer = consume(&outbox, &handler);
    until_dead_letters(Created::TOPIC, "unblocked", 1).await;
    assert_eq!(until_handled(&outbox, "unblocked", 2).await, pairs("a", [2, 3]));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_in_a_retry_topic_outlives_its_consumer() {
    event_on_topic!(Created, "consume-survives");
    create_topic(Created::TOPIC, 1, &[]).await;
    create_topic("consume-survives.survives.retry.1m", 1, &[]).await; // it is looked into at once
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("a", 1)]).await;
    const MINUTE: &[Duration] = &[Duration::from_secs(60)];
    let minute = QUICK.retry_topics(MINUTE, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("survives", minute, |_, _, _| async { TRANSIENT });
    let consumer = consume(&outbox, &handler);
    eventually("the event is in its retry topic", async || {
        !read_topic("consume-survives.survives.retry.1m").await.is_empty()
    })
    .await;
    consumer.abort().await;

    // Not due for a minute: a new consumer leaves it alone, and parks what comes behind it.
    let handler = Scripted::<Created>::new("survives", minute, |_, _, _| async { Ok(()) });
    let consumer = new_consumer_with(&outbox, &[("session.timeout.ms", "6000")]);
    let consumer = RunningConsumer::start(consumer.handler(Arc::clone(&handler)));
    publish(&outbox, [Created::new("a", 2), Created::new("b", 1)]).await;
    until_handled(&outbox, "survives", 1).await;
    eventually("two events wait", async || waiting(&outbox).await >= 2).await;
    assert_eq!(handled_by(&outbox, "survives").await, pairs("b", [1]));
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.to_retry_topics, consumed.queued), (1, 0, 1));
    let in_retry_topic = read_topic("consume-survives.survives.retry.1m").await;
    assert_eq!(in_retry_topic.len(), 1, "the first of `a`; the second is kept behind it");
    let due: u64 = header(&in_retry_topic[0], "outbox-due").unwrap().parse().unwrap();
    let failed: u64 = header(&in_retry_topic[0], "outbox-last-failure").unwrap().parse().unwrap();
    assert!(
        due >= failed + 59_000,
        "a minute after it failed, but for the time of writing that down"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_slower_than_the_poll_interval_keeps_its_partition() {
    event_on_topic!(Created, "consume-slow");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=10).map(|n| Created::new(format!("customer-{n}"), n))).await;
    let handler = Scripted::<Created>::new("slow", QUICK, |_, n, _| async move {
        if n == 1 {
            tokio::time::sleep(Duration::from_secs(9)).await; // this is what is slow
        }
        Ok(())
    });
    let timeouts = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let consumer = new_consumer_with(&outbox, &timeouts).handler(Arc::clone(&handler));
    let consumer = RunningConsumer::start(consumer.max_in_flight(2));
    until_handled(&outbox, "slow", 10).await;
    let consumed = consumer.stop().await;
    assert_eq!(
        (consumed.handled, consumed.duplicates),
        (10, 0),
        "no partition was lost and read again"
    );
    assert_eq!(handler.attempts.lock().unwrap().len(), 10);
    assert_eq!(committed(Created::TOPIC, "slow"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_cannot_be_written_stops_its_partition_and_nothing_is_dropped() {
    event_on_topic!(Created, "consume-unwritable");
    create_topic(Created::TOPIC, 1, &[]).await;
    // It takes nothing: that would be larger than this.
    create_topic("consume-unwritable.unwritable.dlt", 1, &[("max.message.bytes", "10")]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("hopeless", 1)]).await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler = Scripted::<Created>::new("unwritable", QUICK, |customer, _, _| async move {
        if customer == "hopeless" { PERMANENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "unwritable", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (1, 0));
    assert!(committed(Created::TOPIC, "unwritable") <= 0, "the event is not passed over");

    let resource = ResourceSpecifier::Topic("consume-unwritable.unwritable.dlt");
    let larger = AlterConfig::new(resource).set("max.message.bytes", "1000000");
    for altered in admin().alter_configs([&larger], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "unwritable", 1).await;
    consumer.stop().await;
    assert_eq!(letters[0].key.as_deref(), Some(&b"hopeless"[..]));
    assert_eq!(committed(Created::TOPIC, "unwritable"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_foreign_producers_are_handled_once_by_what_the_user_names() {
    event_on_topic!(Created, "consume-foreign");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let payload = |n: i64| format!(r#"{{"customer":"a","tenant":"t","n":{n}}}"#);
    for (n, request) in [(1, "r1"), (1, "r1"), (2, "r2")] {
        produce(Created::TOPIC, "a", &payload(n), &[("x-request", request)]).await;
    }
    let by_header = QUICK.foreign(ForeignId::Header("x-request"));
    let handler = Scripted::<Created>::new("foreign", by_header, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "foreign", 2).await, pairs("a", [1, 2]));
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (2, 1));

    let by_place = QUICK.foreign(ForeignId::Place);
    let handler = Scripted::<Created>::new("foreign-place", by_place, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "foreign-place", 3).await, pairs("a", [1, 1, 2]));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_an_event_can_be_skipped_instead() {
    event_on_topic!(Created, "consume-skipped");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    produce(Created::TOPIC, "garbage", "{", &[]).await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler = Scripted::<Created>::new("skipped", QUICK, |_, _, _| async { Ok(()) });
    let consumer =
        new_consumer(&outbox).handler(Arc::clone(&handler)).undecodable(Undecodable::Skip);
    let consumer = RunningConsumer::start(consumer);
    until_handled(&outbox, "skipped", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.undecodable_skipped, consumed.dead_letters), (1, 1, 0));
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-versions", name = "price.changed", version = 1)]
struct PriceV1 {
    #[event(key)]
    item: String,
    euros: i64,
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-versions", name = "price.changed", version = 2, upcast_from = PriceV1)]
struct Price {
    #[event(key)]
    item: String,
    cents: i64,
}

impl From<PriceV1> for Price {
    fn from(old: PriceV1) -> Self {
        Self { item: old.item, cents: old.euros * 100 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_of_the_new_version_takes_the_old_one() {
    async fn note(
        tx: &mut OutboxTx<'_, Postgres>,
        price: Price,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("insert into handled (consumer, customer, n) values ('versions', $1, $2)")
            .bind(format!("{} v{}", price.item, context.version))
            .bind(price.cents)
            .execute(tx)
            .await?;
        Ok(())
    }
    create_topic("consume-versions", 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [PriceV1 { item: "apple".to_owned(), euros: 2 }]).await;
    publish(&outbox, [Price { item: "apple".to_owned(), cents: 199 }]).await;
    let consumer = new_consumer(&outbox).group("versions").handler(handler_fn(note));
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "versions", 2).await;
    consumer.stop().await;
    assert_eq!(handled, [("apple v1".to_owned(), 200), ("apple v2".to_owned(), 199)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_move_between_members_are_handled_once_and_in_order() {
    event_on_topic!(Created, "consume-rebalance");
    create_topic(Created::TOPIC, 4, &[]).await;
    let outbox = consumer_outbox().await;
    const EACH: i64 = 40;
    let customers = || (0..12).map(|n| format!("customer-{n}"));
    publish(
        &outbox,
        (1..=EACH).flat_map(|n| customers().map(move |customer| Created::new(customer, n))),
    )
    .await;
    let handler = Scripted::<Created>::new("rebalance", QUICK, |_, n, attempt| async move {
        tokio::task::yield_now().await;
        if n % 10 == 0 && attempt == 1 { TRANSIENT } else { Ok(()) }
    });

    // Members join, leave and die while the events are handled. Few in flight: partitions are
    // paused most of the time, also when they move to another member and come back.
    let member = || {
        let consumer = new_consumer_with(&outbox, &[("session.timeout.ms", "6000")]);
        RunningConsumer::start(consumer.handler(Arc::clone(&handler)).max_in_flight(4))
    };
    let mut members = vec![member()];
    for (round, due) in [100, 200, 300].into_iter().enumerate() {
        until_handled(&outbox, "rebalance", due).await;
        members.push(member());
        if round == 1 {
            members.remove(0).stop().await;
        } else if round == 2 {
            members.remove(0).abort().await;
        }
    }
    let handled = until_handled(&outbox, "rebalance", 12 * EACH as usize).await;
    for member in members {
        member.stop().await;
    }
    assert_eq!(handled.len(), 12 * EACH as usize, "each once");
    for customer in customers() {
        let of: Vec<_> = handled.iter().filter(|(c, _)| *c == customer).cloned().collect();
        assert_eq!(of, pairs(&customer, 1..=EACH), "in order, each once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_are_missing_and_not_to_be_created_are_named() {
    event_on_topic!(Created, "consume-missing");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let handler = Scripted::<Created>::new("missing", QUICK, |_, _, _| async { Ok(()) });
    let consumer = new_consumer(&outbox).handler(handler).create_topics(false);
    let error = run_error(consumer).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    for hint in [
        "consume-missing.missing.dlt",
        "consume-missing.missing.retry.0",
        "kafka-topics.sh",
        "Nothing was consumed",
    ] {
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn groups_are_named_once_and_are_legal() {
    event_on_topic!(Created, "consume-groups");
    let outbox = consumer_outbox().await;
    let handler = |group| Scripted::<Created>::new(group, QUICK, |_, _, _| async { Ok(()) });
    let consumer = || new_consumer(&outbox);
    for (consumer, hint) in [
        (consumer().handler(handler("one")).group("two"), "one, two: make a consumer for each"),
        (consumer().group(" ").handler(handler(" ")), "needs a group"),
        (consumer().handler(handler("spaces in it")), "Choose another group"),
    ] {
        let error = consumer.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_dead_process_has_left_stranded_are_drained() {
    event_on_topic!(Created, "consume-left");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    // As a process leaves it that dies between its commit of the first event and the second: no
    // worker holds the second one.
    for n in [2, 3] {
        let id = uuid::Uuid::now_v7();
        let headers: Vec<(&str, Option<Vec<u8>>)> = vec![
            ("ce_id", Some(id.to_string().into_bytes())),
            ("ce_type", Some(b"order.created".to_vec())),
            ("ce_dataversion", Some(b"3".to_vec())),
        ];
        sqlx::query(
            "insert into outbox_key_queue (consumer_group, topic, key, key_digest, event_id, source_partition,
                                         source_offset, state, headers, payload, since)
             values ('left', $1, 'a', $5, $6, 0, $2, 'kept', $3, $4, now() - interval '2 minutes')",
        )
        .bind(Created::TOPIC)
        .bind(n)
        .bind(serde_json::to_vec(&headers).unwrap())
        .bind(serde_json::to_vec(&Created::new("a", n)).unwrap())
        .bind(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, b"a"))
        .bind(id)
        .execute(outbox.pool())
        .await
        .unwrap();
    }
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("left", options, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "left", 2).await, pairs("a", [2, 3]));
    consumer.stop().await;
    assert_eq!(waiting(&outbox).await, 0);
}

#[tokio::test]
async fn a_handler_that_swallows_an_error_of_the_database_has_failed() {
    event_on_topic!(Created, "consume-swallowed");
    async fn swallow(
        tx: &mut OutboxTx<'_, Postgres>,
        _: Created,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        let _ = sqlx::query("select 1 / 0").execute(tx).await;
        Ok(())
    }
    let outbox = consumer_outbox().await;
    let handler = HandlerTest::new(outbox.clone(), handler_fn(swallow)).unwrap();
    let message = TestMessage::of(&Created::new("a", 1)).unwrap();
    for _ in 0..2 {
        let delivery = handler.deliver(&message).await.unwrap();
        assert!(
            matches!(&delivery, Delivery::Failed { error, .. } if error.contains("aborted")),
            "{delivery:?}"
        );
    }
}

#[tokio::test]
async fn the_inbox_forgets_what_is_old_and_nothing_else() {
    let outbox = consumer_outbox().await;
    sqlx::query(
        "insert into outbox_inbox (consumer_group, event_id, handled_at)
         select g, gen_random_uuid(), now() - days * interval '1 day'
         from unnest(array['old', 'other']) g, generate_series(0, 9) days, generate_series(1, 1000)",
    )
    .execute(outbox.pool())
    .await
    .unwrap();
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    assert_eq!(
        outbox.forget_handled("old", week).await.unwrap(),
        3_000,
        "those of 7, 8 and 9 days ago"
    );
    assert_eq!(outbox.forget_handled("old", week).await.unwrap(), 0);
    let left: i64 = sqlx::query_scalar("select count(*) from outbox_inbox")
        .fetch_one(outbox.pool())
        .await
        .unwrap();
    assert_eq!(left, 17_000);
}
