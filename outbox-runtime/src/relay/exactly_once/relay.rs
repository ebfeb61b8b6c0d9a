//! The relay itself.

use std::fmt;

use super::hand_back::hand_back;
use super::{ExactlyOncePublisher, ExactlyOnceReader, GroupStoreOf};
use crate::error::OutboxError;
use crate::observe::Health;
use crate::publish::transactions::TransactionalPublisher;
use crate::relay::Relay;
use crate::store::groups::ExactlyOnceStore;
use crate::store::status::DeliveryStatus;
use crate::store::{OutboxDatabase, sealed};

type StoreOf<DB> = <DB as sealed::Database>::LaneStore;
type PublisherOf<DB, P> = ExactlyOncePublisher<GroupStoreOf<StoreOf<DB>>, P>;
type ReaderOf<DB, P> = ExactlyOnceReader<StoreOf<DB>, P>;

/// A relay that delivers each event exactly once:
/// [`RelayBuilder::build_exactly_once`](crate::RelayBuilder::build_exactly_once) makes it.
// A type of its own, and no name for one with long arguments: where a database has no such relay,
// the compiler then says why, and not only that there is no method.
pub struct ExactlyOnceRelay<DB, P>(
    pub(in crate::relay) Relay<DB, PublisherOf<DB, P>, ReaderOf<DB, P>>,
)
where
    DB: OutboxDatabase<LaneStore: ExactlyOnceStore>,
    P: TransactionalPublisher;

impl<DB, P> ExactlyOnceRelay<DB, P>
where
    DB: OutboxDatabase<LaneStore: ExactlyOnceStore>,
    P: TransactionalPublisher,
{
    /// As [`Relay::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// As [`Relay::run`]. A transaction that is open when `shutdown` resolves is committed, or
    /// aborted and published again by the next relay.
    ///
    /// # Errors
    /// As [`Relay::run`]; and if the outbox's events are delivered at least once by a relay that
    /// runs.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), OutboxError> {
        self.0.run(shutdown).await
    }

    /// As [`Relay::drain`].
    ///
    /// # Errors
    /// As [`Relay::drain`].
    pub async fn drain(self) -> Result<u64, OutboxError> {
        self.0.drain().await
    }

    /// Changes the delivery of the outbox back to at least once, and publishes nothing.
    ///
    /// Stop all relays before. This takes all groups over, which ends whatever they left open on
    /// the brokers, and then saves in one transaction how far each lane is published. From then on,
    /// relays that deliver at least once start, and go on exactly there. A relay that delivers
    /// exactly once changes the delivery again when it starts, if those are stopped then.
    ///
    /// It does nothing if the outbox is delivered at least once.
    ///
    /// # Errors
    /// If a relay holds lanes, or if the database or the brokers do not answer within a minute:
    /// nothing has changed then, unless the error says that this is not known.
    pub async fn hand_back(self) -> Result<(), OutboxError> {
        let Relay { outbox, reader, .. } = self.0;
        if outbox.status().await?.delivery == DeliveryStatus::AtLeastOnce {
            return Ok(());
        }
        // On the heap: its 20 KB would be part of the future of each caller.
        Box::pin(hand_back(reader)).await
    }
}

impl<DB, P> fmt::Debug for ExactlyOnceRelay<DB, P>
where
    DB: OutboxDatabase<LaneStore: ExactlyOnceStore>,
    P: TransactionalPublisher,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactlyOnceRelay").field("outbox", &self.0.outbox).finish_non_exhaustive()
    }
}
