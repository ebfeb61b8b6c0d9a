//! The relay: from the outbox to the broker, at least once and in the order of each key.

mod engine;
mod lane;
mod maintenance;
mod memory;
mod reading;

use std::future::Future;
use std::time::Duration;

use crate::durations::{LONGEST_KEEPING, LONGEST_WAIT, within};
use crate::error::OutboxError;
use crate::observe::target;
use crate::outbox::Outbox;
use crate::publish::Publisher;
use crate::store::{OutboxDatabase, Share};

/// Publishes committed events, in order, at least once.
///
/// Run it inside the service or as a process of its own, and as many as you like: they share the
/// sixteen lanes of the outbox evenly. When one joins or leaves, lanes change hands at once; those
/// of one that died, when its lease runs out. A relay reads what was committed, sends it without
/// waiting for one event before the next, and saves its progress only when the broker has
/// acknowledged: after a crash, what was not saved is published again. While the database or the
/// broker is away, it waits and goes on by itself.
///
/// An event that Kafka refuses (its topic does not exist, this user may not write to it) stops its
/// lane for some attempts, one that is too large for one, and is then *parked*, with the later
/// events of its topic and key: so that their order stays, and all other keys go on. Parked events
/// are tried again from time to time; see [`Outbox::parked`]. If the database does not take what is
/// to be parked, only its lane waits.
///
/// ```no_run
/// # async fn example(
/// #     outbox: outbox::Outbox<sqlx::Sqlite>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use outbox::Relay;
/// use outbox::publish::kafka::KafkaPublisher;
///
/// let publisher = KafkaPublisher::new("localhost:9092")?;
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let relay = Relay::new(outbox, publisher);
/// let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
/// // …
/// drop(stop);
/// relay.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Relay<DB: OutboxDatabase, P> {
    outbox: Outbox<DB>,
    publisher: P,
    settings: Settings,
}

/// A relay that died without a word is noticed after as long.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
struct Settings {
    poll_interval: Duration,
    lease: Duration,
    batch_rows: u32,
    batch_bytes: u64,
    memory: u64,
    drain_timeout: Duration,
    park_after: u32,
    retry_parked: Duration,
    retention: Duration,
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

impl<DB: OutboxDatabase, P: Publisher> Relay<DB, P> {
    /// A relay from `outbox` to `publisher`, with all settings at their defaults.
    pub fn new(outbox: Outbox<DB>, publisher: P) -> Self {
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

    /// The most that it reads of a lane at once, and the most of a lane that is with the publisher:
    /// events, and their bytes (a single larger event is read all the same). Default: 1,500 events,
    /// 1 MiB. The bytes are at most a 64th of [`memory`](Self::memory).
    #[must_use]
    pub fn batch_per_lane(mut self, events: u32, bytes: u64) -> Self {
        self.settings.batch_rows = events.max(1);
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

    /// Publishes until `shutdown` resolves; then stops reading, waits for what is in flight, saves
    /// its progress and gives its lanes back, so that another relay goes on at once. That takes no
    /// longer than [`drain_timeout`](Self::drain_timeout), and 5 s more if the database does not
    /// answer. Dropping the future ends the relay at once, as a crash would: nothing is lost, what
    /// was in flight is published again, and its lanes are free when their lease runs out.
    ///
    /// # Errors
    /// At the start: the outbox's tables are missing or too new, the database refuses the
    /// credentials. At any time: a transaction pooler is in between, the database's transaction ids
    /// started over. A relay that has worked once waits for everything else, also for new
    /// credentials ([`Pool::set_connect_options`](sqlx::Pool::set_connect_options)) and for the end
    /// of a failover, and logs (by `tracing`) when that begins and when it ends.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), OutboxError> {
        // On the heap, or whoever awaits it carries its 20 KB.
        let result = Box::pin(engine::Engine::new(self, Share::Fair).run(shutdown)).await;
        if let Err(error) = &result {
            // Of a spawned task, the result may never be looked at.
            tracing::error!(target: target::RELAY, %error, "the relay ended: events stay in the outbox until one runs again");
        }
        result
    }

    /// Publishes what is committed by now and returns how many events that were: for tests, and for
    /// jobs that end.
    ///
    /// # Errors
    /// As [`run`](Self::run), and also when an event is refused, when the database is away, or when
    /// another relay holds lanes: the error names it, the lanes, and until when.
    pub async fn drain(self) -> Result<u64, OutboxError> {
        Box::pin(engine::Engine::new(self, Share::All).drain()).await
    }
}
