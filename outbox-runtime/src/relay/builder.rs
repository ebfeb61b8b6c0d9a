//! The settings of a relay.

use std::sync::Arc;
use std::time::Duration;

use super::Relay;
use super::exactly_once::{ExactlyOnce, ExactlyOnceRelay, Sides};
use super::memory::{Memory, MemoryBudget};
use super::settings::Settings;
use crate::durations::{LONGEST_KEEPING, LONGEST_WAIT, within};
use crate::error::OutboxError;
use crate::observe::Heartbeat;
use crate::outbox::Outbox;
use crate::publish::Publisher;
use crate::publish::transactions::TransactionalPublisher;
use crate::store::OutboxDatabase;
use crate::store::groups::ExactlyOnceStore;

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

/// The longest lease, and so the longest time until a dead relay is noticed.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

impl<DB: OutboxDatabase, P: Publisher> Relay<DB, P> {
    /// A relay from `outbox` to `publisher`, with all settings at their defaults.
    pub fn new(outbox: Outbox<DB>, publisher: P) -> Self {
        RelayBuilder::new(outbox, publisher).finished()
    }

    /// A relay with other settings.
    pub fn builder(outbox: Outbox<DB>, publisher: P) -> RelayBuilder<DB, P> {
        RelayBuilder::new(outbox, publisher)
    }
}

impl<DB: OutboxDatabase, P> RelayBuilder<DB, P> {
    pub(super) fn new(outbox: Outbox<DB>, publisher: P) -> Self {
        let tracing = outbox.core().tracing.clone();
        Self { outbox, publisher, settings: Settings { tracing, ..Settings::default() } }
    }

    /// Longest wait for a ring of the doorbell before the relay looks for events. Default: 250 ms;
    /// at least 1 ms, at most 30 days. Normally the ring comes first; if it is lost, an event is
    /// late by up to this time. Where no ring arrives at all (from another process on MySQL), the
    /// relay looks again 5 ms after it has found something, and then half as often each time that it
    /// finds nothing.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = within(interval, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// Time for which a dead relay keeps its lanes. Default: 5 s; at least 50 ms, at most a day. A
    /// running relay renews its lease after a third of it, or after 2 s if that is sooner. A
    /// shorter lease means a faster take-over; a longer one, more tolerance for a database that
    /// answers slowly.
    ///
    /// It ends by the database's clock. If that clock is set back, another relay waits for one
    /// lease by its own clock instead. If it is set forward, lanes change hands once, and what was
    /// in flight may be published twice.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = within(lease, Duration::from_millis(50), LONGEST_LEASE);
        self
    }

    /// The most events of a lane that it reads at once, and the most that are with the publisher.
    /// Default: 750; at least 1. See [`batch_bytes`](Self::batch_bytes), which limits their size.
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

    /// Most bytes of events to hold, in all lanes together: read, to be sent next, in flight, to be
    /// parked. Each event counts twice, since the publisher has a copy. Default: 64 MiB; at least 1
    /// MiB. A single event for which there is no room is still read, so the bound is this plus
    /// twice the largest event.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory = MemoryBudget::new(bytes);
        self
    }

    /// The same for this relay and the others that are built with `budget`, in place of
    /// [`memory`](Self::memory). Default: each relay has a budget of its own.
    #[must_use]
    pub fn shared_memory(mut self, budget: &MemoryBudget) -> Self {
        self.settings.memory = budget.clone();
        self
    }

    /// Longest time that a shutdown waits for the acknowledgement of what is in flight. Default: 10
    /// s; at most 30 days. What was not acknowledged by then stays in the outbox, and may be
    /// published twice.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = within(timeout, Duration::ZERO, LONGEST_WAIT);
        self
    }

    /// Number of refusals, sent alone, after which an event is parked. Default: 5; at least 1. Its
    /// lane waits until then. An event that is refused for its size is parked after the first one.
    #[must_use]
    pub fn park_after(mut self, refusals: u32) -> Self {
        self.settings.park_after = refusals.max(1);
        self
    }

    /// Time after its last refusal at which a parked event is tried again. Default: 30 s; at least
    /// 1 ms, at most 30 days. At first, 32 keys are tried each time; once an event is accepted, the
    /// others follow. About 4 MiB of parked events are in memory at a time.
    #[must_use]
    pub fn retry_parked(mut self, every: Duration) -> Self {
        self.settings.retry_parked = within(every, Duration::from_millis(1), LONGEST_WAIT);
        self
    }

    /// Time for which published events are kept, to be [replayed](Outbox::replay). Default: zero;
    /// at most 100 years. Space comes back in blocks. On Postgres, a block is about a million
    /// events, and there are sixteen; when they run out, published events are reclaimed sooner than
    /// this. On MySQL, a published event is deleted at once, and copied to another table if this is
    /// not zero.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.settings.retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        self
    }
}

impl<DB: OutboxDatabase, P: Publisher> RelayBuilder<DB, P> {
    /// The relay. It does not connect yet.
    ///
    /// # Errors
    /// None at present. The result leaves room for settings that contradict each other.
    pub fn build(self) -> Result<Relay<DB, P>, OutboxError> {
        Ok(self.finished())
    }

    pub(super) fn finished(self) -> Relay<DB, P> {
        let core = self.outbox.core();
        let Settings { lease, retention, .. } = self.settings;
        let reader = DB::open_lanes(&core.pool, &core.names, lease, retention);
        self.reading_by(reader)
    }
}

impl<DB: OutboxDatabase, P> RelayBuilder<DB, P> {
    /// The relay, with another reader of the lanes than the database's own.
    pub(super) fn reading_by<R>(self, reader: R) -> Relay<DB, P, R> {
        let Self { outbox, publisher, settings } = self;
        let longest_turn = within(settings.lease * 3, SHORTEST_TURN_LIMIT, LONGEST_TURN_LIMIT);
        let meter = outbox.core().meter.clone();
        meter.register_relay();
        let memory = Memory::new(&settings.memory, meter.clone());
        let heartbeat = Heartbeat::new(longest_turn, meter);
        Relay { outbox, publisher, reader, settings, memory, heartbeat }
    }
}

impl<DB: OutboxDatabase, P> RelayBuilder<DB, P> {
    /// The relay, as one that delivers each event exactly once. It does not connect yet.
    ///
    /// Events and the relay's progress are committed together, in transactions of Kafka. A consumer
    /// that reads with `isolation.level=read_committed` gets each event once, whatever crashes.
    ///
    /// All relays of an outbox deliver in the same way. The first one that delivers exactly once
    /// starts only when those that deliver at least once have stopped in order, and these do not
    /// start any more then. [`hand_back`](ExactlyOnceRelay::hand_back) is the way back.
    ///
    /// On SQLite, the relay ends with an error if its connection has less than
    /// `synchronous = FULL`, the default: a power loss could take back what was published.
    ///
    /// A failover of the database that loses commits, a restored backup, or a progress topic that
    /// has lost records make it go on from the cursor in the database: no event is lost, some may
    /// arrive twice, and that is logged and counted (`outbox_exactly_once_fallbacks_total`).
    ///
    /// ```no_run
    /// # async fn example(
    /// #     outbox: outbox::Outbox<sqlx::Postgres>,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// use outbox::publish::kafka::KafkaPublisher;
    /// use outbox::{ExactlyOnce, Relay};
    ///
    /// let publisher = KafkaPublisher::new("localhost:9092")?;
    /// let relay = Relay::builder(outbox, publisher);
    /// let relay = relay.build_exactly_once(ExactlyOnce::new().groups(4))?;
    /// relay.run(std::future::pending()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None at present. The result leaves room for settings that contradict each other.
    pub fn build_exactly_once(
        self,
        options: ExactlyOnce,
    ) -> Result<ExactlyOnceRelay<DB, P>, OutboxError>
    where
        DB: OutboxDatabase<LaneStore: ExactlyOnceStore>,
        P: TransactionalPublisher,
    {
        let Self { outbox, publisher, settings } = self;
        let core = outbox.core();
        let (lease, retention) = (settings.lease, settings.retention);
        let inner = DB::open_lanes(&core.pool, &core.names, lease, retention);
        let beside = (Arc::clone(&core.doorbell), core.meter.clone());
        let Sides { reader, publisher } = Sides::new(inner, publisher, options, beside, lease);
        let relay = RelayBuilder { outbox, publisher, settings }.reading_by(reader);
        Ok(ExactlyOnceRelay(relay))
    }
}
