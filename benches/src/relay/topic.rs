//! How much is on a topic, by its end offsets.

use std::time::{Duration, Instant};

use outbox_bench_report::Waited;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::{Failure, brokers};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a thousand topics.
const CREATED_WITHIN: Duration = Duration::from_secs(60);
/// Of all topics.
const LOGS_WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Ends {
    consumer: BaseConsumer,
    topic: String,
}

impl Ends {
    pub(crate) fn of(topic: &str) -> Result<Self, Failure> {
        let consumer = ClientConfig::new().set("bootstrap.servers", brokers()?).create()?;
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    pub(crate) fn sum(&self) -> Result<u64, Failure> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), TIMEOUT)?;
        let mut sum = 0;
        for partition in metadata.topics()[0].partitions() {
            sum += self
                .consumer
                .fetch_watermarks(&self.topic, partition.id(), TIMEOUT)?
                .1
                .unsigned_abs();
        }
        Ok(sum)
    }

    /// Waits until the topic has `until` records.
    pub(crate) fn wait(&self, until: u64) -> Result<Waited, Failure> {
        let begin = Instant::now();
        let from = self.sum()?;
        let (mut seen, mut since) = (from, begin);
        while seen < until {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.sum()?;
            if now > seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(120) {
                return Err(format!(
                    "{now} of {until} events are on the topic `{}`, and no more come",
                    self.topic
                )
                .into());
            }
        }
        Ok(Waited { from, seconds: begin.elapsed().as_secs_f64() })
    }
}

pub(crate) async fn create(topic: &str, config: &[(&str, &str)]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()?).create()?;
    let mut new = NewTopic::new(topic, 6, TopicReplication::Fixed(1));
    for (name, value) in config {
        new = new.set(name, value);
    }
    admin.create_topics([&new], &AdminOptions::new()).await?;
    Ok(())
}

/// Creates those that are missing, of a partition each, and waits until the broker has their logs.
/// The controller takes at most 10,000 records at a time, of which a topic is two.
pub(crate) async fn create_small(topics: &[String]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()?).create()?;
    let options = AdminOptions::new()
        .request_timeout(Some(CREATED_WITHIN))
        .operation_timeout(Some(CREATED_WITHIN));
    for some in topics.chunks(1_000) {
        let new: Vec<_> =
            some.iter().map(|topic| NewTopic::new(topic, 1, TopicReplication::Fixed(1))).collect();
        for created in admin.create_topics(&new, &options).await? {
            match created {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, error)) => return Err(format!("topic `{topic}`: {error}").into()),
            }
        }
    }
    let topics = topics.to_vec();
    tokio::task::spawn_blocking(move || wait_for_logs(&topics)).await?
}

/// The controller answers before the broker has made the logs. Until then, the broker refuses what
/// is sent there.
fn wait_for_logs(topics: &[String]) -> Result<(), Failure> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers()?).create()?;
    let until = Instant::now() + LOGS_WITHIN;
    for some in topics.chunks(1_000) {
        let mut first = TopicPartitionList::with_capacity(some.len());
        for topic in some {
            first.add_partition_offset(topic, 0, Offset::Offset(0))?;
        }
        let have_logs = |found: &TopicPartitionList| {
            found.elements().iter().all(|partition| partition.error().is_ok())
        };
        while !consumer.offsets_for_times(first.clone(), TIMEOUT).is_ok_and(|f| have_logs(&f)) {
            if Instant::now() > until {
                return Err(format!("the broker has not made all logs in {LOGS_WITHIN:?}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

pub(crate) async fn wait(topic: &str, until: u64) -> Result<Waited, Failure> {
    create(topic, &[]).await?;
    Ends::of(topic)?.wait(until)
}
