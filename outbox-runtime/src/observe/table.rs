//! The table of the metrics. Their descriptions, the documentation, the dashboard and the names in
//! the alert rules are made of it or checked against it.

/// A metric, as the documentation and exporters describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a counter, a gauge or a histogram.
    pub kind: MetricKind,
    /// What is counted or measured.
    pub unit: MetricUnit,
    /// What its labels are called. Those that do not apply are left out: only a consumer has a
    /// `group`.
    pub labels: &'static [&'static str],
    /// Which programs report it.
    pub source: MetricSource,
    /// What it is, as a sentence.
    pub help: &'static str,
}

/// The kind of a [`Metric`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It has a value.
    Gauge,
    /// It has a distribution, in the buckets of [`BUCKETS`].
    Histogram,
}

/// The unit of a [`Metric`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // their names say it
pub enum MetricUnit {
    Attempts,
    Batches,
    Bytes,
    Events,
    Lanes,
    Leaves,
    Seconds,
    /// 1 if it is so, and 0 if not.
    Truth,
}

/// The programs that report a [`Metric`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MetricSource {
    /// Each process that has an outbox.
    Service,
    /// Each relay and each exporter: what the tables of an outbox say. All of them report the same.
    Tables,
    /// Each relay, of itself.
    Relay,
    /// Each consumer, of itself.
    Consumer,
    /// Each exporter that knows brokers: what they have. All of them report the same.
    Brokers,
    /// Each relay and each consumer, of itself.
    Loop,
}

macro_rules! table {
    ($($constant:ident $source:ident $kind:ident $name:literal $unit:ident [$($label:literal)*] $help:literal)*) => {
        /// The names, for what reports them.
        #[cfg(feature = "metrics")]
        pub(super) mod name {
            $(
                // Without Kafka, nobody reports those of consumers.
                #[cfg_attr(not(all(feature = "kafka", feature = "postgres")), allow(dead_code))]
                pub(crate) const $constant: &str = $name;
            )*
        }

        /// All metrics.
        pub const METRICS: &[Metric] = &[$(
            Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: MetricUnit::$unit,
                labels: &[$($label),*],
                source: MetricSource::$source,
                help: $help,
            },
        )*];
    };
}

table! {
    EMITTED Service Counter "outbox_emitted_total" Events ["outbox" "topic" "event"]
        "Events that this process committed. Those of a transaction that sqlx commits count when they are handed over to it."
    BUILD_INFO Service Gauge "outbox_build_info" Truth ["version"]
        "Always 1. The label has the version of outbox."

    OLDEST_PENDING Tables Gauge "outbox_oldest_pending_seconds" Seconds ["outbox"]
        "Age of the oldest event that is not saved as published, without parked ones. It grows on while the database cannot be asked."
    BACKLOG Tables Gauge "outbox_backlog" Events ["outbox"]
        "Events that are committed and not saved as published, without parked ones. Of a lane with many, an estimate."
    PARKED Tables Gauge "outbox_parked" Events ["outbox" "topic"]
        "Events that are set aside now, because they or an earlier one of their key were refused. Counted up to 10,000."
    OLDEST_PARKED Tables Gauge "outbox_oldest_parked_seconds" Seconds ["outbox" "topic"]
        "Age of the oldest event that is set aside now."
    LANES_OWNED Tables Gauge "outbox_lanes_owned" Lanes ["outbox"]
        "Lanes that a living relay holds, of 16. Nothing publishes the events of the others."
    LEAVES_FREE Tables Gauge "outbox_ring_leaves_free" Leaves ["outbox"]
        "Empty leaves of the table of events, of 16 (Postgres). With 2 or fewer, events are not kept for their retention; without any, the table grows."

    PUBLISHED Relay Counter "outbox_published_total" Events ["outbox" "topic" "event"]
        "Events that the broker acknowledged."
    RETRIED Relay Counter "outbox_retried_total" Batches ["outbox"]
        "Batches that were not acknowledged as a whole, and are sent again."
    PARKED_TOTAL Relay Counter "outbox_parked_total" Events ["outbox" "topic"]
        "Events that were refused too often, and set aside. Those that only wait behind one are not counted."
    RECLAIMED Relay Counter "outbox_reclaimed_total" Events ["outbox"]
        "Events that were published, and are no longer stored."
    TAKE_OVERS Relay Counter "outbox_take_overs_total" Lanes ["outbox"]
        "Lanes that this relay took from another one that had not given them back: it died, or was suspended for longer than its lease."
    LEASES_LOST Relay Counter "outbox_leases_lost_total" Lanes ["outbox"]
        "Lanes that this relay lost without giving them back."
    FALLBACKS Relay Counter "outbox_exactly_once_fallbacks_total" Lanes ["outbox"]
        "Times that exactly-once delivery went on from the cursor in the database, although there was progress on Kafka: events may have arrived twice."
    LANES_HELD Relay Gauge "outbox_lanes_held" Lanes ["outbox"]
        "Lanes that this relay holds."
    BYTES_HELD Relay Gauge "outbox_bytes_held" Bytes ["outbox"]
        "Bytes of events in the memory of this relay."
    BATCH_EVENTS Relay Histogram "outbox_batch_events" Events ["outbox"]
        "Events in one batch of a lane."
    DELIVERY Relay Histogram "outbox_delivery_seconds" Seconds ["outbox"]
        "Time from the sending of a batch to its last acknowledgement."
    PUBLISH_LAG Relay Histogram "outbox_publish_lag_seconds" Seconds ["outbox"]
        "Time from `occurred_at` to the acknowledgement, of the first event of each batch."

    HANDLED Consumer Counter "outbox_handled_total" Events ["outbox" "group" "topic" "event" "result"]
        "Events that are done, by what became of them: handled, duplicate, passed_over, retry_topic, queued, dead_letter or skipped."
    HANDLER_FAILURES Consumer Counter "outbox_handler_failures_total" Attempts ["outbox" "group" "topic" "event" "class"]
        "Attempts that failed, by their class: transient or permanent."
    HANDLING Consumer Histogram "outbox_handling_seconds" Seconds ["outbox" "group" "topic" "event"]
        "Time of one attempt of a handler, with its transaction, or with its part of one that events share."
    CONSUMER_LAG Consumer Gauge "outbox_consumer_lag" Events ["outbox" "group" "topic"]
        "Messages that are on this member's partitions of a topic and not done: the sum over the members is the group's."
    CONSUMER_OLDEST Consumer Gauge "outbox_consumer_oldest_seconds" Seconds ["outbox" "group" "topic"]
        "Age of the oldest message of a topic that this member has received and not done."

    DEAD_LETTERS_OPEN Brokers Gauge "outbox_dead_letters_open" Events ["group" "topic"]
        "Dead letters that are on the group's dead-letter topic and were neither replayed nor discarded, when they were last counted."

    DATABASE_UP Loop Gauge "outbox_database_up" Truth ["outbox" "group"]
        "Whether the database answered when it was last asked."
    BROKER_UP Loop Gauge "outbox_broker_up" Truth ["client" "group"]
        "Whether a publisher or a consumer is connected to a broker."
    LAST_TURN Loop Gauge "outbox_last_turn_timestamp_seconds" Seconds ["outbox" "group"]
        "Unix time at which the main loop last turned, to a second. One that is stuck does not turn."
}

/// The bounds of the buckets of each histogram, for exporters that ask for them: without, they may
/// report summaries, whose quantiles cannot be aggregated.
pub const BUCKETS: &[(&str, &[f64])] = &[
    ("outbox_batch_events", &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0]),
    ("outbox_delivery_seconds", SECONDS),
    ("outbox_publish_lag_seconds", LONG_SECONDS),
    ("outbox_handling_seconds", SECONDS),
];

const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What waits for an outage to end takes as long as that.
const LONG_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0, 3_600.0,
];

/// Describes all metrics to the recorder that is installed, with their help and units. Call it once
/// after the recorder is installed.
///
/// ```
/// # mod metrics_exporter_prometheus {
/// #     pub enum Matcher { Full(String) }
/// #     pub struct PrometheusBuilder;
/// #     impl PrometheusBuilder {
/// #         pub fn new() -> Self { Self }
/// #         pub fn set_buckets_for_metric(self, _: Matcher, _: &[f64]) -> Result<Self, String> {
/// #             Ok(self)
/// #         }
/// #         pub fn install_recorder(self) -> Result<(), String> { Ok(()) }
/// #     }
/// # }
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use outbox::observe;
///
/// # fn main() -> Result<(), String> {
/// let mut builder = PrometheusBuilder::new();
/// for (name, buckets) in observe::BUCKETS {
///     let name = Matcher::Full(name.to_string());
///     builder = builder.set_buckets_for_metric(name, buckets)?;
/// }
/// let handle = builder.install_recorder()?;
/// observe::describe();
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub fn describe() {
    for Metric { name, kind, unit, help, .. } in METRICS {
        let unit = match unit {
            MetricUnit::Bytes => metrics::Unit::Bytes,
            MetricUnit::Seconds => metrics::Unit::Seconds,
            _ => metrics::Unit::Count,
        };
        match kind {
            MetricKind::Counter => metrics::describe_counter!(*name, unit, *help),
            MetricKind::Gauge => metrics::describe_gauge!(*name, unit, *help),
            MetricKind::Histogram => metrics::describe_histogram!(*name, unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;

    /// The table as the documentation has it.
    fn documented() -> String {
        let mut text = String::from("| metric | kind | unit | labels | |\n|---|---|---|---|---|\n");
        for source in METRICS.iter().map(|metric| metric.source).collect::<BTreeSet<_>>() {
            let reported_by = match source {
                MetricSource::Service => "by each process",
                MetricSource::Tables => "by relays and exporters",
                MetricSource::Relay => "by each relay",
                MetricSource::Consumer => "by each consumer",
                MetricSource::Brokers => "by exporters that know brokers",
                MetricSource::Loop => "by each relay and consumer",
            };
            let _ = writeln!(text, "| **{reported_by}** | | | | |");
            for metric in METRICS.iter().filter(|metric| metric.source == source) {
                let Metric { name, kind, unit, labels, help, .. } = metric;
                let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
                let (kind, unit) = (format!("{kind:?}"), format!("{unit:?}"));
                let (kind, unit) = (kind.to_lowercase(), unit.to_lowercase());
                let labels = labels.join(", ");
                let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
            }
        }
        text
    }

    #[test]
    fn the_documentation_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/observe/metrics.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, documented()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == documented(),
            "{path} is not what the table says: run this test with UPDATE_EXPECT=1"
        );
    }

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric { name, kind, unit, .. } in METRICS {
            assert!(name.starts_with("outbox_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *unit == MetricUnit::Seconds, "{name}");
        }
    }

    #[test]
    fn every_histogram_has_buckets() {
        let histograms = METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram);
        let histograms: BTreeSet<_> = histograms.map(|metric| metric.name).collect();
        assert_eq!(histograms, BUCKETS.iter().map(|(name, _)| *name).collect());
        for (name, buckets) in BUCKETS {
            assert!(buckets.is_sorted_by(|one, next| one < next), "{name}");
        }
    }
}
