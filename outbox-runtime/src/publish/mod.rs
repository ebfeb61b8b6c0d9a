//! The publisher seam: where the relay's events go.

#[cfg(feature = "kafka")]
pub mod kafka;

use std::fmt;
use std::future::Future;

use crate::error::OutboxError;
use crate::record::StoredEvent;

/// Where a relay publishes: `KafkaPublisher` in production (feature `kafka`),
/// [`MemoryPublisher`](crate::testing::MemoryPublisher) in tests.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes `events`, and returns a report for each, at its place, when all have a final one.
    ///
    /// The contract, on which the order of events rests:
    /// - events of one lane are sent in the order given;
    /// - `Delivered` means durable: the relay will never send that event again;
    /// - once an event has failed, later ones of its lane are not sent if that can still be helped: they are
    ///   `NotSent`;
    /// - while the broker is away, this waits: it is not a failure of the events;
    /// - when the future is dropped, what is still queued is not sent if that can be helped.
    fn publish(&self, events: &[&StoredEvent]) -> impl Future<Output = Vec<DeliveryReport>> + Send;
}

/// What became of an event that was to be published.
#[derive(Debug)]
pub enum DeliveryReport {
    /// It is durable at the broker.
    Delivered,
    /// It was refused; the relay tries it again later, and the later events of its lane wait.
    Failed(OutboxError),
    /// It was not sent, because an earlier event of its lane failed.
    NotSent,
}

impl DeliveryReport {
    /// Whether the event is durable at the broker.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}

impl fmt::Display for DeliveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::NotSent => f.write_str("not sent, because an earlier event of its lane failed"),
        }
    }
}
