//! Topics: created, and read independently of the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use uuid::Uuid;

use super::{eventually, kafka};

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
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
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

async fn is_created(admin: &AdminClient<DefaultClientContext>, new: &NewTopic<'_>) -> bool {
    match admin.create_topics([new], &AdminOptions::new()).await.unwrap().remove(0) {
        Ok(_) => true,
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
        Err((topic, error)) => panic!("topic {topic}: {error}"),
    }
}

/// Has the topic take messages of ten megabytes.
pub async fn raise_limit(brokers: &str, topic: &str) {
    let raise =
        AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", "10000000");
    admin_of(brokers).alter_configs([&raise], &AdminOptions::new()).await.unwrap()[0]
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
    let new = NewTopic::new(name, 1, TopicReplication::Fixed(1));
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
pub async fn read_topic(topic: &'static str) -> Vec<OwnedMessage> {
    read_topic_of(kafka(), topic).await
}

pub async fn read_topic_of(brokers: String, topic: &'static str) -> Vec<OwnedMessage> {
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", Uuid::now_v7().to_string())
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let timeout = Duration::from_secs(30);
        let metadata = consumer.fetch_metadata(Some(topic), timeout).unwrap();
        let mut assignment = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), timeout).unwrap();
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
            if high > low {
                ends.insert(partition.id(), high);
            }
        }
        consumer.assign(&assignment).unwrap();
        let mut messages = Vec::new();
        while !ends.is_empty() {
            let message = consumer.poll(timeout).expect("a message within 30 s").unwrap().detach();
            let (partition, next) = (message.partition(), message.offset() + 1);
            // Another test may be writing to it: what comes after the end must not be counted for
            // another partition.
            if ends.get(&partition).is_some_and(|end| next >= *end) {
                ends.remove(&partition);
            }
            messages.push(message);
        }
        messages
    })
    .await
    .unwrap()
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
