//! How much is on a topic, by its end offsets.

use std::time::{Duration, Instant};

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

    /// Waits until the topic has `until` records. Returns their number at first, and the seconds
    /// it waited.
    pub(crate) fn wait(&self, until: u64) -> Result<(u64, f64), Failure> {
        let begin = Instant::now();
        let at_first = self.sum()?;
        let mut last = (at_first, begin);
        while last.0 < until {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.sum()?;
            if now > last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(120) {
                return Err(format!(
                    "{now} of {until} events are on the topic `{}`, and no more come",
                    self.topic
                )
                .into());
            }
        }
        Ok((at_first, begin.elapsed().as_secs_f64()))
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

pub(crate) async fn wait(topic: &str, until: u64) -> Result<(), Failure> {
    create(topic, &[]).await?;
    let (from, seconds) = Ends::of(topic)?.wait(until)?;
    println!(r#"{{"from": {from}, "seconds": {seconds:.4}}}"#);
    Ok(())
}
