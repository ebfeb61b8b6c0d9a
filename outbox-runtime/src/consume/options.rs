//! A handler's options: how many times and when an event is tried, and how long an attempt may
//! take.

use std::time::Duration;

use super::retry_schedule::{LaterEvents, RetrySchedule};
use crate::durations::LONGEST_WAIT;

/// Shortest pause and shortest delay.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);

/// The options of a handler, as in `#[event_handler(…)]`.
///
/// Values beyond their bounds are refused when the consumer is built. To change the options of a
/// handler at run time, see [`EventHandler::with_options`](super::EventHandler::with_options).
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
    pub(crate) only: Option<&'static [&'static str]>,
    /// Most events in one transaction; 1: each has its own.
    pub(crate) shared_transaction: u32,
}

/// Most events that may share a transaction.
const MOST_SHARED: u32 = 1_000;

/// How a message that no outbox wrote is recognised when it comes again. One with a `ce_id` is
/// recognised by that, together with `ce_source` unless it is a UUID; `Header("ce_id")` leaves the
/// source out.
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
            only: None,
            shared_transaction: 1,
        }
    }

    /// The consumer group. Default: that of the consumer, whose `group` replaces this one.
    #[must_use]
    pub const fn group(mut self, group: &'static str) -> Self {
        self.group = Some(group);
        self
    }

    /// Number of attempts in place, before an event goes to the first retry topic or becomes a dead
    /// letter. Default: 10; with retry topics, 1; at least 1. Attempts that fail because the
    /// database is away, because of a conflict with a concurrent transaction (up to 50 in a row) or
    /// because the connection is lost (up to 3) do not count.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Tries an event until it succeeds, without a limit; only permanent errors make dead letters.
    /// Its key waits, and in the end its partition. Not together with retry topics, which no event
    /// would reach.
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
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// Delays of the retry topics. After its attempts in place, an event waits in a topic for each
    /// delay, and is tried once after each: `<topic>.<group>.retry.10s` and so on. Default: none,
    /// as with an empty list; at most 16, each at least 1 ms and at most 30 days.
    #[must_use]
    pub const fn retry_topics(mut self, delays: &[Duration], later: LaterEvents) -> Self {
        self.schedule =
            if delays.is_empty() { None } else { Some(RetrySchedule::new(delays, later)) };
        self
    }

    /// Longest time of one attempt. After it, the attempt is ended and rolled back, and counts as
    /// failed. It also bounds what the consumer itself does in the database, so that a dead
    /// connection holds nothing up for longer. Default: 5 minutes; at least 10 ms, at most 30 days.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes messages without the headers of an outbox as events of this handler, and recognises
    /// them by `id`. Default: they become dead letters.
    #[must_use]
    pub const fn foreign(mut self, id: ForeignId) -> Self {
        self.foreign = Some(id);
        self
    }

    /// Takes only the events with these names. Default: all events of the handler's type. Several
    /// handlers can share an enum by it: each takes some of its events, and none takes those of
    /// another.
    #[must_use]
    pub const fn only(mut self, names: &'static [&'static str]) -> Self {
        self.only = Some(names);
        self
    }

    /// Handles up to this number of events in one transaction, if the consumer has received them
    /// already: it never waits for more. They are of one partition and in its order, and at most 4
    /// MiB together; all of them have handlers that share. The time-out, the shortest one of theirs,
    /// bounds the whole transaction. Default: 1, which is a transaction for each event; at most
    /// 1000.
    ///
    /// If anything in it fails, the transaction is rolled back, and each of its events is handled in
    /// a transaction of its own, from its first attempt on. So a handler may run once more because
    /// of a neighbour: what it does outside of its `tx` must be harmless when it is repeated.
    #[must_use]
    pub const fn shared_transaction(mut self, events: u32) -> Self {
        self.shared_transaction = events;
        self
    }

    /// Attempts in place before the event goes to a retry topic or the dead letters; `u32::MAX`:
    /// without an end.
    pub(crate) const fn attempts_in_place(&self) -> u32 {
        match (self.attempts, &self.schedule) {
            (Some(attempts), _) => attempts,
            (None, Some(_)) => 1,
            (None, None) => 10,
        }
    }
}

impl HandlerOptions {
    /// Which value makes no sense, and what would. `None`: all do.
    pub(crate) fn problem(&self) -> Option<String> {
        let pauses = [("first pause", self.first_pause), ("longest pause", self.longest_pause)];
        let timeout = beyond("timeout", self.timeout, SHORTEST_TIMEOUT);
        let of_times =
            pauses.into_iter().find_map(|(name, time)| beyond(name, time, SHORTEST_PAUSE));
        of_times.or(timeout).or_else(|| self.contradiction()).or_else(|| {
            let schedule = self.schedule.as_ref()?;
            schedule.too_many().or_else(|| {
                schedule
                    .delays()
                    .find_map(|delay| beyond("delay of a retry topic", delay, SHORTEST_PAUSE))
            })
        })
    }

    fn contradiction(&self) -> Option<String> {
        let (first, longest) = (self.first_pause, self.longest_pause);
        if self.attempts == Some(0) {
            return Some("it has 0 attempts, of which the first counts: at least 1".to_owned());
        }
        if self.attempts == Some(u32::MAX) && self.schedule.is_some() {
            let unreached = "its attempts do not end, and no event would ever get to its retry topics: limit them, or have no retry topics";
            return Some(unreached.to_owned());
        }
        if !matches!(self.shared_transaction, 1..=MOST_SHARED) {
            return Some(format!(
                "its transaction is shared by {} events: at least 1, and at most {MOST_SHARED}",
                self.shared_transaction
            ));
        }
        if longest < first {
            return Some(format!(
                "its longest pause ({longest:?}) is shorter than its first ({first:?})"
            ));
        }
        matches!(self.foreign, Some(ForeignId::Header(name)) if name.trim().is_empty())
            .then(|| "the header by which it recognises foreign messages has no name".to_owned())
    }
}

/// What is wrong with a time that is too short or too long.
fn beyond(name: &str, time: Duration, shortest: Duration) -> Option<String> {
    let bounds = shortest..=LONGEST_WAIT;
    (!bounds.contains(&time))
        .then(|| format!("its {name} is {time:?}: at least {shortest:?}, and at most 30 days"))
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: HandlerOptions = HandlerOptions::new();
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn values_that_make_no_sense_are_named_with_their_bounds() {
        let wait = LaterEvents::Wait;
        let long = LONGEST_WAIT + Duration::from_nanos(1);
        for (options, problem) in [
            (NEW.attempts(0), "0 attempts"),
            (NEW.backoff(Duration::ZERO, SECOND), "first pause is 0ns: at least 1ms"),
            (NEW.backoff(SECOND, long), "longest pause is"),
            (NEW.backoff(SECOND * 2, SECOND), "longest pause (1s) is shorter than its first (2s)"),
            (NEW.timeout(Duration::ZERO), "timeout is 0ns: at least 10ms"),
            (NEW.timeout(Duration::MAX), "at most 30 days"),
            (NEW.retry_topics(&[SECOND, Duration::ZERO], wait), "delay of a retry topic is 0ns"),
            (NEW.retry_topics(&[Duration::MAX], wait), "delay of a retry topic is"),
            (NEW.retry_topics(&[SECOND; 17], wait), "17 retry topics: at most 16"),
            (NEW.retry_topics(&[SECOND], wait).retry_forever(), "attempts do not end"),
            (NEW.foreign(ForeignId::Header(" ")), "has no name"),
            (NEW.shared_transaction(0), "shared by 0 events: at least 1"),
            (NEW.shared_transaction(MOST_SHARED + 1), "at most 1000"),
        ] {
            let found = options.problem().unwrap_or_default();
            assert!(found.contains(problem), "{problem}: {found}");
        }
    }

    #[test]
    fn values_at_their_bounds_are_taken() {
        for options in [
            NEW,
            NEW.attempts(1),
            NEW.retry_forever(),
            NEW.backoff(SHORTEST_PAUSE, SHORTEST_PAUSE),
            NEW.backoff(LONGEST_WAIT, LONGEST_WAIT),
            NEW.timeout(SHORTEST_TIMEOUT),
            NEW.timeout(LONGEST_WAIT),
            NEW.retry_topics(&[SHORTEST_PAUSE; 16], LaterEvents::Overtake),
            NEW.retry_topics(&[LONGEST_WAIT], LaterEvents::Wait),
            NEW.retry_topics(&[], LaterEvents::Wait).retry_forever(),
            NEW.shared_transaction(1),
            NEW.shared_transaction(MOST_SHARED),
        ] {
            assert_eq!(options.problem(), None);
        }
    }
}
