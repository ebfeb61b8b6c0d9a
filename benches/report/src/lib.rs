//! What `cargo xtask bench relay` asks the measured programs for, and what they answer: as JSON,
//! the one as their only argument, the other on their standard output.

#![forbid(unsafe_code)]

mod answer;
mod pairs;

pub use answer::*;
pub use pairs::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a program does in one run of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Makes a backlog that is spread over topics or keys, and the same in the table of the loop by
    /// hand. Answers [`Filled`].
    FillSpread {
        /// How many events.
        events: u64,
        /// Over what.
        spread: Spread,
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
    /// Publishes the backlog by several relays at once, which then idle. Answers
    /// [`DrainedByRelays`].
    DrainByRelays {
        /// How many relays.
        relays: u64,
        /// How many events the backlog has.
        events: u64,
        /// For how long they idle.
        idle_seconds: u64,
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
    /// Business transactions as fast as they come, in two ways that take turns. Answers [`Pairs`].
    Write {
        /// How they write their events.
        ways: [Way; 2],
        /// How many transactions at once.
        connections: u32,
        /// Who publishes the events meanwhile.
        beside: Beside,
        /// How often the ways take turns.
        plan: Plan,
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
    /// Adds consumer groups that have handled events to the inbox. Answers `()`.
    FillInbox {
        /// How many of them there are already.
        from: u64,
        /// How many there shall be.
        to: u64,
        /// Events that each has handled.
        rows: u64,
    },
    /// Handles the events of the topic, as one more of these groups. Answers [`HandledAmong`].
    HandleAmong {
        /// How many handlers run at once.
        concurrency: u32,
        /// How many events there are.
        events: u64,
        /// Events that the group has handled long ago, and then forgets.
        rows: u64,
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
    /// The outbox's relay, in a process of its own.
    OutboxElsewhere,
    /// The outbox's relay, delivering exactly once.
    ExactlyOnce,
    /// Debezium, in a process of its own.
    Debezium,
    /// Another outbox for Rust.
    Peer,
}

/// Over what the events of a backlog are spread, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spread {
    /// Number of topics, of one partition each.
    Topics(u64),
    /// Number of keys, of one topic.
    Keys(u64),
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
    /// By hand-written SQL into the table of the bare loop.
    BareTable {
        /// Whether it rings the loop after the commit.
        rings: bool,
    },
}

/// Who publishes events while they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// A relay in a process of its own.
    RelayProcess,
    /// A relay and the bare loop in the process of the writers, each from its own table.
    RelayAndBareLoop,
}

/// Who handles events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consumer {
    /// A loop with the same SQL, one event after the other.
    ByHand,
    /// The same SQL in tasks, each of which handles some of the keys. Offsets are stored in order.
    ByHandInTasks {
        /// How many tasks.
        tasks: u32,
    },
    /// The outbox's consumer.
    Outbox {
        /// How many handlers run at once.
        concurrency: u32,
        /// How many events share a transaction at most; 1: none do.
        shared: u32,
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
        let (ways, beside) = ([Way::Outbox, Way::NoEvent], Beside::RelayProcess);
        let plan = Plan { slice_millis: 500, least: 2, most: 4, within: 0.02 };
        for part in [
            Part::Fill { events: 7 },
            Part::Latency { contender: Contender::Outbox, load, disturbance: None },
            Part::Write { ways, connections: 8, beside, plan },
            Part::Relay,
        ] {
            let arguments = ["relay".to_owned(), part.argument()].into_iter();
            assert_eq!(Part::of_arguments(arguments), Ok(part));
        }
        assert!(Part::of_arguments(["relay".to_owned()].into_iter()).is_err());
    }

    #[test]
    fn what_is_no_number_is_not_printed() {
        assert!(print(&Relayed { peak_mib: 1.0 }).is_ok());
        assert!(print(&Relayed { peak_mib: f64::NAN }).is_err());
    }
}
