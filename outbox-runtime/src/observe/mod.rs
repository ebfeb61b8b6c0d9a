//! What relays and consumers report: whether they are ready and live ([`Health`]), log lines by the
//! crate `tracing`, and, with the feature `metrics`, metrics by the crate `metrics`.
//!
//! # Log lines
//!
//! A filter such as `RUST_LOG=outbox=debug` shows all of these but librdkafka's own. An error asks
//! for an operator. A warning means that the relay or the consumer waits, and continues without
//! help.
//!
//! | target | lines about |
//! |---|---|
//! | `outbox::relay` | relays: lanes, batches, parked events, reclaimed space |
//! | `outbox::publisher` | producers of Kafka: topics that take nothing, producers that ended |
//! | `outbox::consumer` | consumers: attempts, retries, dead letters, partitions, the inbox |
//! | `outbox::kafka` | connections to Kafka, of both sides |
//! | `outbox::store` | the outbox's tables: migrations, wake-ups, parked events that were discarded |
//! | `outbox::tx` | transactions: conflicts and what is run again |
//! | `outbox::trace` | the spans of [traces](crate::trace), at the level `info` |
//! | `librdkafka` | what librdkafka itself says, at the level `debug`; it repeats itself |
//!
//! A line about an event has the field `handler`: the path of its handler's function or type.
//!
//! With a topic prefix (`topic_prefix`), the field `topic` of a line about an event is without it,
//! as the event declares it. A line about a topic or a partition itself has the name on the
//! brokers, and so have the fields `retry_topic`, `dead_letters`, `to` and `topics`.
//!
//! # Metrics
//!
//! They go to the recorder that the program installs. Install it before outboxes, relays and
//! consumers are built: these report zeros at once, so that a counter is there before the first
//! event. [`describe`] gives it the table below as help and units, [`BUCKETS`] the bounds of the
//! histograms, and [`METRICS`] is the table as data. The label `outbox` is
//! [`OutboxBuilder::name`](crate::OutboxBuilder::name). Of topics and events, the first 500 have
//! labels of their own, and all others are `(others)`.
//!
//! [`Outbox::gauges`](crate::Outbox::gauges) sets what is reported by relays and exporters, in a
//! process without a relay.
//!
#![doc = include_str!("metrics.md")]

#[cfg(feature = "kafka")]
mod consumer;
mod gauges;
mod health;
#[cfg(feature = "metrics")]
mod labels;
mod meter;
mod table;

pub use health::Health;
#[cfg(feature = "metrics")]
pub use table::describe;
pub use table::{BUCKETS, METRICS, Metric, MetricKind, MetricSource, MetricUnit};

#[cfg(feature = "kafka")]
pub(crate) use consumer::{
    HandledEvent, dead_letters_open, is_connected, is_connected_in, publisher_broker_up,
};
pub(crate) use gauges::Gauges;
pub(crate) use health::Heartbeat;
pub(crate) use meter::Meter;

/// The targets of log lines. Each line names one: the path of the module that writes it, which is
/// the default, would change with the layout of the code.
pub(crate) mod target {
    pub(crate) const RELAY: &str = "outbox::relay";
    pub(crate) const STORE: &str = "outbox::store";
    pub(crate) const TX: &str = "outbox::tx";
    pub(crate) const TRACE: &str = "outbox::trace";

    #[cfg(feature = "kafka")]
    pub(crate) use kafka::*;

    #[cfg(feature = "kafka")]
    mod kafka {
        pub(crate) const CONSUMER: &str = "outbox::consumer";
        pub(crate) const KAFKA: &str = "outbox::kafka";
        pub(crate) const LIBRDKAFKA: &str = "librdkafka";
        pub(crate) const PUBLISHER: &str = "outbox::publisher";
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn every_log_line_names_its_target() {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let mut lines = 0;
        for (path, text) in &found {
            for level in ["error", "warn", "info", "debug", "trace"] {
                let call = format!("tracing::{level}!(");
                for after in text.split(&call).skip(1) {
                    lines += 1;
                    let argument = after.trim_start().lines().next().unwrap_or_default();
                    assert!(argument.starts_with("target: target::"), "{path}: {argument}");
                }
            }
        }
        assert!(lines > 50, "{lines} log lines found");
    }
}
