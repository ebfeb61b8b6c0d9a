//! Kafka: an idempotent producer that keeps the order, pipelines its sends, and waits for a broker that is away.

mod config;
mod errors;
mod headers;
mod producer;

use std::sync::{Arc, Mutex, PoisonError};

pub use config::KafkaPublisherBuilder;
pub(crate) use headers::{CE_ID, CE_TIME, CE_TYPE, CE_VERSION};

use crate::error::OutboxError;
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
    /// Replaced after a fatal error: librdkafka's answer to what would otherwise be a gap in the order.
    producer: Mutex<Option<Arc<Producer>>>,
    /// One batch at a time.
    turn: tokio::sync::Mutex<()>,
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
        let producer = Arc::new(Producer::start(&config)?);
        Ok(Self { config, producer: Mutex::new(Some(producer)), turn: tokio::sync::Mutex::default() })
    }

    fn producer(&self) -> Result<Arc<Producer>, OutboxError> {
        let mut slot = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(producer) => Ok(Arc::clone(producer)),
            None => Ok(Arc::clone(slot.insert(Arc::new(Producer::start(&self.config)?)))),
        }
    }

    /// Lets go of a producer that cannot go on; its replacement is made for the next batch.
    fn discard(&self, producer: Arc<Producer>) {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Its end joins a thread and talks to brokers.
        drop(tokio::task::spawn_blocking(move || drop(producer)));
    }
}

impl Publisher for KafkaPublisher {
    async fn publish(&self, events: &[&StoredEvent]) -> Vec<DeliveryReport> {
        let _turn = self.turn.lock().await;
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => {
                let mut reports: Vec<_> = events.iter().map(|_| DeliveryReport::NotSent).collect();
                if let Some(first) = reports.first_mut() {
                    *first = DeliveryReport::Failed(error);
                }
                return reports;
            }
        };
        let reports = producer.publish(events, &self.config.source).await;
        if producer.is_fatal() {
            self.discard(producer);
        }
        reports
    }
}

impl std::fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaPublisher").field("brokers", &self.config.brokers()).finish_non_exhaustive()
    }
}
