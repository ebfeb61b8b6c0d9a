//! The settings of the producer: our defaults, and what is refused because a guarantee rests on it.

use rdkafka::ClientConfig;

use super::KafkaPublisher;
use crate::error::OutboxError;
use crate::kafka::Properties;

/// Ours, in librdkafka's names. All may be overridden but those in [`refusal`].
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "outbox"),
    ("enable.idempotence", "true"),
    // A failed event fails those behind it too, instead of letting them overtake it.
    ("enable.gapless.guarantee", "true"),
    ("acks", "all"),
    // Events do not expire: a broker that is away is waited for.
    ("message.timeout.ms", "0"),
    // As the Java clients: one key is in one partition, whoever produces it.
    ("partitioner", "murmur2_random"),
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    // How long a new topic may stay unknown before its events fail. librdkafka's 30 s would hold up other lanes.
    ("topic.metadata.propagation.max.ms", "5000"),
    // How soon a topic that was missing is found. librdkafka's own 5 minutes are long for a lane to wait.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // Reconnect soon after a broker is back.
    ("reconnect.backoff.max.ms", "2000"),
];

/// The settings of a [`KafkaPublisher`].
#[derive(Debug)]
pub struct KafkaPublisherBuilder {
    source: String,
    properties: Properties,
}

pub(super) struct ProducerConfig {
    pub(super) source: String,
    pub(super) properties: Properties,
    pub(super) client: ClientConfig,
}

impl KafkaPublisherBuilder {
    pub(super) fn new(bootstrap_servers: String) -> Self {
        Self { source: "/outbox".to_owned(), properties: Properties::new(bootstrap_servers, DEFAULTS) }
    }

    /// The `ce_source` of the events: a URI reference that names the service. Default: `/outbox`.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Any property of librdkafka, in its own names, for example `security.protocol`. What ours are is in the list
    /// below; a few are refused by [`build`](Self::build), because a guarantee rests on them.
    ///
    /// | property | ours |
    /// |---|---|
    /// | `client.id` | `outbox` |
    /// | `enable.idempotence`, `enable.gapless.guarantee` | `true`, refused otherwise |
    /// | `acks` | `all`, refused otherwise |
    /// | `message.timeout.ms` | `0` (never), refused otherwise |
    /// | `transactional.id` | none, refused otherwise |
    /// | `partitioner` | `murmur2_random`; `random` is refused |
    /// | `compression.type` | `lz4` |
    /// | `linger.ms` | `2` |
    /// | `topic.metadata.propagation.max.ms` | `5000` |
    /// | `topic.metadata.refresh.interval.ms` | `10000` |
    /// | `reconnect.backoff.max.ms` | `2000` |
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name, value);
        self
    }

    /// The publisher. It does not connect yet.
    ///
    /// # Errors
    /// If there are no brokers, if librdkafka does not know a property or its value, or if a property would break
    /// a guarantee: the error says which.
    pub fn build(self) -> Result<KafkaPublisher, OutboxError> {
        let client = self.properties.client(refusal)?;
        KafkaPublisher::from_config(ProducerConfig {
            source: self.source,
            properties: self.properties,
            client,
        })
    }
}

/// Why a property cannot be had.
fn refusal(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim().to_ascii_lowercase();
    match name {
        "enable.idempotence" if value != "true" => Some(
            "without it, a retry after a lost answer writes an event twice or after a later one of its key",
        ),
        "enable.gapless.guarantee" if value != "true" => {
            Some("without it, events overtake an earlier one of their key that was refused")
        }
        "acks" | "request.required.acks" if value != "all" && value != "-1" => Some(
            "the relay forgets an event once it is acknowledged; acknowledged by fewer than all in-sync replicas, it is \
             lost when their leader fails",
        ),
        "message.timeout.ms" | "delivery.timeout.ms" if value != "0" => Some(
            "an event that expires while the broker is away would fail although nothing is wrong with it; the relay \
             waits for the broker instead, with bounded memory",
        ),
        "transactional.id" => Some("the producer is idempotent, not transactional"),
        "partitioner" if value == "random" => Some(
            "events of one key would be spread over partitions, and lose their order. Choose one that hashes the key, \
             such as `murmur2_random` or `consistent_random`",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_property_that_breaks_a_guarantee_is_refused_with_a_reason() {
        for (name, value) in [
            ("enable.idempotence", "false"),
            ("enable.gapless.guarantee", "false"),
            ("acks", "1"),
            ("request.required.acks", "0"),
            ("delivery.timeout.ms", "120000"),
            ("transactional.id", "x"),
            ("partitioner", "random"),
        ] {
            let error = KafkaPublisher::builder("localhost:9092").property(name, value).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let one_name = match name {
                "request.required.acks" => "acks",
                "delivery.timeout.ms" => "message.timeout.ms",
                name => name,
            };
            assert!(error.to_string().contains(one_name) && error.to_string().contains("refused"), "{error}");
        }
    }

    #[test]
    fn any_other_property_is_passed_through_and_a_typo_is_named() {
        KafkaPublisher::builder("localhost:9092").property("linger.ms", "7").build().unwrap();
        let error = KafkaPublisher::builder("localhost:9092").property("linger.sm", "7").build().unwrap_err();
        assert!(error.to_string().contains("linger.sm"), "{error}");
        KafkaPublisher::new(" ").unwrap_err();
    }

    #[test]
    fn no_debug_and_no_error_shows_a_password() {
        let builder = KafkaPublisher::builder("localhost:9092").property("sasl.password", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let publisher = builder.build().unwrap();
        assert!(!format!("{publisher:?}").contains("hunter2"), "{publisher:?}");
        let error = KafkaPublisher::builder("localhost:9092").property("sasl.pasword", "hunter2").build();
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        let letters = crate::consume::DeadLetters::new("localhost:9092", "orders", "shop");
        let letters = letters.property("sasl.password", "hunter2");
        assert!(!format!("{letters:?}").contains("hunter2"), "{letters:?}");
    }
}
