//! The settings of a publisher.

use std::sync::Arc;

use super::KafkaPublisher;
use super::config::ProducerConfig;
use super::{Deployment, Producers};
use crate::error::OutboxError;
use crate::kafka::{KafkaConfig, TopicPrefix};

/// The settings of a [`KafkaPublisher`].
#[derive(Debug)]
pub struct KafkaPublisherBuilder {
    source: String,
    topic_prefix: String,
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
        Self { source: "/outbox".to_owned(), topic_prefix: String::new(), kafka }
    }

    /// The `ce_source` of the events: a URI reference that names the service. Default: `/outbox`.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// What the names of this deployment's topics begin with on the brokers. Default: empty. An
    /// event that declares the topic `orders` is written to `staging-orders` with this:
    ///
    /// ```
    /// use outbox::publish::kafka::KafkaPublisher;
    ///
    /// # fn example() -> Result<(), outbox::OutboxError> {
    /// let publisher = KafkaPublisher::builder("localhost:9092")
    ///     .topic_prefix("staging-")
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    ///
    /// The consumers of the deployment need the same
    /// ([`ConsumerBuilder::topic_prefix`](crate::consume::ConsumerBuilder::topic_prefix)). In the
    /// outbox, and so in parked events, replays and the relay's log lines about an event, topics
    /// are as declared.
    ///
    /// With the prefix, a topic has at most 249 characters. An event whose topic has more is
    /// refused when it is published, and parked.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// The publisher. It does not connect yet.
    ///
    /// # Errors
    /// If there are no brokers, if no topic can begin with the prefix, if librdkafka does not know
    /// a property or its value, or if a property would break a guarantee: the error says which.
    pub fn build(self) -> Result<KafkaPublisher, OutboxError> {
        let Self { source, topic_prefix, kafka } = self;
        let deployment =
            Deployment { source: source.into(), prefix: TopicPrefix::new(&topic_prefix)? };
        let producers = Producers::start(ProducerConfig::checked(&kafka)?)?;
        Ok(KafkaPublisher { producers: Arc::new(producers), deployment })
    }
}
