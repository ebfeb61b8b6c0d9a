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
//! They have no topics in their labels. They go to the exporter that the program installs.
//!
//! | metric | kind | unit | |
//! |---|---|---|---|
//! | `outbox_published_total` | counter | events | acknowledged by the broker |
//! | `outbox_retried_total` | counter | batches | not acknowledged as a whole, and sent again |
//! | `outbox_parked_total` | counter | events | refused too often, and set aside |
//! | `outbox_reclaimed_total` | counter | events | published, and no longer stored |
//! | `outbox_duplicates_suppressed_total` | counter | events | delivered to a consumer that had handled them |
//! | `outbox_handler_failures_total` | counter | attempts | failed, by the label `class`: `transient` or `permanent` |
//! | `outbox_to_retry_topics_total` | counter | events | sent to a retry topic |
//! | `outbox_dead_letters_total` | counter | events | given up by a consumer |
//! | `outbox_handling_seconds` | histogram | seconds | one attempt of a handler, with its transaction |
//! | `outbox_batch_events` | histogram | events | in one batch of a lane |
//! | `outbox_delivery_seconds` | histogram | seconds | from the sending of a batch to its last acknowledgement |
//! | `outbox_publish_lag_seconds` | histogram | seconds | from `occurred_at` to the acknowledgement, of a batch's first event |
//! | `outbox_bytes_held` | gauge | bytes | of events in this relay's memory; see [`RelayBuilder::memory`](crate::RelayBuilder::memory) |
//! | `outbox_lanes_held` | gauge | lanes | held by this relay |
//! | `outbox_backlog` | gauge | events | committed, and not saved as published; see [`Status::backlog`](crate::Status::backlog) |
//! | `outbox_parked` | gauge | events | set aside now; see [`Status::parked`](crate::Status::parked) |
//! | `outbox_oldest_pending_seconds` | gauge | seconds | age of the oldest event that is not saved as published |

mod health;

#[cfg(feature = "metrics")]
use std::time::SystemTime;

pub use health::Health;

use tokio::time::Instant;

use crate::record::StoredEvent;
use crate::store::status::Status;

pub(crate) use health::Heartbeat;

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

pub(crate) fn delivered(events: &[StoredEvent], sent: Instant) {
    #[cfg(feature = "metrics")]
    if let Some(first) = events.first() {
        metrics::counter!("outbox_published_total").increment(events.len() as u64);
        metrics::histogram!("outbox_delivery_seconds").record(sent.elapsed().as_secs_f64());
        let lag = SystemTime::now().duration_since(first.record.occurred_at).unwrap_or_default();
        metrics::histogram!("outbox_publish_lag_seconds").record(lag.as_secs_f64());
    }
    let _ = (events, sent);
}

pub(crate) fn batch(events: usize) {
    #[cfg(feature = "metrics")]
    if events > 0 {
        metrics::histogram!("outbox_batch_events").record(events as f64);
    }
    let _ = events;
}

pub(crate) fn retried() {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_retried_total").increment(1);
}

pub(crate) fn parked() {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_parked_total").increment(1);
}

pub(crate) fn reclaimed(events: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_reclaimed_total").increment(events);
    let _ = events;
}

#[cfg(feature = "kafka")]
pub(crate) fn duplicate_suppressed() {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_duplicates_suppressed_total").increment(1);
}

/// Measures the time of an attempt.
#[cfg(feature = "kafka")]
pub(crate) async fn handling<T>(attempt: impl Future<Output = T>) -> T {
    #[cfg(feature = "metrics")]
    let begun = Instant::now();
    let attempted = attempt.await;
    #[cfg(feature = "metrics")]
    metrics::histogram!("outbox_handling_seconds").record(begun.elapsed().as_secs_f64());
    attempted
}

#[cfg(feature = "kafka")]
pub(crate) fn handler_failed(class: crate::consume::ErrorClass) {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_handler_failures_total", "class" => class.as_str()).increment(1);
    let _ = class;
}

#[cfg(feature = "kafka")]
pub(crate) fn sent_to_retry_topic() {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_to_retry_topics_total").increment(1);
}

#[cfg(feature = "kafka")]
pub(crate) fn dead_letter() {
    #[cfg(feature = "metrics")]
    metrics::counter!("outbox_dead_letters_total").increment(1);
}

pub(crate) fn lanes_held(lanes: usize) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("outbox_lanes_held").set(lanes as f64);
    let _ = lanes;
}

pub(crate) fn held(bytes: u64) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("outbox_bytes_held").increment(bytes as f64);
    let _ = bytes;
}

pub(crate) fn no_longer_held(bytes: u64) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("outbox_bytes_held").decrement(bytes as f64);
    let _ = bytes;
}

pub(crate) fn status(status: &Status) {
    #[cfg(feature = "metrics")]
    {
        metrics::gauge!("outbox_backlog").set(status.backlog as f64);
        metrics::gauge!("outbox_parked").set(status.parked as f64);
        let age =
            status.oldest_pending.and_then(|oldest| SystemTime::now().duration_since(oldest).ok());
        metrics::gauge!("outbox_oldest_pending_seconds").set(age.unwrap_or_default().as_secs_f64());
    }
    let _ = status;
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
