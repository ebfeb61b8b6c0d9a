//! What the programs answer.

use serde::{Deserialize, Serialize};

/// A backlog that is spread over topics or keys.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// How long it took to create the topics that were missing.
    pub topics_seconds: f64,
}

/// A backlog that was published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// From the start of the first read to the last report.
    pub seconds: f64,
    /// The most memory of the process, in MiB.
    pub peak_mib: f64,
    /// `None`: not timed.
    pub tenths: Option<Tenths>,
}

/// How fast parts of a backlog were published, in events a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tenths {
    /// The second tenth.
    pub second: f64,
    /// The ninth tenth.
    pub ninth: f64,
}

/// A backlog that several relays published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DrainedByRelays {
    /// From the end of a pause to the last event on the topic.
    pub seconds: f64,
    /// The most memory of one of them, in MiB.
    pub peak_mib: f64,
    /// Events that were published a second time.
    pub again: u64,
    /// How many of them held lanes.
    pub busy: u64,
    /// Processor time of all their sessions at the database while they idled, in milliseconds a
    /// second.
    pub idle_ms_a_second: f64,
}

/// The end of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Relayed {
    /// The most memory of the process, in MiB.
    pub peak_mib: f64,
}

/// From the commit of events to their arrival, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The median.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1,000 took no longer.
    pub p999: f64,
    /// The longest.
    pub worst: f64,
    /// The p99 of the time until they were read from the database; `None`: not known.
    pub read_p99: Option<f64>,
    /// The p99 of the transactions themselves.
    pub write_p99: f64,
    /// Commits a second.
    pub rate: f64,
    /// Committed, and not arrived in the end.
    pub lost: u64,
    /// The most memory of the process, in MiB.
    pub peak_mib: f64,
}

/// Events that were handled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// Events a second, from the first to the last.
    pub rate: f64,
    /// The most memory of the process, in MiB.
    pub peak_mib: f64,
}

/// Events that were handled by a group among others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HandledAmong {
    /// Events a second, from the first to the last.
    pub rate: f64,
    /// How many a second it forgot.
    pub forgotten: f64,
}

/// The messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// How many there were at first.
    pub from: u64,
    /// For how long it waited.
    pub seconds: f64,
}

/// Transactions of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waves {
    /// How many were committed.
    pub committed: i64,
}

/// The outbox's tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Their disk space, in MiB.
    pub mib: f64,
    /// Their dead rows.
    pub dead: i64,
}

/// What it costs the database to say how an outbox is, in milliseconds of processor time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// For a person: `Outbox::status`.
    pub status_ms: f64,
    /// For Prometheus: `Outbox::gauges`.
    pub gauges_ms: f64,
}

/// What a relay without work costs its database.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Idled {
    /// Bytes of WAL.
    pub wal: i64,
    /// Transaction ids.
    pub xids: i64,
    /// Processor time of its session for each look for news, in milliseconds.
    pub ms_a_look: f64,
}
