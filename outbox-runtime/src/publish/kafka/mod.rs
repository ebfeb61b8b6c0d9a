//! Kafka: an idempotent producer that keeps the order, pipelines its sends, and waits for a broker that is away.

mod config;
mod errors;
mod headers;
mod producer;

use std::sync::{Arc, Mutex, PoisonError};

pub use config::KafkaPublisherBuilder;

use rdkafka::ClientConfig;

use crate::error::OutboxError;
use crate::kafka::Brokers;
use crate::publish::kafka::config::ProducerConfig;
use crate::publish::kafka::producer::Producer;
use crate::publish::{DeliveryReport, Publisher};
use crate::record::StoredEvent;

/// Publishes to Kafka, by librdkafka.
///
/// Its producer is idempotent and gapless with `acks=all`: a delivered event is on all in-sync replicas, once, and
/// events of one key stay in order through retries and changes of leader. Partitions are chosen as Java clients do
/// (`murmur2_random`). Headers follow the CloudEvents Kafka binding in binary mode.
pub struct KafkaPublisher {
    config: ProducerConfig,
    brokers: Brokers,
    main: Slot,
    /// For events that are sent alone: with one event to a request, and none of the others to lose by a fatal error.
    alone: Slot,
}

/// A producer that is replaced after a fatal error: librdkafka's answer to what would otherwise be a gap in the order.
#[derive(Default)]
struct Slot(Mutex<Option<Arc<Producer>>>);

impl Slot {
    fn get(
        &self,
        start: impl FnOnce() -> Result<Producer, OutboxError>,
    ) -> Result<Arc<Producer>, OutboxError> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(producer) if !producer.is_fatal() => Ok(Arc::clone(producer)),
            _ => {
                let producer = Arc::new(start()?);
                if let Some(failed) = slot.replace(Arc::clone(&producer)) {
                    // Its end joins a thread and talks to brokers.
                    drop(tokio::task::spawn_blocking(move || drop(failed)));
                }
                Ok(producer)
            }
        }
    }
}

impl KafkaPublisher {
    /// A publisher to the brokers `bootstrap_servers` ("host:port,host:port"), with all settings at their defaults.
    ///
    /// It connects when it first publishes, and waits for brokers that are away.
    ///
    /// # Errors
    /// If `bootstrap_servers` is empty.
    pub fn new(bootstrap_servers: impl Into<String>) -> Result<Self, OutboxError> {
        Self::builder(bootstrap_servers).build()
    }

    /// A publisher with other settings.
    pub fn builder(bootstrap_servers: impl Into<String>) -> KafkaPublisherBuilder {
        KafkaPublisherBuilder::new(bootstrap_servers.into())
    }

    fn from_config(config: ProducerConfig) -> Result<Self, OutboxError> {
        let meaning = "events stay in the outbox, and the relay keeps trying";
        let brokers = Brokers::new(config.properties.brokers(), meaning);
        let publisher = Self { config, brokers, main: Slot::default(), alone: Slot::default() };
        // What librdkafka finds wrong with the settings is said now.
        publisher.main.get(|| publisher.start_main())?;
        Ok(publisher)
    }

    fn start_main(&self) -> Result<Producer, OutboxError> {
        self.start(&self.config.client)
    }

    fn start_alone(&self) -> Result<Producer, OutboxError> {
        let mut config = self.config.client.clone();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        self.start(&config)
    }

    fn start(&self, config: &ClientConfig) -> Result<Producer, OutboxError> {
        Producer::start(config, self.brokers.clone()).map_err(|error| self.config.properties.no_client(error))
    }
}

impl Publisher for KafkaPublisher {
    async fn publish(&self, events: &[StoredEvent]) -> Vec<DeliveryReport> {
        match self.main.get(|| self.start_main()) {
            Ok(producer) => producer.publish(events, &self.config.source).await,
            Err(error) => {
                let mut reports: Vec<_> = events.iter().map(|_| DeliveryReport::NotSent).collect();
                if let Some(first) = reports.first_mut() {
                    *first = DeliveryReport::Refused(error);
                }
                reports
            }
        }
    }

    async fn publish_alone(&self, event: &StoredEvent) -> DeliveryReport {
        match self.alone.get(|| self.start_alone()) {
            Ok(producer) => {
                let mut reports = producer.publish(std::slice::from_ref(event), &self.config.source).await;
                reports.pop().unwrap_or(DeliveryReport::NotSent)
            }
            Err(error) => DeliveryReport::Refused(error),
        }
    }
}

impl std::fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("brokers", &self.config.properties.brokers())
            .finish_non_exhaustive()
    }
}
