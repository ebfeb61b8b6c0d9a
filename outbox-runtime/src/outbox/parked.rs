//! What an operator sees and does of parked events.

use uuid::Uuid;

use super::Outbox;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::record::{KeyDigest, Lane};
use crate::store::OutboxDatabase;
use crate::store::admin::{DiscardedEvent, ParkedEvent};
use crate::store::parked::{Discard, Release, parked_by};
use crate::store::parked_filter::{ParkedFilter, ParkedGroup, ParkedGrouping};

impl<DB: OutboxDatabase> Outbox<DB> {
    /// Parked events, at most `limit` (and never more than 10,000, or 16 MiB unless a single event
    /// is larger). Those of a topic and key are together, in their order; keys are in no particular
    /// order.
    ///
    /// A relay parks an event that the broker refused [several
    /// times](crate::RelayBuilder::park_after), and with it the later events of its topic and key,
    /// so that those stay in order and the other keys continue.
    ///
    /// ```
    /// # async fn example(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// let mut page = outbox.parked(100).await?;
    /// while let Some(last) = page.last() {
    ///     for parked in page.iter().filter(|parked| parked.waits_behind.is_none()) {
    ///         println!("{}: {:?}", parked.event.id, parked.reason);
    ///     }
    ///     page = outbox.parked_after(last, 100).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked(&self, limit: u32) -> Result<Vec<ParkedEvent>, OutboxError> {
        self.parked_where(&ParkedFilter::all(), None, limit).await
    }

    /// The parked events after `last` in the list of [`parked`](Self::parked). Empty at the end of
    /// the list.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked_after(
        &self,
        last: &ParkedEvent,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        self.parked_where(&ParkedFilter::all(), Some(last), limit).await
    }

    /// The parked events that `filter` means, in the order of [`parked`](Self::parked) and within
    /// its bounds: from the beginning, or those after `last`.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked_where(
        &self,
        filter: &ParkedFilter,
        last: Option<&ParkedEvent>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        let after = last.map(|last| (last.lane, parked_by(&last.event), last.seq));
        Ok(DB::parked(self.pool(), &self.core().names, filter, after, limit).await?)
    }

    /// Number of the parked events that `filter` means. It reads all of them.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn count_parked(&self, filter: &ParkedFilter) -> Result<u64, OutboxError> {
        Ok(DB::count_parked(self.pool(), &self.core().names, filter).await?)
    }

    /// The parked events that `filter` means, counted by what they have in common: the thousand
    /// groups with the most events, the largest first. It reads all of them.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked_groups(
        &self,
        filter: &ParkedFilter,
        by: ParkedGrouping,
    ) -> Result<Vec<ParkedGroup>, OutboxError> {
        Ok(DB::parked_groups(self.pool(), &self.core().names, filter, by).await?)
    }

    /// Has a relay try the parked events with this key again at once, on every topic, in order.
    /// Returns their number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked(&self, key: &[u8]) -> Result<u64, OutboxError> {
        self.release_parked_where(&ParkedFilter::all().key(key)).await
    }

    /// Has a relay try the parked events of this topic and key again at once, in order. Returns
    /// their number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked_on(&self, topic: &str, key: &[u8]) -> Result<u64, OutboxError> {
        let lane = Lane::of_key(key);
        self.release(Release::OnTopic(lane, KeyDigest::of(topic, key))).await
    }

    /// Has a relay try all parked events again at once, those of each key in order. Returns their
    /// number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_all_parked(&self) -> Result<u64, OutboxError> {
        self.release_parked_where(&ParkedFilter::all()).await
    }

    /// Has a relay try again at once, in order, all parked events of each topic and key of which
    /// `filter` means any event. Returns their number. What is parked of a topic that is
    /// [paused](Self::pause) is left out: it is released when the topic is resumed.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked_where(&self, filter: &ParkedFilter) -> Result<u64, OutboxError> {
        self.release(Release::Where(filter)).await
    }

    async fn release(&self, which: Release<'_>) -> Result<u64, OutboxError> {
        let core = self.core();
        let released = DB::release_parked(&core.pool, &core.names, which).await?;
        core.doorbell.ring_for_lanes();
        Ok(released)
    }

    /// Discards a parked event that is the first of its topic and key: it is not published, unless
    /// a relay sends it at this very moment, nor [replayed](Self::replay), unless by its id. The
    /// events behind it continue when they are tried again (or [released](Self::release_parked)).
    /// Returns whether it was parked.
    ///
    /// # Errors
    /// If it only [waits behind](ParkedEvent::waits_behind) the event that was refused
    /// ([`ErrorKind::NotAtFault`]); nothing is changed then. If the database refuses, or its tables
    /// are missing.
    pub async fn discard_parked(&self, id: Uuid) -> Result<bool, OutboxError> {
        self.discard(id, false).await
    }

    /// Discards a parked event as [`discard_parked`](Self::discard_parked) does, even if it only
    /// waits behind another one.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn discard_parked_even_if_it_waits(&self, id: Uuid) -> Result<bool, OutboxError> {
        self.discard(id, true).await
    }

    async fn discard(&self, id: Uuid, insist: bool) -> Result<bool, OutboxError> {
        let core = self.core();
        match DB::discard_parked(&core.pool, &core.names, id, insist).await? {
            Discard::NotParked => Ok(false),
            Discard::Waits(head) => Err(OutboxError::new(
                ErrorKind::NotAtFault,
                format!(
                    "event {id} was not discarded: it was not refused, but waits behind event {head} of its topic and key. \
                     Discard that one, or this one by `discard_parked_even_if_it_waits`"
                ),
            )),
            Discard::Done => {
                tracing::warn!(target: target::STORE, event_id = %id, "parked event discarded: it will not be published");
                core.doorbell.ring_for_lanes();
                Ok(true)
            }
        }
    }

    /// Discarded events, the latest first, at most `limit` (and never more than 10,000). They are
    /// forgotten when their space is reclaimed, since they cannot be replayed after that.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn discarded(&self, limit: u32) -> Result<Vec<DiscardedEvent>, OutboxError> {
        Ok(DB::discarded(self.pool(), &self.core().names, limit).await?)
    }
}
