//! What is counted in the database and on the topics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::OwnedMessage;
use sqlx::Pool;

use crate::database::Soaked;
use crate::groups::{GROUPS, PARTITIONS, RUNG_NAMES};
use crate::support::consumers::header;
use crate::support::topics::read_topic_of;

/// Everything of a topic by its ids: the group's dead letters for example.
async fn on(brokers: &str, topic: String) -> Vec<OwnedMessage> {
    read_topic_of(brokers.to_owned(), &topic).await
}

fn id(message: &OwnedMessage) -> String {
    header(message, "ce_id").unwrap_or_default().to_owned()
}

/// The offset that a group committed, for each partition.
fn committed(brokers: &str, group: &str, topic: &str) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(topic, partition);
    }
    // A broker that has just come back takes its time to know.
    let end = Instant::now() + Duration::from_secs(60);
    let committed = loop {
        match consumer.committed_offsets(list.clone(), Duration::from_secs(30)) {
            Ok(committed) => break committed,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    committed.elements().iter().map(|of| of.offset().to_raw().unwrap_or(-1)).collect()
}

/// The ids that a group has dealt with: its effects, its dead letters, and what waits in its retry
/// topics.
async fn dealt_with<DB: Soaked>(
    pool: &Pool<DB>,
    brokers: &str,
    group: &str,
    topic: &str,
) -> BTreeSet<String> {
    let effects = DB::effects(pool, (group, topic)).await;
    let mut ids: BTreeSet<String> = effects.iter().map(|(id, ..)| id.to_string()).collect();
    let rungs: &[&str] = if group == "stock" { &[] } else { &RUNG_NAMES };
    let topics = rungs
        .iter()
        .map(|delay| format!("{topic}.{group}.retry.{delay}"))
        .chain([format!("{topic}.{group}.dlt")]);
    for topic in topics {
        ids.extend(on(brokers, topic).await.iter().map(id));
    }
    ids
}

/// Checks that no offset is ahead of what was handled. No consumer may run meanwhile.
pub(crate) async fn assert_no_offset_ran_ahead<DB: Soaked>(pool: &Pool<DB>, brokers: &str) {
    for (group, topics, _) in GROUPS {
        for topic in topics {
            let committed = committed(brokers, group, topic);
            let dealt_with = dealt_with::<DB>(pool, brokers, group, topic).await;
            let kept = DB::kept(pool, (group, topic)).await;
            for message in on(brokers, (*topic).to_owned()).await {
                if message.offset() < committed[message.partition() as usize] {
                    assert!(
                        dealt_with.contains(&id(&message))
                            || kept.contains(&(message.partition(), message.offset())),
                        "{group} has passed {topic}/{}/{} by, and nothing came of it",
                        message.partition(),
                        message.offset()
                    );
                }
            }
        }
    }
}

/// How many events of a topic are neither an effect of the group nor among its dead letters.
pub(crate) async fn open_in<DB: Soaked>(
    pool: &Pool<DB>,
    brokers: &str,
    group: &str,
    topic: &str,
) -> i64 {
    let all: BTreeSet<String> = on(brokers, topic.to_owned()).await.iter().map(id).collect();
    let dead: BTreeSet<String> =
        on(brokers, format!("{topic}.{group}.dlt")).await.iter().map(id).collect();
    let effects = DB::effects(pool, (group, topic)).await;
    all.len() as i64 - dead.len() as i64 - effects.len() as i64
}

/// Counts what came of a topic in a group, and fails if anything was lost, done twice, or done out
/// of order.
pub(crate) async fn assert_settled<DB: Soaked>(
    pool: &Pool<DB>,
    brokers: &str,
    group: &str,
    topic: &str,
    ordered: bool,
) -> (usize, usize) {
    let published: BTreeSet<String> = on(brokers, topic.to_owned()).await.iter().map(id).collect();
    let letters = on(brokers, format!("{topic}.{group}.dlt")).await;
    let dead: BTreeSet<String> = letters.iter().map(id).collect();
    let effects = DB::effects(pool, (group, topic)).await;
    let done: BTreeSet<String> = effects.iter().map(|(id, ..)| id.to_string()).collect();
    assert_eq!(done.len(), effects.len(), "{group} {topic}: no effect twice");
    assert!(done.is_disjoint(&dead), "{group} {topic}: an effect, or a dead letter");
    let all: BTreeSet<String> = done.union(&dead).cloned().collect();
    assert_eq!(all, published, "{group} {topic}: every event");
    for letter in &letters {
        for name in [
            "outbox-original-topic",
            "outbox-original-partition",
            "outbox-original-offset",
            "outbox-original-timestamp",
            "outbox-group",
            "outbox-attempts",
            "outbox-error-class",
            "outbox-error",
            "outbox-first-failure",
            "outbox-last-failure",
        ] {
            assert!(header(letter, name).is_some(), "a dead letter of {group} without {name}");
        }
    }
    if ordered {
        let mut last = BTreeMap::new();
        for (_, customer, n) in &effects {
            let before = last.insert(customer, *n).unwrap_or(0);
            assert!(before < *n, "{group} {topic}: {customer} was handled {before}, {n}");
        }
    }
    (effects.len(), dead.len())
}
