//! The settings of the producer: our defaults, and what is refused because a guarantee depends on
//! it.

use rdkafka::ClientConfig;

use crate::error::OutboxError;
use crate::kafka::{KafkaConfig, Properties};

/// Ours, in librdkafka's names. All may be overridden but those in [`refusal`].
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "outbox"),
    ("enable.idempotence", "true"),
    // A failed event fails those behind it too, instead of letting them overtake it.
    ("enable.gapless.guarantee", "true"),
    ("acks", "all"),
    // Events do not expire: a broker that is away is waited for.
    ("message.timeout.ms", "0"),
    // As the Java clients do: one key is in one partition, whichever client produces it.
    ("partitioner", "murmur2_random"),
    // It costs little time. Some clients read it with a plugin only, and gzip without one: the
    // documentation says which.
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    // Relays bound what they send by its bytes. librdkafka's 100,000 are fewer than the relays of
    // many tenants send, of which one whose topic takes nothing would then hold up the others.
    ("queue.buffering.max.messages", "10000000"),
    // Time for which a broker waits for replicas before it answers with an error. Until then it
    // answers nothing else on the connection: with librdkafka's 30 s, one partition holds up all
    // others of its broker.
    ("request.timeout.ms", "5000"),
    // Time for which a new topic may be unknown before its events fail. librdkafka's 30 s would
    // hold up other lanes.
    ("topic.metadata.propagation.max.ms", "5000"),
    // Time until a topic that was missing is found. librdkafka's own 5 minutes are long for a lane
    // to wait.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // Reconnect soon after a broker is back.
    ("reconnect.backoff.max.ms", "2000"),
    // How much each partition has acknowledged.
    (STATISTICS, EVERY_SECOND),
];

pub(super) const STATISTICS: &str = "statistics.interval.ms";
pub(super) const EVERY_SECOND: &str = "1000";

pub(super) struct ProducerConfig {
    /// What the user has set.
    pub(super) set_by_user: Properties,
    /// That, and our defaults.
    pub(super) properties: Properties,
    pub(super) client: ClientConfig,
}

impl ProducerConfig {
    pub(super) fn checked(kafka: &KafkaConfig) -> Result<Self, OutboxError> {
        let set_by_user = kafka.set_by_user().clone();
        let properties = set_by_user.or(DEFAULTS);
        let mut client = properties.client(refusal)?;
        // Only this publisher reads them. With rarer ones, a partition that has just acknowledged
        // would look stalled.
        client.set(STATISTICS, EVERY_SECOND);
        Ok(Self { set_by_user, properties, client })
    }
}

/// Why a property is refused. All other properties were checked, and cannot lose an event or change
/// the order of a key: they say how to reach the brokers, how fast things are, or what is too
/// large.
pub(super) fn refusal(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim().to_ascii_lowercase();
    let is_true = matches!(&*value, "true" | "t" | "1");
    let is_false = matches!(&*value, "false" | "f" | "0");
    match name {
        "enable.idempotence" if !is_true => Some(
            "without it, a retry after a lost answer writes an event twice or after a later one of its key",
        ),
        "enable.gapless.guarantee" if !is_true => {
            Some("without it, events overtake an earlier one of their key that was refused")
        }
        "acks" if value != "all" && value != "-1" => Some(
            "the relay forgets an event once it is acknowledged; acknowledged by fewer than all in-sync replicas, it is \
             lost when their leader fails",
        ),
        "message.timeout.ms" if value != "0" => Some(
            "an event that expires while the broker is away would fail although nothing is wrong with it; the relay \
             waits for the broker instead, with bounded memory",
        ),
        "retries" if value != "2147483647" => Some(
            "an event that is not tried again while the broker is away would fail although nothing is wrong with it; the \
             relay waits for the broker instead",
        ),
        "transactional.id" => Some("the producer is idempotent, not transactional"),
        "partitioner" if !KEYED.contains(&&*value) => Some(
            "events of one key, an empty key included, would be spread over partitions, and lose their order. Choose one \
             that hashes every key: `murmur2_random`, `murmur2`, `consistent`, `fnv1a_random` or `fnv1a`",
        ),
        "queuing.strategy" if value != "fifo" => {
            Some("the last event of a key would be sent first")
        }
        "delivery.report.only.error" if !is_false => {
            Some("the relay would never learn that an event was delivered")
        }
        "api.version.request" if is_false => {
            Some("librdkafka would speak to the broker as to one without idempotence")
        }
        "api.version.fallback.ms" if value != "0" => {
            Some("librdkafka would speak to the broker as to one without idempotence and headers")
        }
        _ => None,
    }
}

/// Partitioners that put all events of a key into one partition. `consistent_random` does not for
/// the empty key.
const KEYED: [&str; 5] = ["murmur2_random", "murmur2", "consistent", "fnv1a_random", "fnv1a"];

#[cfg(test)]
mod tests {
    use super::super::KafkaPublisher;
    use super::*;
    use crate::error::ErrorKind;

    fn built_with(name: &str, value: &str) -> Result<KafkaPublisher, OutboxError> {
        KafkaPublisher::new(KafkaConfig::new("localhost:9092").property(name, value))
    }

    #[test]
    fn a_property_that_breaks_a_guarantee_is_refused_with_a_reason() {
        for (name, value) in [
            ("enable.idempotence", "false"),
            ("enable.gapless.guarantee", "false"),
            ("acks", "1"),
            ("topic.acks", "1"),
            ("request.required.acks", "0"),
            ("message.timeout.ms", "1"),
            ("delivery.timeout.ms", "120000"),
            ("retries", "0"),
            ("message.send.max.retries", "3"),
            ("transactional.id", "x"),
            ("partitioner", "random"),
            ("partitioner", "consistent_random"),
            ("queuing.strategy", "lifo"),
            ("delivery.report.only.error", "true"),
            ("api.version.request", "false"),
            ("api.version.fallback.ms", "1000"),
        ] {
            let error = built_with(name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("is refused: "), "{name}: {error}");
        }
        // librdkafka itself refuses these beside an idempotent producer, or altogether.
        for (name, value) in [
            ("max.in.flight", "6"),
            ("max.in.flight.requests.per.connection", "1000"),
            ("queue.buffering.backpressure.threshold", "2"),
            ("msg_order_cmp", "x"),
            ("partitioner_cb", "x"),
            ("dr_msg_cb", "x"),
            ("interceptors", "x"),
            ("plugin.library.paths", "no-such-library"),
        ] {
            let built = built_with(name, value);
            assert_eq!(built.map(|_| ()).unwrap_err().kind(), ErrorKind::Config, "{name}");
        }
    }

    /// Each with a value that is as unfavourable as librdkafka allows.
    #[test]
    fn what_cannot_lose_an_event_or_change_the_order_of_a_key_is_not_refused() {
        for (name, value) in [
            // Requests of one event: the order of a key does not rest on what is in one request.
            ("batch.num.messages", "1"),
            ("batch.size", "1"),
            ("linger.ms", "0"),
            ("max.in.flight", "5"),
            ("message.max.bytes", "1000"),
            ("message.copy.max.bytes", "0"),
            ("queue.buffering.max.messages", "1"),
            // What is larger than the queue is refused, and does not wait for ever.
            ("queue.buffering.max.kbytes", "1"),
            ("sticky.partitioning.linger.ms", "0"),
            ("compression.codec", "gzip"),
            ("compression.level", "0"),
            // How soon something is tried again, or found.
            ("request.timeout.ms", "1"),
            ("socket.timeout.ms", "300000"),
            ("socket.max.fails", "0"),
            ("retry.backoff.ms", "300000"),
            ("retry.backoff.max.ms", "1"),
            ("reconnect.backoff.max.ms", "3600000"),
            ("connections.max.idle.ms", "1000"),
            ("topic.metadata.refresh.interval.ms", "-1"),
            ("topic.metadata.propagation.max.ms", "3600000"),
            ("metadata.max.age.ms", "1"),
            ("allow.auto.create.topics", "false"),
            ("topic.blacklist", "^orders$"),
            ("broker.version.fallback", "0.9.0"),
            // Overwritten by rdkafka.
            ("enabled_events", "0"),
            ("log.queue", "true"),
            ("enable.random.seed", "false"),
            ("partitioner", "consistent"),
            ("acks", "-1"),
            ("enable.idempotence", "1"),
            ("retries", "2147483647"),
            ("statistics.interval.ms", "0"),
            // Properties of consumers: librdkafka ignores them.
            ("group.id", "x"),
            ("enable.auto.commit", "false"),
        ] {
            let built = built_with(name, value);
            assert!(built.is_ok(), "{name}: {}", built.unwrap_err());
        }
    }

    #[test]
    fn any_other_property_is_passed_through_and_a_typo_is_named() {
        built_with("linger.ms", "7").unwrap();
        let error = built_with("linger.sm", "7").unwrap_err();
        assert!(error.to_string().contains("linger.sm"), "{error}");
        KafkaPublisher::new(" ").unwrap_err();
    }

    #[test]
    fn no_debug_and_no_error_shows_a_password() {
        let kafka = KafkaConfig::new("localhost:9092").property("sasl.password", "hunter2");
        let builder = KafkaPublisher::builder(&kafka);
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let publisher = builder.build().unwrap();
        assert!(!format!("{publisher:?}").contains("hunter2"), "{publisher:?}");
        let error = built_with("sasl.pasword", "hunter2").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        let letters = crate::consume::DeadLetters::builder(&kafka).topic("orders").group("shop");
        assert!(!format!("{letters:?}").contains("hunter2"), "{letters:?}");
        let letters = letters.build().unwrap();
        assert!(!format!("{letters:?}").contains("hunter2"), "{letters:?}");
    }
}
