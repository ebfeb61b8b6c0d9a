//! The settings of the consumer: our defaults, and what is refused because a guarantee rests on it.

use rdkafka::ClientConfig;

use crate::error::OutboxError;
use crate::kafka::Properties;

const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "outbox"),
    // A new group begins with the first event: the alternative misses those before its first start.
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    // A topic that is created later is found soon: librdkafka's own 5 minutes are long to wait for a first event.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    // Offsets are stored by us, after the commit, and committed to Kafka in the background.
    ("enable.auto.offset.store", "false"),
    ("enable.auto.commit", "true"),
    // What is fetched ahead of a partition is thrown away when it is paused.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "16384"),
];

/// How the producer of retry topics and dead letters is, besides what it has in common with the consumer.
const PRODUCER: &[(&str, &str)] = &[
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    // After which we are told, and try again.
    ("message.timeout.ms", "30000"),
    ("linger.ms", "0"),
    // It is the topic that says what is too large.
    ("message.max.bytes", "100000000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// What begins the properties that say how to reach the brokers.
const OF_CONNECTIONS: [&str; 9] = [
    "bootstrap.",
    "metadata.broker.list",
    "security.",
    "sasl.",
    "ssl.",
    "enable.ssl",
    "socket.",
    "client.",
    "broker.",
];

pub(super) fn defaults(bootstrap_servers: String) -> Properties {
    Properties::new(bootstrap_servers, DEFAULTS)
}

pub(super) fn checked(properties: &Properties, group: &str) -> Result<ClientConfig, OutboxError> {
    let mut properties = properties.clone();
    if properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
        // The broker assigns, then.
        properties.remove("partition.assignment.strategy");
    }
    let mut client = properties.client(|name, value| match name {
        "enable.auto.offset.store" if value != "false" => {
            Some("an offset stored before the handler's commit skips the event after a crash")
        }
        "enable.auto.commit" if value != "true" => {
            Some("the stored offsets would never reach Kafka, and every restart would begin at the beginning")
        }
        "group.id" if value != group => Some("the inbox remembers by the consumer's own group"),
        _ => None,
    })?;
    client.set("group.id", group);
    Ok(client)
}

/// For a client that reaches the same brokers.
pub(super) fn connection(properties: &Properties) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in
        properties.iter().filter(|(name, _)| OF_CONNECTIONS.iter().any(|of| name.starts_with(of)))
    {
        client.set(name, value);
    }
    client
}

pub(super) fn producer(properties: &Properties) -> ClientConfig {
    let mut client = connection(properties);
    for (name, value) in PRODUCER {
        client.set(*name, *value);
    }
    client
}
