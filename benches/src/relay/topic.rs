//! How much is on a topic, by its end offsets.

use std::time::{Duration, Instant};

use outbox_bench_report::Waited;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::{Failure, brokers};

const TIMEOUT: Duration = Duration::from_secs(30);

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

pub(crate) async fn wait(topic: &str, until: u64) -> Result<Waited, Failure> {
    create(topic, &[]).await?;
    Ends::of(topic)?.wait(until)
}
