//! Publishers that count and time what another one delivers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use tokio::sync::Notify;
use uuid::Uuid;

/// Kafka, or nowhere.
pub(super) enum Target {
    Kafka(KafkaPublisher),
    Nowhere,
}

/// What was delivered, and how long that took. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Delivered(Arc<Inner>);

#[derive(Default)]
struct Inner {
    events: AtomicU64,
    changed: Notify,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    /// When the commit of each event began that is not delivered yet.
    begun: HashMap<Uuid, Instant>,
    taken: Vec<Duration>,
}

/// What a relay publishes to.
pub(super) struct Timed {
    pub(super) target: Target,
    pub(super) delivered: Delivered,
}

impl Publisher for Timed {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let reports = match &self.target {
            Target::Kafka(kafka) => kafka.publish(batch).await,
            Target::Nowhere => batch.events.iter().map(|_| DeliveryReport::Delivered).collect(),
        };
        let delivered = batch.events.iter().zip(&reports);
        let delivered = delivered.filter(|(_, report)| report.is_delivered());
        self.delivered.note(delivered.map(|(event, _)| event.record.id));
        reports
    }
}

impl Delivered {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event that is about to be committed.
    pub(super) fn begins(&self, id: Uuid) {
        self.times().begun.insert(id, Instant::now());
    }

    fn note(&self, ids: impl Iterator<Item = Uuid>) {
        let now = Instant::now();
        let mut times = self.times();
        let mut events = 0;
        for id in ids {
            events += 1;
            if let Some(begun) = times.begun.remove(&id) {
                times.taken.push(now - begun);
            }
        }
        drop(times);
        self.0.events.fetch_add(events, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    pub(super) fn events(&self) -> u64 {
        self.0.events.load(Ordering::Relaxed)
    }

    /// Waits until all that began is delivered.
    pub(super) async fn all(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.times().begun.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// How long each took, the shortest first.
    pub(super) fn taken(&self) -> Vec<Duration> {
        let mut taken = std::mem::take(&mut self.times().taken);
        taken.sort_unstable();
        taken
    }
}
