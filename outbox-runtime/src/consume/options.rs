//! A handler's options: how many times and when an event is tried, and how long an attempt may
//! take.

use std::time::Duration;

use crate::durations::{LONGEST_WAIT, within};

/// The options of a handler, as in `#[event_handler(…)]`.
///
/// ```
/// use std::time::Duration;
///
/// use outbox::consume::{HandlerOptions, LaterEvents};
///
/// const DELAYS: &[Duration] = &[Duration::from_secs(10), Duration::from_mins(5)];
///
/// const RESERVE: HandlerOptions = HandlerOptions::new()
///     .group("inventory")
///     .attempts(3)
///     .retry_topics(DELAYS, LaterEvents::Wait);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct HandlerOptions {
    pub(crate) group: Option<&'static str>,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) schedule: Option<RetrySchedule>,
    pub(crate) timeout: Duration,
    pub(crate) foreign: Option<ForeignId>,
}

/// The retry topics of a handler, and what later events do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetrySchedule {
    pub(crate) delays: &'static [Duration],
    pub(crate) later: LaterEvents,
}

/// What later events of a key do while an earlier one waits in a retry topic. It is one rule for
/// all handlers of a topic in a group: if one handler says [`Wait`](Self::Wait), the events of
/// handlers without retry topics wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaterEvents {
    /// They wait behind it: the key stays in order, and all of them are late. Until then they are
    /// kept in the database, in the table `…_key_queue`. They are handled as soon as the earlier
    /// one is handled or a dead letter.
    Wait,
    /// They are handled at once: the key's order is given up.
    Overtake,
}

/// How a message that no outbox wrote is recognised when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForeignId {
    /// By its place: topic, partition, offset and timestamp. If its producer sends it twice, it is
    /// handled twice.
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
            schedule: None,
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

    /// Number of attempts in place, before an event goes to the first retry topic or becomes a dead
    /// letter. Default: 10; with retry topics, 1. Attempts that fail because the database is away,
    /// because of a conflict with a concurrent transaction (up to 50 in a row) or because the
    /// connection is lost (up to 3) do not count.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(if attempts == 0 { 1 } else { attempts });
        self
    }

    /// Tries an event until it succeeds, without a limit; only permanent errors make dead letters.
    /// Its key waits, and in the end its partition.
    #[must_use]
    pub const fn retry_forever(mut self) -> Self {
        self.attempts = Some(u32::MAX);
        self
    }

    /// Pauses between attempts: the first one, doubled each time up to the longest, and shortened
    /// at random to no less than half. Default: 100 ms to 10 s; both at least 1 ms, and at most 30
    /// days. Other keys are handled during a pause.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = within(first, Duration::from_millis(1), LONGEST_WAIT);
        self.longest_pause = within(longest, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// Delays of the retry topics. After its attempts in place, an event waits in a topic for each
    /// delay (at most 30 days), and is tried once after each: `<topic>.<group>.retry.10s` and so
    /// on. Default: none.
    #[must_use]
    pub const fn retry_topics(mut self, delays: &'static [Duration], later: LaterEvents) -> Self {
        self.schedule =
            if delays.is_empty() { None } else { Some(RetrySchedule { delays, later }) };
        self
    }

    /// Longest time of one attempt. After it, the attempt is ended and rolled back, and counts as
    /// failed. It also bounds what the consumer itself does in the database, so that a dead
    /// connection holds nothing up for longer. Default: 5 minutes; at least 10 ms, at most 30 days.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = within(timeout, Duration::from_millis(10), LONGEST_WAIT);
        self
    }

    /// Takes messages without the headers of an outbox as events of this handler, and recognises
    /// them by `id`. Default: they become dead letters.
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
