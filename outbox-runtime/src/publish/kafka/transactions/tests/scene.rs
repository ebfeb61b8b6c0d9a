//! An outbox with three groups in a deployment of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::super::session::KafkaSession;
use crate::kafka::KafkaConfig;
use crate::publish::kafka::KafkaPublisher;
use crate::publish::transactions::{GroupId, GroupSession as _, TransactionalPublisher as _};
use crate::publish::{Batch, DeliveryReport};
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::trace::Tracing;

const GROUPS: u16 = 3;
const WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Scene {
    pub(super) publisher: KafkaPublisher,
    prefix: String,
}

/// An event of the topic `orders`.
pub(super) fn event(key: &str, payload: &str) -> StoredEvent {
    let mut record = EventRecord::of_key(Some(key));
    record.payload = Some(payload.as_bytes().into());
    StoredEvent { lane: Lane::of_key(key.as_bytes()), seq: 0, record, unreadable: None }
}

fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: run `cargo xtask test`, which starts a Kafka")
}

fn client() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers());
    client
}

impl Scene {
    /// With `partitions` of `orders`.
    pub(super) async fn begin(partitions: i32) -> Self {
        Self::begin_with(partitions, &[]).await
    }

    pub(super) async fn begin_with(partitions: i32, properties: &[(&str, &str)]) -> Self {
        let prefix = format!("t{}-", uuid::Uuid::now_v7().simple());
        let kafka = KafkaConfig::new(brokers()).property("allow.auto.create.topics", "false");
        let kafka =
            properties.iter().fold(kafka, |kafka, (name, value)| kafka.property(*name, *value));
        let publisher = KafkaPublisher::builder(kafka).topic_prefix(&*prefix).build().unwrap();
        let scene = Self { publisher, prefix };
        scene.create("orders", partitions, &[]).await;
        scene.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
        scene
    }

    pub(super) async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
        let name = format!("{}{topic}", self.prefix);
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        for created in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
    }

    pub(super) fn group(&self, group: u16) -> GroupId {
        GroupId { outbox: "shop".to_owned(), group, groups: GROUPS }
    }

    pub(super) async fn open(&self, group: u16) -> (KafkaSession, Option<Vec<u8>>) {
        self.publisher.open(&self.group(group)).await.unwrap()
    }

    pub(super) async fn send(
        &self,
        session: &KafkaSession,
        events: &[StoredEvent],
    ) -> Vec<DeliveryReport> {
        let tracing = Tracing::default();
        let lane = events[0].lane;
        let batch = Batch {
            events,
            lane,
            epoch: 1,
            alone: false,
            progress: None,
            place: None,
            passed_over: &[],
            tracing: &tracing,
        };
        session.send(batch).await
    }

    /// The payloads that are committed, sorted.
    pub(super) fn events(&self) -> Vec<String> {
        let mut events = self.events_in_order();
        events.sort();
        events
    }

    /// Those of each partition in its order.
    pub(super) fn events_in_order(&self) -> Vec<String> {
        let events = self.read("orders").into_values().flatten();
        events.map(|payload| String::from_utf8(payload).unwrap()).collect()
    }

    /// The progress that is committed, by group, as far as it was not compacted.
    pub(super) fn progress(&self) -> BTreeMap<i32, Vec<Vec<u8>>> {
        self.read("outbox-shop-progress")
    }

    fn read(&self, topic: &str) -> BTreeMap<i32, Vec<Vec<u8>>> {
        let topic = format!("{}{topic}", self.prefix);
        let mut config = client();
        config
            .set("group.id", "judge")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), WITHIN).unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            assignment.add_partition_offset(&topic, partition.id(), Offset::Beginning).unwrap();
        }
        let mut left = assignment.count();
        consumer.assign(&assignment).unwrap();
        let (mut read, begun) = (BTreeMap::<i32, Vec<Vec<u8>>>::new(), Instant::now());
        while left > 0 {
            assert!(begun.elapsed() < WITHIN, "{topic} has no end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default().to_vec();
                    read.entry(message.partition()).or_default().push(payload);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                Some(Err(_)) | None => {}
            }
        }
        read
    }

    /// Writes progress that is aborted, by a producer that no group has.
    pub(super) fn abort_progress(&self, group: u16, records: usize) {
        let topic = format!("{}outbox-shop-progress", self.prefix);
        let mut config = client();
        config.set("transactional.id", format!("{}stranger", self.prefix));
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(WITHIN).unwrap();
        producer.begin_transaction().unwrap();
        for _ in 0..records {
            let record =
                BaseRecord::to(&topic).partition(i32::from(group)).key("0").payload("aborted");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(WITHIN).unwrap();
        producer.abort_transaction(WITHIN).unwrap();
    }
}
