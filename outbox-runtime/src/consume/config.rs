//! The settings of the consumer: our defaults, and what is refused because a guarantee rests on it.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

use crate::error::OutboxError;

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
];

pub(super) fn defaults(bootstrap_servers: String, group: &str) -> BTreeMap<String, String> {
    let mut properties: BTreeMap<_, _> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    properties.insert("bootstrap.servers".to_owned(), bootstrap_servers);
    properties.insert("group.id".to_owned(), group.to_owned());
    properties
}

pub(super) fn checked(
    properties: &BTreeMap<String, String>,
    group: &str,
) -> Result<ClientConfig, OutboxError> {
    if group.trim().is_empty() {
        return Err(OutboxError::config(
            "a consumer needs a group: what it has handled is remembered by group",
        ));
    }
    if properties.get("bootstrap.servers").is_none_or(|brokers| brokers.trim().is_empty()) {
        return Err(OutboxError::config(
            "no Kafka brokers given: name at least one as `host:port` (is KAFKA_BROKERS set?)",
        ));
    }
    let mut client = ClientConfig::new();
    for (name, value) in properties {
        let why = match name.as_str() {
            "enable.auto.offset.store" if value != "false" => {
                "an offset stored before the handler's commit skips the event after a crash"
            }
            "enable.auto.commit" if value != "true" => {
                "the stored offsets would never reach Kafka, and every restart would begin at the beginning"
            }
            "group.id" if value != group => "the inbox remembers by the group given to `Consumer::new`",
            _ => {
                client.set(name, value);
                continue;
            }
        };
        return Err(OutboxError::config(format!(
            "the Kafka property `{name}={value}` is refused: {why}. Leave it out"
        )));
    }
    Ok(client)
}
