//! The publisher seam: where a relay's events are sent.

pub(crate) mod headers;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "postgres")]
pub(crate) mod slot;
pub(crate) mod spans;
// The relay does not publish in transactions yet.
#[allow(dead_code)]
pub(crate) mod transactions;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

#[cfg(feature = "postgres")]
pub use slot::SlotPublisher;

use crate::error::OutboxError;
use crate::record::{Lane, StoredEvent};
use crate::store::Parking;
use crate::trace::{Propagation, Tracing};

/// Where a relay publishes: `KafkaPublisher` in production (feature `kafka`),
/// [`MemoryPublisher`](crate::testing::MemoryPublisher) in tests.
///
/// A publisher of your own may send somewhere else, or do something beside another one:
///
/// ```
/// use outbox::publish::{Batch, DeliveryReport, Publisher};
///
/// /// Counts the events that another publisher delivers.
/// struct Counted<P> {
///     publisher: P,
///     count: fn(usize),
/// }
///
/// impl<P: Publisher> Publisher for Counted<P> {
///     async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
///         let reports = self.publisher.publish(batch).await;
///         let delivered = reports.iter().filter(|report| report.is_delivered());
///         (self.count)(delivered.count());
///         reports
///     }
/// }
/// ```
pub trait Publisher: Send + Sync + 'static {
    /// Publishes the events of `batch` and returns a report for each, in their order, when all have
    /// a final one. The relay has many such calls open at once; those of one lane have no key in
    /// common.
    ///
    /// The contract, on which the order of events rests:
    /// - events of one key are sent in the order given, and no event overtakes an earlier one of
    ///   its key and topic that was refused or may still be;
    /// - `Delivered` means durable: the relay will never send that event again;
    /// - once an event has failed, later ones are not sent if that can be avoided: they are
    ///   `NotSent`;
    /// - while no broker answers, this waits: that is not a failure of the events. If a broker
    ///   answers but accepts nothing for the topic of an event, that event is `TopicRefused` in the
    ///   end;
    /// - the event of a batch that is [alone](Batch::alone) shares no request to the broker with
    ///   any other;
    /// - when the future is dropped, what is still queued is not sent if that can be avoided.
    fn publish(&self, batch: Batch<'_>) -> impl Future<Output = Vec<DeliveryReport>> + Send;
}

/// For relays that share a publisher: those of several outboxes in a process.
impl<P: Publisher> Publisher for Arc<P> {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        (**self).publish(batch).await
    }
}

/// Events of one lane that a relay gives to a [`Publisher`] at once.
///
/// It has what a publisher needs to keep its progress at the broker, in the transaction that
/// publishes the events: the lane, the lease, and up to where the lane is published with them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// Events, in the order of the lane; at least one. Parked ones are left out.
    pub events: &'a [StoredEvent],
    /// Lane of all of them.
    pub lane: Lane,
    /// Epoch of the relay's lease of the lane. It grows each time that the lane changes hands: of
    /// two relays that publish it, the one with the smaller epoch has lost it.
    pub epoch: i64,
    /// Whether this is a single event whose report must be about it alone. A broker may refuse a
    /// whole request for one event in it; the relay then sends the events one by one.
    pub alone: bool,
    /// Place in the lane that is reached when all of `events` are delivered. `None`: they are
    /// parked events that are tried again, and the lane is read past them already.
    pub progress: Option<Position<'a>>,
    /// Where it belongs among the batches of its lane. `None`: as for `progress`.
    pub(crate) place: Option<Place>,
    /// Events of the lane that are passed over, and are parked before `progress` counts.
    pub(crate) passed_over: &'a [Parking],
    pub(crate) tracing: &'a Tracing,
}

/// Where a batch belongs among those of its lane under one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Grows when the lane is read again from an earlier cursor. What is left of an earlier
    /// generation must not be published any more.
    pub(crate) generation: u64,
    /// Its number in that generation, from 0.
    pub(crate) number: u64,
}

impl<'a> Batch<'a> {
    /// How the trace contexts of its events are read, for a publisher that makes spans of its own.
    /// `None`: the outbox has no [`propagation`](crate::OutboxBuilder::propagation).
    #[must_use]
    pub fn propagation(&self) -> Option<&'a dyn Propagation> {
        self.tracing.propagation()
    }
}

/// A position in a lane, between two events.
///
/// Its text is complete: the reader of the lane could continue from it.
#[derive(Clone, Copy)]
pub struct Position<'a>(pub(crate) &'a (dyn fmt::Display + Send + Sync));

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

/// What became of an event sent to the publisher.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeliveryReport {
    /// It is durable at the broker.
    Delivered,
    /// It was refused. The relay tries it again, alone, and then parks it.
    Refused(OutboxError),
    /// It was refused for what it is, for example as too large. It is tried alone once, and then
    /// parked: more attempts would only hold up its lane.
    EventRefused(OutboxError),
    /// The broker accepts nothing for its topic: the topic does not exist, this user may not write
    /// to it, or too few of its replicas are in sync.
    TopicRefused(OutboxError),
    /// It was not sent, through no fault of its own: an earlier event failed, or the producer had
    /// to be replaced.
    NotSent,
}

impl DeliveryReport {
    /// Whether the event is durable at the broker.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// The error of a refusal. `None`: it was not refused.
    pub(crate) fn into_refusal(self) -> Option<OutboxError> {
        match self {
            Self::Refused(error) | Self::EventRefused(error) | Self::TopicRefused(error) => {
                Some(error)
            }
            Self::Delivered | Self::NotSent => None,
        }
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
