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
    /// Publishes `events`, consecutive ones of one lane, and returns a report for each, at its
    /// place, when all have a final one. The relay has many such calls open at once; those of one
    /// lane have no key in common.
    ///
    /// The contract, on which the order of events rests:
    /// - events of one key are sent in the order given, and no event overtakes an earlier one of
    ///   its key and topic that was refused or may still be;
    /// - `Delivered` means durable: the relay will never send that event again;
    /// - once an event has failed, the later ones are not sent if that can still be helped: they
    ///   are `NotSent`;
    /// - while the broker is away, this waits: it is not a failure of the events. While it is
    ///   there, and takes nothing for the topic of an event, that event is `TopicRefused` in the
    ///   end;
    /// - when the future is dropped, what is still queued is not sent if that can be helped.
    fn publish(&self, events: &[StoredEvent]) -> impl Future<Output = Vec<DeliveryReport>> + Send;

    /// Publishes one event so that its report is about nothing else: a broker may refuse a whole
    /// batch for one event in it. The relay asks for it after such a refusal.
    fn publish_alone(&self, event: &StoredEvent) -> impl Future<Output = DeliveryReport> + Send {
        async move {
            self.publish(std::slice::from_ref(event)).await.pop().unwrap_or(DeliveryReport::NotSent)
        }
    }
}

/// What became of an event that was to be published.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeliveryReport {
    /// It is durable at the broker.
    Delivered,
    /// It was refused; the relay tries it again, alone, and then parks it.
    Refused(OutboxError),
    /// It was refused for what it is, as too large: it is tried alone, and parked at once. To try
    /// it again soon would only hold up its lane.
    EventRefused(OutboxError),
    /// The broker takes nothing for its topic: there is none of that name, this user may not write
    /// to it, or too few of its replicas are in sync.
    TopicRefused(OutboxError),
    /// It was not sent, for no fault of its own: an earlier event failed, or the connection to the
    /// broker had to be made anew.
    NotSent,
}

impl DeliveryReport {
    /// Whether the event is durable at the broker.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// Whether it was refused, for itself or for its topic.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::EventRefused(_) | Self::TopicRefused(_))
    }
}

impl fmt::Display for DeliveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Refused(error) | Self::EventRefused(error) | Self::TopicRefused(error) => {
                write!(f, "{error}")
            }
            Self::NotSent => f.write_str("not sent, for no fault of its own"),
        }
    }
}
