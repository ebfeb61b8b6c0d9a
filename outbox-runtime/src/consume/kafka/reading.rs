//! Clients that read topics without a group: they join none and commit nothing.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::config::{QUEUE_BACKOFF, connection};
use crate::kafka::{Brokers, Properties};

/// Memory for what is fetched ahead, whatever the number of partitions.
const FETCHING: [(&str, &str); 4] = [
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "20000"),
    // Of each broker, one such answer may come on top.
    ("fetch.max.bytes", "8388608"),
    QUEUE_BACKOFF,
];

/// What such a client is. librdkafka requires a group; which one matters only to the rights of this
/// user.
pub(super) fn config(properties: &Properties, group: &str) -> ClientConfig {
    let mut config = connection(properties);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed");
    FETCHING.iter().for_each(|(name, value)| _ = config.set(*name, *value));
    config
}

pub(super) fn client(
    config: &ClientConfig,
    brokers: &Brokers,
) -> Result<BaseConsumer<Brokers>, KafkaError> {
    let client: BaseConsumer<Brokers> = config.create_with_context(brokers.clone())?;
    // A client that is not polled gets no token for OAUTHBEARER.
    let _ = client.poll(Duration::ZERO);
    Ok(client)
}
