//! The seam for delivery exactly once: publishers that commit events and the relay's progress in
//! one transaction of the broker's.

use std::future::Future;

use super::{Batch, DeliveryReport};
use crate::error::OutboxError;

/// Which group of lanes of which outbox: what the names of its producers are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupId {
    /// Identity of the outbox. It may have any characters: a publisher makes names of it that its
    /// broker takes.
    pub outbox: String,
    /// Number of the group, from 0.
    pub group: u16,
    /// Number of all groups of the outbox.
    pub groups: u16,
}

/// The session is over: nothing more can be sent in it. What was open may or may not have been
/// committed, and only taking over again tells.
#[derive(Debug)]
pub struct Closed(pub OutboxError);

/// A publisher that publishes in transactions, with the relay's progress in them.
pub trait TransactionalPublisher: Send + Sync + 'static {
    /// The right to publish for a group, until another one is opened.
    type Session: GroupSession;

    /// Ends what another process has open for the group, and prevents it from publishing. Then
    /// returns the last committed progress of the group, `None` if there is none.
    ///
    /// # Errors
    /// If the broker does not answer in time, or refuses. Nothing was published; another process
    /// that had a session may have lost it.
    fn open(
        &self,
        group: &GroupId,
    ) -> impl Future<Output = Result<(Self::Session, Option<Vec<u8>>), OutboxError>> + Send;
}

/// One wave at a time: begin, send any number of batches at once, then commit or abort.
///
/// Of two sessions of a group that are opened at the same time, only one gets past its first
/// commit. So the first one has no events, but progress under a claim of its own.
///
/// Dropped, it aborts what is open, some time later.
pub trait GroupSession: Send + Sync + 'static {
    /// Begins a wave.
    fn begin(&self) -> impl Future<Output = Result<(), Closed>> + Send;

    /// Publishes the events of a batch in the wave, and returns their reports, in their order.
    /// `Delivered` means acknowledged: it counts once the wave is committed. It is called
    /// concurrently for several batches of a wave; what is said of
    /// [`Publisher::publish`](super::Publisher::publish) holds here, too.
    ///
    /// A batch that is [alone](Batch::alone) is the only one of its wave: otherwise it may share a
    /// request to the broker with another one.
    ///
    /// A wave in which an event was not delivered can only be aborted.
    fn send(&self, batch: Batch<'_>) -> impl Future<Output = Vec<DeliveryReport>> + Send;

    /// Sends the progress as the last record of the wave, waits for its report, and commits. Call
    /// it when all batches of the wave are reported as delivered.
    fn commit(&self, progress: Vec<u8>) -> impl Future<Output = Result<(), Closed>> + Send;

    /// Aborts the wave: nothing of it will ever be seen. Another one can begin. Call it when all
    /// batches of the wave are reported, or their futures dropped.
    fn abort(&self) -> impl Future<Output = Result<(), Closed>> + Send;
}
