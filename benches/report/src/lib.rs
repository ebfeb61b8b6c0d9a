//! What `cargo xtask bench relay` asks the measured programs for, and what they answer: as JSON,
//! the one as their only argument, the other on their standard output.

#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a program does in one run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Makes a backlog in the outbox, and the same in the table of the loop by hand. Answers `()`.
    Fill {
        /// How many events.
        events: u64,
    },
    /// Makes a backlog in the outbox alone. Answers `()`.
    FillOutbox {
        /// How many events.
        events: u64,
    },
    /// Makes a backlog whose events have a trace each, one of a hundred recorded. Answers `()`.
    FillTraced {
        /// How many events.
        events: u64,
    },
    /// Publishes that backlog from its beginning. Answers [`Drained`].
    DrainTraced {
        /// What becomes of the traces.
        tracing: Tracing,
        /// How many events it has.
        events: u64,
    },
    /// Publishes the backlog from its beginning. Answers [`Drained`].
    Drain {
        /// Who publishes it.
        contender: Contender,
        /// How many events it has.
        events: u64,
    },
    /// Publishes the backlog by several relays at once. Answers [`DrainedByRelays`].
    DrainByRelays {
        /// How many relays.
        relays: u64,
        /// How many events the backlog has.
        events: u64,
    },
    /// A relay in the background, until its standard input ends. Answers [`Relayed`].
    Relay,
    /// Times events from their commit to a consumer. Answers [`Latencies`].
    Latency {
        /// Who publishes them.
        contender: Contender,
        /// How many events.
        load: Load,
        /// Load beside the timed events.
        disturbance: Option<Disturbance>,
    },
    /// Business transactions as fast as they come. Answers [`Written`].
    Write {
        /// How they write their events.
        way: Way,
        /// How many transactions at once.
        connections: u32,
        /// For how long.
        seconds: u64,
    },
    /// Puts events on a topic, for consumers. Answers `()`.
    FillTopic {
        /// How many events.
        events: u64,
    },
    /// Handles the events of that topic. Answers [`Handled`].
    Handle {
        /// Who handles them.
        consumer: Consumer,
        /// How many there are.
        events: u64,
    },
    /// Puts dead letters on their topic. Answers `()`.
    FillLetters {
        /// How many.
        letters: u64,
    },
    /// Goes through those dead letters. Answers [`Handled`].
    Letters {
        /// In which way.
        by: LettersBy,
        /// How many there are.
        letters: u64,
    },
    /// A new table and replication slot for Debezium. Answers `()`.
    PrepareDebezium {
        /// The name of the slot.
        slot: String,
    },
    /// Inserts events into that table. Answers `()`.
    FillDebezium {
        /// How many events.
        events: u64,
    },
    /// Waits until a number of messages is on a topic. Answers [`Waited`].
    Wait {
        /// The topic, which is created if it is missing.
        topic: String,
        /// How many messages.
        until: u64,
    },
    /// Reads how large the outbox's tables are. Answers [`Sizes`].
    Size {
        /// Whether their space is reclaimed first.
        reclaim: bool,
    },
    /// Looks at the state of the outbox, as operators and exporters do. Answers [`Watched`].
    Watch {
        /// How often.
        looks: u32,
    },
    /// Counts the transactions of the relay that delivers exactly once. Answers [`Waves`].
    Waves,
    /// Watches a relay that has nothing to publish. Answers [`Idled`].
    Idle {
        /// For how long.
        seconds: u64,
    },
}

/// Who publishes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contender {
    /// A Kafka producer, without a database.
    ProducerAlone,
    /// The loop that one writes by hand.
    BareLoop,
    /// The outbox's relay.
    Outbox,
    /// The outbox's relay, delivering exactly once.
    ExactlyOnce,
    /// Debezium, in a process of its own.
    Debezium,
    /// Another outbox for Rust.
    Peer,
}

/// What a relay makes of the traces of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tracing {
    /// Nothing: its outbox has no propagation.
    Off,
    /// Nothing, although it has one: no layer of the program takes spans.
    Unheard,
    /// Spans, of which those in recorded traces are exported, and one of a hundred others.
    Sampled,
}

/// How many events are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Events a second; `None`: as many as the writers can commit.
    pub rate: Option<u64>,
    /// For how long.
    pub seconds: u64,
}

/// Load beside the timed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disturbance {
    /// A transaction with an event stays open.
    OpenTransaction,
    /// A snapshot stays open, and the relay has saved a lot since.
    HeldSnapshot,
    /// A topic takes nothing, and gets events.
    StalledTopic,
    /// A key has events that are too large for their topic.
    PoisonKey,
    /// A leaf of the ring is truncated each second.
    Reclaiming,
}

/// How a business transaction writes its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// It has none.
    NoEvent,
    /// By hand-written SQL.
    ByHand {
        /// Whether it rings the relay's doorbell after the commit.
        rings: bool,
    },
    /// By `#[transactional_outbox]`.
    Outbox,
}

/// Who handles events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consumer {
    /// A loop with the same SQL, one event after the other.
    ByHand,
    /// The outbox's consumer.
    Outbox {
        /// How many handlers run at once.
        concurrency: u32,
    },
}

/// How dead letters are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LettersBy {
    /// A consumer that counts them.
    PlainConsumer,
    /// They are found by a filter.
    Select,
    /// They are found, and then read.
    Read,
    /// They are found, and then replayed.
    Replay,
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
    /// From the start of their processes to the last event on the topic.
    pub seconds: f64,
    /// The most memory of one of them, in MiB.
    pub peak_mib: f64,
    /// Events that were published a second time.
    pub again: u64,
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

/// Business transactions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Transactions a second.
    pub rate: f64,
}

/// Events that were handled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// Events a second, from the first to the last.
    pub rate: f64,
    /// The most memory of the process, in MiB.
    pub peak_mib: f64,
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

impl Part {
    /// The part that the arguments of a program ask for, the first of which is the program itself.
    ///
    /// # Errors
    ///
    /// If there is not one argument, or it is not a part.
    pub fn of_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let hint = "`cargo xtask bench relay` knows what to ask for";
        let [part] = &*arguments.skip(1).collect::<Vec<_>>() else { return Err(hint.to_owned()) };
        serde_json::from_str(part).map_err(|error| format!("{error}: {part}; {hint}"))
    }

    /// The argument that asks for it.
    pub fn argument(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Prints what was measured.
///
/// # Errors
///
/// If a number is infinite or none at all.
pub fn print<R: Serialize + DeserializeOwned>(measured: &R) -> Result<(), String> {
    let json = serde_json::to_string(measured).map_err(|error| error.to_string())?;
    // JSON has no word for such a number, and writes `null`.
    serde_json::from_str::<R>(&json).map_err(|error| format!("{error}: {json}"))?;
    println!("{json}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_its_argument_says() {
        let load = Load { rate: None, seconds: 10 };
        for part in [
            Part::Fill { events: 7 },
            Part::Latency { contender: Contender::Outbox, load, disturbance: None },
            Part::Write { way: Way::ByHand { rings: true }, connections: 8, seconds: 4 },
            Part::Relay,
        ] {
            let arguments = ["relay".to_owned(), part.argument()].into_iter();
            assert_eq!(Part::of_arguments(arguments), Ok(part));
        }
        assert!(Part::of_arguments(["relay".to_owned()].into_iter()).is_err());
    }

    #[test]
    fn what_is_no_number_is_not_printed() {
        assert!(print(&Written { rate: 1.0 }).is_ok());
        assert!(print(&Written { rate: f64::NAN }).is_err());
    }
}
