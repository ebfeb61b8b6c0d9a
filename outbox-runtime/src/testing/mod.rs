//! For tests of your own service, without Kafka.
//!
//! ```
//! # async fn example<E: outbox::DomainEvent>(
//! #     outbox: outbox::Outbox<sqlx::Sqlite>, order_created: E,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use outbox::Relay;
//! use outbox::testing::MemoryPublisher;
//!
//! let mut tx = outbox.begin().await?;
//! tx.emit(order_created)?;
//! tx.commit().await?;
//!
//! let kafka = MemoryPublisher::new();
//! Relay::new(outbox, kafka.clone()).drain().await?;
//! assert_eq!(kafka.published()[0].name, "order.created");
//! # Ok(())
//! # }
//! ```

mod handlers;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use handlers::{Delivery, HandlerTest, TestMessage};

use tokio::sync::Notify;

use crate::error::{ErrorKind, OutboxError};
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

impl Publisher for MemoryPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let mut state = self.0.state();
        let mut failed = false;
        let reports = batch
            .events
            .iter()
            .map(|event| {
                if failed {
                    return DeliveryReport::NotSent;
                }
                if let Some(why) = state.refuse.as_mut().and_then(|refuse| refuse(&event.record)) {
                    failed = true;
                    return DeliveryReport::Refused(OutboxError::new(ErrorKind::Kafka, why));
                }
                state.published.push(event.record.clone());
                DeliveryReport::Delivered
            })
            .collect();
        drop(state);
        self.0.changed.notify_waiters();
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
