//! A producer alone: what Kafka takes from this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outbox_bench_report::Drained;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use crate::{Failure, OrderCreated, TOPIC, brokers, peak_mib};

#[derive(Default)]
pub(crate) struct Delivered {
    pub(crate) count: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) changed: Notify,
}

#[derive(Clone)]
pub(crate) struct Count(pub(crate) Arc<Delivered>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if delivery.is_err() {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
        }
        // Not for each delivery: a wake-up costs more than a delivery.
        if self.0.count.fetch_add(1, Ordering::Release) % 256 == 255 {
            self.0.changed.notify_one();
        }
    }
}

pub(crate) type Producer = ThreadedProducer<Count>;

/// With the settings of the outbox's publisher.
pub(crate) fn producer() -> Result<(Producer, Arc<Delivered>), Failure> {
    let delivered = Arc::<Delivered>::default();
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("message.timeout.ms", "0"),
        ("partitioner", "murmur2_random"),
        ("compression.type", "lz4"),
        ("linger.ms", "2"),
    ] {
        config.set(name, value);
    }
    config.set("bootstrap.servers", brokers()?);
    let producer =
        ThreadedProducer::from_config_and_context(&config, Count(Arc::clone(&delivered)))?;
    Ok((producer, delivered))
}

pub(crate) struct Event<'e> {
    pub(crate) topic: &'e str,
    pub(crate) id: &'e str,
    pub(crate) key: &'e [u8],
    pub(crate) payload: &'e [u8],
    pub(crate) time: &'e str,
}

/// With the headers that the outbox's publisher writes.
pub(crate) async fn send(
    producer: &Producer,
    delivered: &Delivered,
    event: &Event<'_>,
) -> Result<(), Failure> {
    let mut headers = OwnedHeaders::new_with_capacity(8);
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", event.id),
        ("ce_type", "order.created"),
        ("ce_source", "/outbox"),
        ("ce_time", event.time),
        ("ce_dataversion", "1"),
        ("content-type", "application/json"),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record =
        BaseRecord::to(event.topic).key(event.key).payload(event.payload).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                record = returned;
                let _ =
                    tokio::time::timeout(Duration::from_millis(10), delivered.changed.notified())
                        .await;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Waits until `count` records are delivered.
pub(crate) async fn wait(delivered: &Delivered, count: u64) -> Result<(), Failure> {
    while delivered.count.load(Ordering::Acquire) < count {
        let _ = tokio::time::timeout(Duration::from_millis(2), delivered.changed.notified()).await;
    }
    match delivered.failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} events were not delivered").into()),
    }
}

pub(crate) async fn drain(events: u64) -> Result<Drained, Failure> {
    let (producer, delivered) = producer()?;
    let payload = serde_json::to_vec(&OrderCreated::new(4711, 4711))?;
    let begin = Instant::now();
    for n in 0..events {
        let key = (n % 10_000).to_string();
        let event = Event {
            topic: TOPIC,
            id: "01a1b2c3-d4e5-7f60-8123-456789abcdef",
            key: key.as_bytes(),
            payload: &payload,
            time: "2026-01-01T00:00:00.000000Z",
        };
        send(&producer, &delivered, &event).await?;
        if n % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    wait(&delivered, events).await?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: None })
}
