//! Handing an outbox over to Debezium.

use sqlx::Postgres;

use super::Outbox;
use super::deadline::{ANSWER_WITHIN, in_time};
use crate::error::OutboxError;
use crate::store::postgres::slot;

/// Where a replication slot begins that Debezium will read: see [`Outbox::hand_off`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOff {
    older: slot::Older,
}

impl Outbox<Postgres> {
    /// Creates the publication and the replication slot by which Debezium is to read this outbox, if
    /// they are not there. Relays go on meanwhile.
    ///
    /// Debezium publishes what is committed after that, and nothing from before. When
    /// [`is_handed_off`](Self::is_handed_off) says so, relays have published what is from before, and can
    /// be stopped; then start Debezium. In between, events are published by neither, or by both: none is
    /// lost, and consumers skip what comes twice.
    ///
    /// The creation of a slot waits for the transactions that are open.
    ///
    /// # Errors
    /// If `wal_level` is not `logical`, events are parked, the slot or the publication is there and is of
    /// no use for this, or this user may not create them. The message says which.
    pub async fn hand_off(&self, slot: &str, publication: &str) -> Result<HandOff, OutboxError> {
        let names = &self.core().names;
        // On the heap: several kilobytes would be part of the future of each caller.
        let older = Box::pin(slot::prepare(self.pool(), names, slot, publication)).await?;
        Ok(HandOff { older })
    }

    /// Whether relays have published all events that were committed before the slot's start. It is not so
    /// while a transaction of that time is open.
    ///
    /// # Errors
    /// If the database refuses, or does not answer within 5 s.
    pub async fn is_handed_off(&self, hand_off: &HandOff) -> Result<bool, OutboxError> {
        let pending = Box::pin(slot::is_pending(self.pool(), &self.core().names, &hand_off.older));
        Ok(!in_time("what is pending", ANSWER_WITHIN, pending).await?)
    }
}
