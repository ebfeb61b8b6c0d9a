//! What consumers make of Kafka's own rules, on a real one: how work is shared, what topics take,
//! offsets that go back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::support::consumers::{
    Numbered, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox, dead_letters,
    handled_by, new_consumer, new_consumer_with, publish, run_error, until_dead_letters,
    until_handled,
};
use crate::support::topics::{admin, create_topic};
use crate::support::{self, eventually, eventually_some, kafka};
use outbox::consume::LaterEvents;
use outbox::{DomainEvent, ErrorKind};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(30);

fn member_of(group: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", kafka()).set("group.id", group).create().unwrap()
}

/// Member → topic → how many of its partitions it has, once `members` have joined and are told.
async fn shares(group: &'static str, members: usize) -> Vec<BTreeMap<String, usize>> {
    let shares = async || shares_of_stable(group, members);
    eventually_some(&format!("the group {group} has {members} members"), shares).await
}

fn shares_of_stable(group: &str, members: usize) -> Option<Vec<BTreeMap<String, usize>>> {
    // The group exists when its first member joins.
    let groups = member_of("nobody").fetch_group_list(Some(group), TIMEOUT).ok()?;
    let found = groups.groups().first()?;
    let is_stable = found.state() == "Stable" && found.members().len() == members;
    is_stable
        .then(|| found.members().iter().map(|member| share(member.assignment().unwrap())).collect())
}

/// Reads an assignment of Kafka's consumer protocol.
fn share(assignment: &[u8]) -> BTreeMap<String, usize> {
    let mut rest = &assignment[2..];
    let mut take = |bytes: usize| {
        let (taken, after) = rest.split_at(bytes);
        rest = after;
        taken.to_vec()
    };
    let number =
        |bytes: Vec<u8>| bytes.into_iter().fold(0, |number, byte| number << 8 | usize::from(byte));
    (0..number(take(4)))
        .map(|_| {
            let length = number(take(2));
            let topic = String::from_utf8(take(length)).unwrap();
            let partitions = number(take(4));
            take(4 * partitions);
            (topic, partitions)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_join_one_after_another_share_the_partitions_of_each_topic() {
    event_on_topic!(Created, "kafka-shared");
    create_topic(Created::TOPIC, 3, &[]).await;
    let outbox = consumer_outbox().await;
    const DELAYS: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(60)];
    let options = QUICK.retry_topics(DELAYS, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("shared", options, |_, _, _| async { Ok(()) });
    let mut members = Vec::new();
    for joined in 1..=3 {
        members.push(consume(&outbox, &handler));
        shares("shared", joined).await;
    }
    let shares = shares("shared", 3).await;
    for topic in ["", ".shared.retry.0", ".shared.retry.1s", ".shared.retry.1m"] {
        let topic = format!("{}{topic}", Created::TOPIC);
        for share in &shares {
            assert_eq!(share.get(&topic), Some(&1), "{topic}: {shares:?}");
        }
    }
    for member in members {
        member.stop().await;
    }
}

/// The offset at which the group continues.
fn committed(topic: &str, group: &str) -> Option<i64> {
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(topic, 0);
    let committed = member_of(group).committed_offsets(list, TIMEOUT).unwrap();
    committed.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_and_made_again_under_a_consumer_is_consumed_from_its_beginning() {
    event_on_topic!(Created, "kafka-anew");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let handler = Scripted::<Created>::new("anew", QUICK, |_, _, _| async { Ok(()) });
    let consumer = new_consumer_with(&outbox, &[("auto.commit.interval.ms", "100")]);
    let consumer = RunningConsumer::start(consumer.handler(Arc::clone(&handler)));
    publish(&outbox, (1..=8).map(|n| Created::new(format!("c{n}"), n))).await;
    until_handled(&outbox, "anew", 8).await;
    eventually("the offset is committed", async || committed(Created::TOPIC, "anew") == Some(8))
        .await;

    for deleted in admin().delete_topics(&[Created::TOPIC], &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
    let admin = admin();
    eventually("the topic is deleted", async || {
        let metadata = admin.inner().fetch_metadata(None, TIMEOUT).unwrap();
        metadata.topics().iter().all(|topic| topic.name() != Created::TOPIC)
    })
    .await;
    create_topic(Created::TOPIC, 1, &[]).await;
    publish(&outbox, (9..=11).map(|n| Created::new(format!("c{n}"), n))).await;
    assert_eq!(until_handled(&outbox, "anew", 11).await.len(), 11, "each once");
    consumer.stop().await;
    assert_eq!(committed(Created::TOPIC, "anew"), Some(3), "the place in the topic as it is now");
}

/// A message of an outbox, as large as is asked for: it cannot be compressed to less than half of
/// that.
async fn produce_large(topic: &str, key: &str, n: i64, bytes: usize) {
    let noise = (0..bytes / 32).map(|n| Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes()));
    let noise: String = noise.map(|noise| noise.simple().to_string()).collect();
    let payload = format!(r#"{{"customer":"{key}","tenant":"t","n":{n},"padding":"{noise}"}}"#);
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("message.max.bytes", "10000000")
        .create()
        .unwrap();
    let headers = [
        ("ce_id", &*Uuid::now_v7().to_string()),
        ("ce_type", "order.created"),
        ("ce_dataversion", "3"),
    ]
    .into_iter()
    .fold(OwnedHeaders::new(), |with, (key, value)| {
        with.insert(Header { key, value: Some(value) })
    });
    let record = FutureRecord::to(topic).key(key).payload(&payload).headers(headers);
    producer.send(record, TIMEOUT).await.unwrap();
}

const SHORT: &[Duration] = &[Duration::from_millis(200)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_for_retries_and_dead_letters_take_whatever_their_source_takes() {
    event_on_topic!(Created, "kafka-wide");
    create_topic(Created::TOPIC, 1, &[("max.message.bytes", "4000000")]).await;
    let outbox = consumer_outbox().await;
    produce_large(Created::TOPIC, "large", 1, 3_900_000).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("wide", options, |_, _, _| async { TRANSIENT });
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "wide", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.to_retry_topics, consumed.dead_letters), (1, 1));
    assert!(letters[0].payload.as_ref().is_some_and(|payload| payload.len() >= 3_900_000));
    assert_eq!((letters[0].payload_left_out, letters[0].attempts), (None, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_topic_takes_keeps_its_place_among_the_dead_letters_and_its_partition_goes_on() {
    event_on_topic!(Created, "kafka-narrow");
    create_topic(Created::TOPIC, 1, &[("max.message.bytes", "4000000")]).await;
    // They were there before: narrower than their source.
    for name in ["kafka-narrow.narrow.dlt", "kafka-narrow.narrow.retry.200ms"] {
        create_topic(name, 1, &[("max.message.bytes", "100000")]).await;
    }
    let outbox = consumer_outbox().await;
    produce_large(Created::TOPIC, "large", 1, 3_000_000).await;
    publish(&outbox, [Created::new("well", 2)]).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("narrow", options, |customer, _, _| async move {
        if customer == "large" { TRANSIENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "narrow", 1).await;
    until_handled(&outbox, "narrow", 1).await;
    consumer.stop().await;
    let letter = &letters[0];
    assert_eq!(letter.payload, None);
    assert!(letter.payload_left_out.is_some_and(|bytes| bytes > 3_000_000), "{letter:?}");
    assert_eq!((letter.original_offset, letter.key.as_deref()), (0, Some(&b"large"[..])));
    assert_eq!((letter.name.as_deref(), &*letter.error), (Some("order.created"), "not now"));
    assert_eq!(committed(Created::TOPIC, "narrow"), Some(2));

    let error = dead_letters(Created::TOPIC, "narrow").replay(letter).await.unwrap_err();
    assert!(error.to_string().contains("`kafka-narrow`, partition 0, offset 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_would_lose_events_are_refused_at_the_start() {
    event_on_topic!(Created, "kafka-losing");
    create_topic(Created::TOPIC, 1, &[]).await;
    create_topic("kafka-losing.losing.dlt", 1, &[("cleanup.policy", "compact")]).await;
    create_topic("kafka-losing.losing.retry.1h", 1, &[("retention.ms", "3600000")]).await;
    let outbox = consumer_outbox().await;
    const HOUR: &[Duration] = &[Duration::from_secs(3_600)];
    let options = QUICK.retry_topics(HOUR, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("losing", options, |_, _, _| async { Ok(()) });
    let consumer = new_consumer(&outbox).handler(handler);
    let error = run_error(consumer).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    for hint in [
        "`kafka-losing.losing.dlt`: `cleanup.policy=compact`",
        "`kafka-losing.losing.retry.1h`: `retention.ms=3600000`",
        "Nothing was consumed",
        "kafka-configs.sh",
    ] {
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "kafka-delays", name = "order.paid", version = 1)]
struct Paid {
    #[event(key)]
    customer: String,
    n: i64,
}

impl Numbered for Paid {
    fn number(&self) -> (&str, i64) {
        (&self.customer, self.n)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_wait_for_an_hour_do_not_hold_up_those_that_wait_for_less() {
    event_on_topic!(Created, "kafka-delays");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=4).map(|n| Created::new(format!("c{n}"), n))).await;
    publish(&outbox, [Paid { customer: "c1".to_owned(), n: 1 }]).await;
    const HOUR: &[Duration] = &[Duration::from_secs(3_600)];
    let (hour, short) = (
        QUICK.retry_topics(HOUR, LaterEvents::Overtake),
        QUICK.retry_topics(SHORT, LaterEvents::Overtake),
    );
    let slow = Scripted::<Created>::new("delays", hour, |_, _, _| async { TRANSIENT });
    let quick = Scripted::<Paid>::new("delays", short, |_, _, attempt| async move {
        if attempt == 1 { TRANSIENT } else { Ok(()) }
    });
    let consumer = new_consumer(&outbox).handler(slow).handler(Arc::clone(&quick));
    let consumer = RunningConsumer::start(consumer.max_in_flight(2));
    until_handled(&outbox, "delays", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!(quick.attempts_of("c1", 1), [1, 2]);
    assert_eq!((consumed.handled, consumed.to_retry_topics), (1, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_stands_still_leaves_the_others_their_share_of_the_bytes() {
    event_on_topic!(Created, "kafka-budget");
    create_topic(Created::TOPIC, 2, &[]).await;
    let outbox = consumer_outbox().await;
    // `still` never ends, and fills its partition; the others are of both partitions.
    let of_still = (0..40).map(|n| Created::new("still", n));
    let others = (0..40).map(|n| Created::new(format!("customer-{n}"), n));
    publish(&outbox, of_still.chain(others)).await;
    let handler = Scripted::<Created>::new("budget", QUICK, |customer, _, _| async move {
        if customer == "still" {
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    let consumer = new_consumer(&outbox)
        .handler(Arc::clone(&handler))
        .max_bytes_in_flight(20_000) // some ten messages
        .drain_timeout(Duration::from_millis(50));
    let consumer = RunningConsumer::start(consumer);
    let moving = partition_of_others(&outbox).await;
    let of_moving = handled_by(&outbox, "budget").await.into_iter().map(|(customer, _)| customer);
    assert!(moving.is_subset(&of_moving.collect()), "all of the other partition");
    consumer.stop().await;
}

/// The customers whose events are not on the partition of `still`, once they are all handled.
async fn partition_of_others(outbox: &outbox::Outbox<sqlx::Postgres>) -> BTreeSet<String> {
    let messages = support::topics::read_topic("kafka-budget").await;
    let still =
        messages.iter().find(|message| rdkafka::Message::key(*message) == Some(b"still")).unwrap();
    let still = rdkafka::Message::partition(still);
    let moving: BTreeSet<String> = messages
        .iter()
        .filter(|message| rdkafka::Message::partition(*message) != still)
        .map(|message| String::from_utf8(rdkafka::Message::key(message).unwrap().to_vec()).unwrap())
        .collect();
    assert!(moving.len() > 5, "{moving:?}");
    eventually("the other partition is handled", async || {
        let handled = handled_by(outbox, "budget").await.into_iter().map(|(customer, _)| customer);
        moving.is_subset(&handled.collect())
    })
    .await;
    moving
}
