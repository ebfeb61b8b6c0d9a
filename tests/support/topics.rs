//! Topics: created, and read independently of the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::OwnedMessage;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use uuid::Uuid;

use super::kafka;

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

pub async fn create_topic_of(brokers: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    delete_topic_of(brokers, name).await;
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let new = config.iter().fold(new, |new, (key, value)| new.set(key, value));
    let create = async || {
        admin_of(brokers).create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0)
    };
    let mut created = create().await;
    // Of an earlier run of the test on the same servers, with those of its consumers:
    // `<topic>.<group>.…`.
    while let Err((_, RDKafkaErrorCode::TopicAlreadyExists)) = created {
        let metadata =
            admin_of(brokers).inner().fetch_metadata(None, Duration::from_secs(30)).unwrap();
        let topics = metadata.topics().iter().map(|topic| topic.name());
        let is_old = |other: &&str| {
            other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        delete_topics(brokers, &topics.filter(is_old).collect::<Vec<_>>()).await;
        created = create().await;
    }
    created.unwrap();
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
    delete_topics(&kafka(), &[name]).await;
}

/// Creates a topic that was deleted a moment ago.
pub async fn create_again(name: &str) {
    let new = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    while let Err((_, error)) =
        admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0)
    {
        assert_eq!(error, RDKafkaErrorCode::TopicAlreadyExists);
        delete_topic(name).await;
    }
}

async fn delete_topics(brokers: &str, names: &[&str]) {
    // What is being deleted already is unknown to it.
    admin_of(brokers).delete_topics(names, &AdminOptions::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // until the next look
}

/// What an earlier run has left on the same Kafka: the topic, and those for its retries and dead
/// letters.
async fn delete_topic_of(brokers: &str, name: &str) {
    let admin = admin_of(brokers);
    let of_topic = |other: &str| {
        let rest = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        other == name || rest.is_some_and(|rest| rest.ends_with(".dlt") || rest.contains(".retry."))
    };
    let left = || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(30)).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|other| of_topic(other)).collect::<Vec<_>>()
    };
    let names = left();
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        admin.delete_topics(&names, &AdminOptions::new()).await.unwrap();
        while !left().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
        }
    }
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
