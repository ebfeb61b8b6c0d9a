//! Topics: created, and read independently of the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use uuid::Uuid;

use super::oracle::Arrival;
use super::{eventually, kafka};

/// As many copies as the brokers' settings say.
const DEFAULT_REPLICATION: TopicReplication<'_> = TopicReplication::Fixed(-1);

pub fn admin() -> AdminClient<DefaultClientContext> {
    admin_of(&kafka())
}

fn admin_of(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// A new topic on the tests' Kafka.
pub async fn create_topic(name: &str, partitions: i32, config: &[(&str, &str)]) {
    create_topic_of(&kafka(), name, partitions, config).await;
}

/// Without what an earlier run has left on the same Kafka: the topic, and those of its consumers,
/// `<topic>.<group>.…`.
pub async fn create_topic_of(brokers: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin = admin_of(brokers);
    let new = NewTopic::new(name, partitions, DEFAULT_REPLICATION);
    let new = config.iter().fold(new, |new, (key, value)| new.set(key, value));
    let is_old = |other: &&str| {
        other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    eventually(&format!("topic {name} is new"), async || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(30)).unwrap();
        let topics = metadata.topics().iter().map(|topic| topic.name());
        let old: Vec<&str> = topics.filter(is_old).collect();
        if old.is_empty() {
            return is_created(&admin, &new).await;
        }
        delete_topics(&admin, &old).await;
        false
    })
    .await;
}

/// A topic that takes events while both of its replicas are in sync.
pub async fn create_replicated(brokers: &str, topic: &str) {
    let admin = admin_of(brokers);
    let new = NewTopic::new(topic, 3, TopicReplication::Fixed(2)).set("min.insync.replicas", "2");
    // The second broker takes a moment to be known.
    eventually("a replicated topic is made", async || {
        admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].is_ok()
    })
    .await;
}

async fn is_created(admin: &AdminClient<DefaultClientContext>, new: &NewTopic<'_>) -> bool {
    match admin.create_topics([new], &AdminOptions::new()).await.unwrap().remove(0) {
        Ok(_) => true,
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
        Err((topic, error)) => panic!("topic {topic}: {error}"),
    }
}

/// Has the topic take messages of ten megabytes.
pub async fn raise_limit(brokers: &str, topic: &str) {
    set(brokers, topic, "max.message.bytes", "10000000").await;
}

/// Sets this, and all else to its default.
pub async fn set(brokers: &str, topic: &str, setting: &str, value: &str) {
    let set = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(setting, value);
    admin_of(brokers).alter_configs([&set], &AdminOptions::new()).await.unwrap()[0]
        .as_ref()
        .unwrap();
}

/// Deletes a topic, and none of those of its consumers.
pub async fn delete_topic(name: &str) {
    delete_topics(&admin(), &[name]).await;
}

/// Creates a topic that was deleted a moment ago.
pub async fn create_again(name: &str) {
    let admin = admin();
    let new = NewTopic::new(name, 1, DEFAULT_REPLICATION);
    eventually(&format!("topic {name} is there again"), async || {
        let created = is_created(&admin, &new).await;
        if !created {
            delete_topics(&admin, &[name]).await;
        }
        created
    })
    .await;
}

async fn delete_topics(admin: &AdminClient<DefaultClientContext>, names: &[&str]) {
    // What is being deleted already is unknown to it.
    admin.delete_topics(names, &AdminOptions::new()).await.unwrap();
}

/// Everything on a topic, by an independent reading, from its beginning to its end as it is now.
pub async fn read_topic(topic: &str) -> Vec<OwnedMessage> {
    read_topic_of(kafka(), topic).await
}

pub async fn read_topic_of(brokers: String, topic: &str) -> Vec<OwnedMessage> {
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || read(&reader(&brokers, "read_committed"), &topic))
        .await
        .unwrap()
}

/// The events on topics that a consumer with `isolation.level=read_committed` gets, each topic to
/// its end: no transaction may be open on it.
pub async fn read_committed(brokers: &str, topics: &[&'static str]) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for topic in topics {
        let is_closed = async || has_no_open_transaction(brokers.to_owned(), topic).await;
        eventually(&format!("no transaction is open on {topic}"), is_closed).await;
        let messages = read_topic_of(brokers.to_owned(), topic).await;
        arrivals.extend(messages.iter().map(Arrival::of_message));
    }
    arrivals
}

pub async fn has_no_open_transaction(brokers: String, topic: &'static str) -> bool {
    let ends = move |isolation| ends(&reader(&brokers, isolation), topic);
    tokio::task::spawn_blocking(move || ends("read_committed") == ends("read_uncommitted"))
        .await
        .unwrap()
}

fn reader(brokers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", Uuid::now_v7().to_string())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        // It waits for nothing: what is there is all that it asks for.
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap()
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// The first and the next offset of each partition, as this consumer sees them.
fn ends(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, (i64, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
    let ends = |id| (id, consumer.fetch_watermarks(topic, id, TIMEOUT).unwrap());
    partitions.map(ends).collect()
}

fn read(consumer: &BaseConsumer, topic: &str) -> Vec<OwnedMessage> {
    let mut ends = ends(consumer, topic);
    ends.retain(|_, (first, next)| first < next);
    let mut assignment = TopicPartitionList::new();
    for partition in ends.keys() {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut messages = Vec::new();
    while !ends.is_empty() {
        match consumer.poll(TIMEOUT).expect("a message within 30 s") {
            Ok(message) => {
                let (partition, next) = (message.partition(), message.offset() + 1);
                messages.push(message.detach());
                // Another test may be writing to it: what comes after the end must not be counted
                // for another partition.
                if ends.get(&partition).is_some_and(|(_, end)| next >= *end) {
                    ends.remove(&partition);
                }
            }
            // The last offsets are the ends of transactions, or of none that was committed.
            Err(KafkaError::PartitionEOF(partition)) => drop(ends.remove(&partition)),
            Err(error) => panic!("{topic} cannot be read: {error}"),
        }
    }
    messages
}

/// The offset at which the group continues.
pub fn committed(topic: &str, group: &str) -> i64 {
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

/// Produces a record with any bytes.
pub async fn produce_raw(topic: &str, key: &str, payload: &[u8], headers: &[(&str, &[u8])]) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", kafka()).create().unwrap();
    let with = headers.iter().fold(OwnedHeaders::new(), |with, (key, value)| {
        with.insert(Header { key, value: Some(*value) })
    });
    let record = FutureRecord::to(topic).key(key).payload(payload).headers(with);
    producer.send(record, Duration::from_secs(30)).await.unwrap();
}

/// Produces the `n`th event of a key, which the oracle can judge.
pub async fn produce_numbered(producer: &FutureProducer, topic: &str, key: &str, n: i64) {
    let (id, payload) = (Uuid::now_v7().to_string(), format!(r#"{{"n":{n}}}"#));
    let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(&id) });
    let record = FutureRecord::to(topic).key(key).payload(&payload).headers(headers);
    producer.send(record, TIMEOUT).await.unwrap();
}
