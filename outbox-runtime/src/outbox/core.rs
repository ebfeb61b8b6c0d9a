//! What a transaction needs of its outbox, and shares with the relay of its process.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Pool;
use tokio::task::JoinHandle;

use crate::doorbell::Doorbell;
use crate::observe::Meter;
use crate::store::OutboxDatabase;
use crate::store::names::Names;
use crate::trace::Tracing;

/// Default of [`OutboxBuilder::max_event_bytes`](crate::OutboxBuilder::max_event_bytes), in bytes
/// of payload, key and headers together. librdkafka's own limit is 1,000,000 bytes
/// (`message.max.bytes`); the difference is for the headers that the relay adds.
pub const DEFAULT_MAX_EVENT_BYTES: usize = 950_000;

/// The settings of an outbox, and what wakes its relays.
pub(crate) struct Core<DB: OutboxDatabase> {
    pub(crate) pool: Pool<DB>,
    pub(crate) names: Arc<Names>,
    pub(crate) doorbell: Arc<Doorbell>,
    /// Largest event that `emit` takes, in bytes of payload, key and headers.
    pub(crate) max_event_bytes: usize,
    /// How trace contexts go with events.
    pub(crate) tracing: Tracing,
    /// Where its metrics are reported.
    pub(crate) meter: Meter,
    /// `None`: relays of other processes are not woken.
    notifier: Option<Notifier>,
}

/// The task that rings in other processes. It is started at the first ring, when there certainly is
/// a runtime.
#[derive(Default)]
struct Notifier(Mutex<Option<JoinHandle<()>>>);

impl Drop for Notifier {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl<DB: OutboxDatabase> Core<DB> {
    pub(crate) fn new(
        pool: Pool<DB>,
        names: Names,
        max_event_bytes: usize,
        tracing: Tracing,
        notify: bool,
    ) -> Self {
        let names = Names { quote: DB::QUOTE, ..names };
        names.note_use();
        let meter = Meter::of_outbox(&names.in_metrics());
        Self {
            pool,
            meter,
            names: Arc::new(names),
            doorbell: Arc::default(),
            max_event_bytes,
            tracing,
            notifier: notify.then(Notifier::default),
        }
    }

    /// The same, with a name of its own in metrics.
    pub(crate) fn named(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self { meter: Meter::of_outbox(name), ..self },
            None => self,
        }
    }

    /// Wakes the relays, here and in other processes.
    pub(crate) fn ring(&self) {
        self.doorbell.ring_here();
        let Some(notifier) = self.notifier.as_ref().filter(|_| self.doorbell.is_for_others())
        else {
            return;
        };
        let mut task = notifier.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The task may have ended with its runtime, as when each test has its own.
        if task.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let Self { pool, names, doorbell, .. } = self;
            *task = Some(runtime.spawn(DB::notify_others(
                pool.clone(),
                Arc::clone(names),
                Arc::clone(doorbell),
            )));
        }
        drop(task);
        self.doorbell.ring_elsewhere();
    }
}
