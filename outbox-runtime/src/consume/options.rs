//! What a handler asks for: how often and when it is tried again, and for how long it may run.

use std::time::Duration;

use crate::durations::{LONGEST_WAIT, within};

/// The options of a handler; those of `#[event_handler(…)]`.
///
/// ```
/// use std::time::Duration;
/// use outbox_runtime::consume::{HandlerOptions, LaterEvents};
///
/// const RESERVE: HandlerOptions = HandlerOptions::new()
///     .group("inventory")
///     .attempts(3)
///     .retry_topics(&[Duration::from_secs(10), Duration::from_secs(300)], LaterEvents::Wait);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct HandlerOptions {
    pub(crate) group: Option<&'static str>,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) ladder: Option<Ladder>,
    pub(crate) timeout: Duration,
    pub(crate) foreign: Option<ForeignId>,
}

/// The retry topics of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    pub(crate) delays: &'static [Duration],
    pub(crate) later: LaterEvents,
}

/// What the later events of a key do while an earlier one waits in a retry topic: one rule for all
/// handlers of a topic in a group. If one says [`Wait`](Self::Wait), the events of handlers without
/// retry topics wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaterEvents {
    /// They wait behind it: the order of the key stays, and all of them are late. They are kept in
    /// the database meanwhile, in the table `…_waiting`, and handled as soon as it is done, or is a
    /// dead letter.
    Wait,
    /// They are handled at once: the key's order is given up.
    Overtake,
}

/// By what a message is recognised that no outbox wrote, when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForeignId {
    /// By its place: topic, partition and offset. A producer that sends the same twice is not
    /// noticed.
    Place,
    /// By the value of this header, within its topic.
    Header(&'static str),
    /// By its key, within its topic: for topics that have one message for each key.
    Key,
}

impl HandlerOptions {
    /// All at their defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            group: None,
            attempts: None,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            ladder: None,
            timeout: Duration::from_secs(300),
            foreign: None,
        }
    }

    /// The consumer group. Default: that of the [`Consumer`](crate::consume::Consumer).
    #[must_use]
    pub const fn group(mut self, group: &'static str) -> Self {
        self.group = Some(group);
        self
    }

    /// How often an event is tried where it is, before it goes to the first retry topic, or becomes
    /// a dead letter. Default: 10 times, with retry topics once. Attempts that fail because the
    /// database is away, another transaction is in the way (up to 50 in a row) or the connection is
    /// lost (up to 3) do not count.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(if attempts == 0 { 1 } else { attempts });
        self
    }

    /// Tries an event until it succeeds, however long that takes; only permanent errors make dead
    /// letters. Its key waits, and in the end its partition.
    #[must_use]
    pub const fn retry_forever(mut self) -> Self {
        self.attempts = Some(u32::MAX);
        self
    }

    /// The pauses between the attempts: the first, doubled each time up to the longest; of each, a
    /// random half to all. Default: 100 ms to 10 s; both at least 1 ms, and at most 30 days. Other
    /// keys are handled meanwhile.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = within(first, Duration::from_millis(1), LONGEST_WAIT);
        self.longest_pause = within(longest, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// Topics in which an event waits after its attempts, each for so long (at most 30 days), and
    /// is tried once after each: `<topic>.<group>.retry.10s` and so on, by the delay. Default:
    /// none.
    #[must_use]
    pub const fn retry_topics(mut self, delays: &'static [Duration], later: LaterEvents) -> Self {
        self.ladder = if delays.is_empty() { None } else { Some(Ladder { delays, later }) };
        self
    }

    /// How long one attempt may take: then it is ended, rolled back, and counts as failed. What the
    /// consumer itself does in the database is bounded by it, too, so that a dead connection holds
    /// nothing up for longer. Default: 5 minutes; at least 10 ms, at most 30 days.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = within(timeout, Duration::from_millis(10), LONGEST_WAIT);
        self
    }

    /// Takes messages without the headers of an outbox as events of this handler, recognised by
    /// `id`. Default: they become dead letters.
    #[must_use]
    pub const fn foreign(mut self, id: ForeignId) -> Self {
        self.foreign = Some(id);
        self
    }
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self::new()
    }
}
