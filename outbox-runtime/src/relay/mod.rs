//! The relay: from the outbox to the broker, in the order of each key, at least once or exactly
//! once.

mod builder;
mod engine;
mod exactly_once;
mod lane;
mod maintenance;
mod memory;
mod reading;
mod settings;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::task::JoinSet;

pub use builder::RelayBuilder;
pub use exactly_once::{ExactlyOnce, ExactlyOnceRelay};
pub use memory::MemoryBudget;

use engine::{Engine, Parts};
use memory::Memory;
use settings::Settings;

use crate::error::OutboxError;
use crate::observe::{Health, Heartbeat, target};
use crate::outbox::Outbox;
use crate::publish::Publisher;
use crate::store::{LaneStore, OutboxDatabase, Share, sealed};

/// Publishes committed events, in the order of each key: at least once, or exactly once.
///
/// Run it inside the service or as a process of its own. Any number of relays share the sixteen
/// lanes of the outbox evenly. When one joins or leaves, lanes change hands at once; when one dies,
/// after its lease. A relay reads what was committed, sends it without waiting for one event before
/// the next, and saves its progress only when the broker has acknowledged: after a crash, what was
/// not saved is published again. While the database or the broker is away, it waits, and then
/// continues without help.
///
/// An event that Kafka refuses (its topic does not exist, this user may not write to it) stops its
/// lane for some attempts; one that is too large, for one attempt. It is then *parked*, with the
/// later events of its topic and key, so that these stay in order and all other keys continue.
/// Parked events are tried again from time to time; see [`Outbox::parked`]. If the database does
/// not accept the events to be parked, only their lane waits.
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
///
/// # Delivery
///
/// [`RelayBuilder::build`] makes a relay that delivers at least once: consumers with an inbox handle
/// each event once all the same. [`RelayBuilder::build_exactly_once`] makes one that publishes
/// events and its progress in transactions of Kafka, on Postgres: those who read with
/// `isolation.level=read_committed` get each event once, whatever crashes. All relays of an outbox
/// deliver in the same way. What each costs, and how to change from one to the other, is on the
/// guide's page `exactly-once`.
///
/// `R` reads the lanes, and saves how far they are published. By default, that is what the database
/// itself offers for it.
pub struct Relay<DB: OutboxDatabase, P, R = <DB as sealed::Database>::LaneStore> {
    outbox: Outbox<DB>,
    publisher: P,
    reader: R,
    settings: Settings,
    memory: Memory,
    heartbeat: Heartbeat,
}

impl<DB: OutboxDatabase, P: Publisher, R: LaneStore> Relay<DB, P, R> {
    /// Whether it is ready, and whether it is live: for the probes of an orchestrator.
    #[must_use]
    pub fn health(&self) -> Health {
        self.heartbeat.health()
    }

    /// Publishes until `shutdown` resolves; then stops reading, waits for what is in flight, saves
    /// its progress and gives its lanes back, so that another relay takes over. That takes no
    /// longer than [`drain_timeout`](RelayBuilder::drain_timeout), and 5 s more if the database
    /// does not answer. Dropping the future ends the relay at once, as a crash would: nothing is
    /// lost, what was in flight is published again, and its lanes are free when their lease runs
    /// out.
    ///
    /// # Errors
    /// At the start: the outbox's tables are missing or too new, TLS fails, the database refuses
    /// the credentials. At any time: a transaction pooler is in between, or the database's
    /// transaction ids started over. A relay that has worked once waits for everything else, also
    /// for new credentials ([`Pool::set_connect_options`](sqlx::Pool::set_connect_options)) and for
    /// the end of a failover, and logs (by `tracing`) when that begins and when it ends.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), OutboxError> {
        let Self { outbox, publisher, reader, settings, memory, heartbeat } = self;
        let helpers = |holds_lanes| helpers(&outbox, settings.clone(), holds_lanes);
        let parts = Parts { reader, publisher, memory, heartbeat };
        let engine = Engine::new(parts, settings.clone(), Share::Fair);
        // On the heap: its 20 KB would be part of the future of each caller.
        let result = Box::pin(engine.run(&outbox.core().doorbell, helpers, shutdown)).await;
        if let Err(error) = &result {
            // The result of a spawned task may never be looked at.
            tracing::error!(target: target::RELAY, %error, "the relay ended: events stay in the outbox until one runs again");
        }
        result
    }

    /// Publishes what is committed by now, and returns the number of events: for tests, and for
    /// jobs that end.
    ///
    /// # Errors
    /// As [`run`](Self::run), and also if an event is refused, if the database is away, or if
    /// another relay holds lanes: the error names that relay, the lanes, and until when it holds
    /// them.
    pub async fn drain(self) -> Result<u64, OutboxError> {
        let Self { publisher, reader, settings, memory, heartbeat, .. } = self;
        let parts = Parts { reader, publisher, memory, heartbeat };
        Box::pin(Engine::new(parts, settings, Share::All).drain()).await
    }
}

impl<DB: OutboxDatabase, P: fmt::Debug, R> fmt::Debug for Relay<DB, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("outbox", &self.outbox)
            .field("publisher", &self.publisher)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Starts what runs beside a relay. `holds_lanes`: whether the relay holds any now.
fn helpers<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    settings: Settings,
    holds_lanes: Arc<AtomicBool>,
) -> JoinSet<()> {
    let shared = outbox.core();
    let (pool, names) = (shared.pool.clone(), Arc::clone(&shared.names));
    let mut helpers = JoinSet::new();
    helpers.spawn(maintenance::run(outbox.clone(), settings, holds_lanes));
    helpers.spawn(DB::listen_to_others(pool, names, Arc::clone(&shared.doorbell)));
    helpers
}
