//! When events arrive at a consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::Number;
use crate::{Failure, TOPIC, brokers};

/// When each number arrived, by the number.
pub(super) type Arrivals = Vec<Option<Instant>>;

/// A consumer on a thread of its own.
pub(super) struct Consuming {
    done: Arc<AtomicBool>,
    arrivals: JoinHandle<Result<Arrivals, Failure>>,
}

impl Consuming {
    /// Reads the topic from its end as it is now: it is there when this returns.
    pub(super) async fn start(numbers: usize) -> Result<Self, Failure> {
        let done = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let arrivals = tokio::task::spawn_blocking({
            let done = Arc::clone(&done);
            move || {
                let consumer = at_the_end()?;
                ready.send(())?;
                note_arrivals(&consumer, numbers, &done)
            }
        });
        tokio::task::spawn_blocking(move || is_ready.recv()).await??;
        Ok(Self { done, arrivals })
    }

    /// What has arrived, once nothing has come for half a second.
    pub(super) async fn end(self) -> Result<Arrivals, Failure> {
        self.done.store(true, Ordering::Release);
        self.arrivals.await?
    }
}

fn at_the_end() -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers()?)
        .set("group.id", "latency")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let timeout = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(TOPIC), timeout)?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, high) = consumer.fetch_watermarks(TOPIC, partition.id(), timeout)?;
        assignment.add_partition_offset(TOPIC, partition.id(), Offset::Offset(high))?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

fn note_arrivals(
    consumer: &BaseConsumer,
    numbers: usize,
    done: &AtomicBool,
) -> Result<Arrivals, Failure> {
    let mut arrived = vec![None; numbers];
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(message) => {
                let message = message?;
                let Number { number } =
                    serde_json::from_slice(message.payload().unwrap_or_default())?;
                if let Some(slot) = arrived.get_mut(number as usize) {
                    slot.get_or_insert_with(Instant::now);
                }
            }
            None if done.load(Ordering::Acquire) => return Ok(arrived),
            None => {}
        }
    }
}
