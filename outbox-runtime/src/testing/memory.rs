//! A publisher without a broker.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::{ErrorKind, OutboxError};
use crate::publish::spans::SendSpans;
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::record::EventRecord;

/// A publisher that keeps what it gets. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryPublisher(Arc<Memory>);

#[derive(Default)]
struct Memory {
    state: Mutex<State>,
    changed: Notify,
}

type Refusal = Box<dyn FnMut(&EventRecord) -> Option<String> + Send>;

#[derive(Default)]
struct State {
    published: Vec<EventRecord>,
    refuse: Option<Refusal>,
}

impl MemoryPublisher {
    /// A publisher that has got nothing yet, and accepts everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was published so far, in order.
    #[must_use]
    pub fn published(&self) -> Vec<EventRecord> {
        self.0.state().published.clone()
    }

    /// Waits until `count` events were published, and returns them.
    pub async fn wait_for(&self, count: usize) -> Vec<EventRecord> {
        loop {
            let changed = self.0.changed.notified();
            let published = self.published();
            if published.len() >= count {
                return published;
            }
            changed.await;
        }
    }

    /// From now on, calls `refuse` with every event. `Some(reason)` refuses the event, as a broker
    /// would.
    pub fn refuse(&self, refuse: impl FnMut(&EventRecord) -> Option<String> + Send + 'static) {
        self.0.state().refuse = Some(Box::new(refuse));
    }

    /// Accepts everything again.
    pub fn accept_all(&self) {
        self.0.state().refuse = None;
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps an event, unless it is to be refused.
    fn accept(&mut self, event: &EventRecord) -> DeliveryReport {
        if let Some(why) = self.refuse.as_mut().and_then(|refuse| refuse(event)) {
            return DeliveryReport::Refused(OutboxError::new(ErrorKind::Kafka, why));
        }
        self.published.push(event.clone());
        DeliveryReport::Delivered
    }
}

impl MemoryPublisher {
    /// Keeps one event, unless it is to be refused.
    pub(super) fn accept(&self, event: &EventRecord) -> DeliveryReport {
        let report = self.0.state().accept(event);
        self.0.changed.notify_waiters();
        report
    }
}

impl Publisher for MemoryPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let spans = SendSpans::open(&batch, "memory", Into::into);
        let mut state = self.0.state();
        let mut reports = Vec::with_capacity(batch.events.len());
        for event in batch.events {
            reports.push(state.accept(&event.record));
            if reports.last().is_some_and(|report| !report.is_delivered()) {
                break;
            }
        }
        drop(state);
        self.0.changed.notify_waiters();
        reports.resize_with(batch.events.len(), || DeliveryReport::NotSent);
        spans.close(&reports, |_| None);
        reports
    }
}

impl fmt::Debug for MemoryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher")
            .field("published", &self.0.state().published.len())
            .finish_non_exhaustive()
    }
}
