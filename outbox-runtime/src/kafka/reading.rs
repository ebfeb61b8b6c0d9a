//! Clients that read topics without a group: they join none and commit nothing.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::{Brokers, Properties, connection};

/// How long, in milliseconds, a partition is not fetched from once as much of it waits as may.
/// librdkafka's own second is longer than a consumer takes for all that waits, so that it would be
/// idle for most of its time.
pub(crate) const QUEUE_BACKOFF: (&str, &str) = ("fetch.queue.backoff.ms", "10");

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
pub(crate) fn config(properties: &Properties, group: &str) -> ClientConfig {
    let mut config = connection(properties);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed");
    FETCHING.iter().for_each(|(name, value)| _ = config.set(*name, *value));
    config
}

pub(crate) fn client(
    config: &ClientConfig,
    brokers: &Brokers,
) -> Result<BaseConsumer<Brokers>, KafkaError> {
    let client: BaseConsumer<Brokers> = config.create_with_context(brokers.clone())?;
    // A client that is not polled gets no token for OAUTHBEARER.
    let _ = client.poll(Duration::ZERO);
    Ok(client)
}
