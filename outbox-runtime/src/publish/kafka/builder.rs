//! The settings of a publisher.

use super::KafkaPublisher;
use super::config::ProducerConfig;
use crate::error::OutboxError;
use crate::kafka::KafkaConfig;

/// The settings of a [`KafkaPublisher`].
#[derive(Debug)]
pub struct KafkaPublisherBuilder {
    source: String,
    kafka: KafkaConfig,
}

impl KafkaPublisher {
    /// A publisher with all settings at their defaults. `kafka` may be `"host:port,host:port"`.
    ///
    /// It connects when it first publishes, and waits for brokers that are away.
    ///
    /// # Errors
    /// As [`KafkaPublisherBuilder::build`].
    pub fn new(kafka: impl Into<KafkaConfig>) -> Result<Self, OutboxError> {
        Self::builder(kafka).build()
    }

    /// A publisher with other settings.
    pub fn builder(kafka: impl Into<KafkaConfig>) -> KafkaPublisherBuilder {
        KafkaPublisherBuilder::new(kafka.into())
    }
}

impl KafkaPublisherBuilder {
    fn new(kafka: KafkaConfig) -> Self {
        Self { source: "/outbox".to_owned(), kafka }
    }

    /// The `ce_source` of the events: a URI reference that names the service. Default: `/outbox`.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// The publisher. It does not connect yet.
    ///
    /// # Errors
    /// If there are no brokers, if librdkafka does not know a property or its value, or if a
    /// property would break a guarantee: the error says which.
    pub fn build(self) -> Result<KafkaPublisher, OutboxError> {
        KafkaPublisher::from_config(ProducerConfig::checked(&self.kafka, self.source)?)
    }
}
