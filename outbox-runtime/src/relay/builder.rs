//! The settings of a relay.

use std::time::Duration;

use super::Relay;
use crate::durations::{LONGEST_KEEPING, LONGEST_WAIT, within};
use crate::error::OutboxError;
use crate::observe::Heartbeat;
use crate::outbox::Outbox;
use crate::publish::Publisher;
use crate::store::OutboxDatabase;

/// The settings of a [`Relay`]. A value that is beyond its bounds is brought within them.
#[derive(Debug)]
pub struct RelayBuilder<DB: OutboxDatabase, P> {
    outbox: Outbox<DB>,
    publisher: P,
    settings: Settings,
}

/// A main loop that turns less often than every three leases is stuck. With very short leases, that
/// would be a short pause of the machine; with very long ones, it would never be noticed.
const SHORTEST_TURN_LIMIT: Duration = Duration::from_secs(5);
const LONGEST_TURN_LIMIT: Duration = Duration::from_secs(5 * 60);

/// A relay that died without a word is noticed after as long.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) poll_interval: Duration,
    pub(super) lease: Duration,
    pub(super) batch_rows: u32,
    pub(super) batch_bytes: u64,
    pub(super) memory: u64,
    pub(super) drain_timeout: Duration,
    pub(super) park_after: u32,
    pub(super) retry_parked: Duration,
    pub(super) retention: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            lease: Duration::from_secs(5),
            batch_rows: 1_500,
            batch_bytes: 1024 * 1024,
            memory: 64 * 1024 * 1024,
            drain_timeout: Duration::from_secs(10),
            park_after: 5,
            retry_parked: Duration::from_secs(30),
            retention: Duration::ZERO,
        }
    }
}

impl<DB: OutboxDatabase, P: Publisher> RelayBuilder<DB, P> {
    pub(super) fn new(outbox: Outbox<DB>, publisher: P) -> Self {
        Self { outbox, publisher, settings: Settings::default() }
    }

    /// How long it waits for a ring of the doorbell before it looks by itself. Default: 250 ms; at
    /// least 1 ms, at most 30 days. The ring normally comes first; this is how late an event can be
    /// when the ring was lost.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = within(interval, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// How long a relay that died keeps its lanes. Default: 5 s; at least 50 ms, at most a day.
    /// Renewed every third of it, or every 2 s if that is sooner. Shorter: a faster take-over;
    /// longer: more tolerance for a database that answers slowly.
    ///
    /// It runs out by the database's clock. If that is set back, another relay waits for one lease
    /// by its own clock instead; if it is set forward, lanes change hands once, and what was in
    /// flight may be published twice.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = within(lease, Duration::from_millis(50), LONGEST_LEASE);
        self
    }

    /// The most events of a lane that it reads at once, and the most that are with the publisher.
    /// Default: 1,500; at least 1. See [`batch_bytes`](Self::batch_bytes), which limits their size.
    #[must_use]
    pub fn batch_events(mut self, events: u32) -> Self {
        self.settings.batch_rows = events.max(1);
        self
    }

    /// The most bytes of a lane's events that it reads at once, and the most that are with the
    /// publisher. Default: 1 MiB; at most a 64th of [`memory`](Self::memory). A single larger event
    /// is read all the same.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.settings.batch_bytes = bytes.max(1);
        self
    }

    /// The most bytes of events that it holds, in all lanes together: read, to be sent next, in
    /// flight, to be parked. Each event counts twice, for the publisher has a copy of its own.
    /// Default: 64 MiB; at least 1 MiB. Only a single event for which there is no room is read all
    /// the same, so the bound is this much and twice the largest event.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory = bytes.max(1024 * 1024);
        self
    }

    /// How long a shutdown waits for the acknowledgement of what is in flight. Default: 10 s; at
    /// most 30 days. What was not acknowledged by then stays in the outbox, and may be published
    /// twice.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = within(timeout, Duration::ZERO, LONGEST_WAIT);
        self
    }

    /// After how many refusals of an event, tried alone, it is parked. Default: 5. Its lane waits
    /// so long. One that is refused for its size is parked after the first.
    #[must_use]
    pub fn park_after(mut self, refusals: u32) -> Self {
        self.settings.park_after = refusals.max(1);
        self
    }

    /// How long after its last refusal a parked event is tried again. Default: 30 s; at least 1 ms,
    /// at most 30 days. At first, 32 keys are tried each time; once an event gets through, the
    /// others follow. Of parked events, about 4 MiB are in memory at a time.
    #[must_use]
    pub fn retry_parked(mut self, every: Duration) -> Self {
        self.settings.retry_parked = within(every, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// How long published events are kept, to be [replayed](Outbox::replay). Default: not at all;
    /// at most 100 years. Their space comes back in blocks: on Postgres a block is about a million
    /// events, and there are sixteen; what is published is reclaimed sooner than this when they run
    /// out.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.settings.retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        self
    }

    /// The relay. It does not connect yet.
    ///
    /// # Errors
    /// None at present. The result leaves room for settings that contradict each other.
    pub fn build(self) -> Result<Relay<DB, P>, OutboxError> {
        Ok(self.finished())
    }

    pub(super) fn finished(self) -> Relay<DB, P> {
        let Self { outbox, publisher, settings } = self;
        let longest_turn = within(settings.lease * 3, SHORTEST_TURN_LIMIT, LONGEST_TURN_LIMIT);
        Relay { outbox, publisher, settings, heartbeat: Heartbeat::new(longest_turn) }
    }
}
