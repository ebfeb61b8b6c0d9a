//! What an operator asks of an outbox: how far its relays are, what is parked, and what to publish
//! again.

use std::time::Duration;

use uuid::Uuid;

use super::Outbox;
use crate::durations::{LONGEST_KEEPING, within};
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::record::{KeyDigest, Lane};
use crate::store::OutboxDatabase;
use crate::store::admin::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::store::parked::{Discard, Release, parked_by};
use crate::store::tx_options::TxOptions;

impl<DB: OutboxDatabase> Outbox<DB> {
    /// How far the relays are. On Postgres this reads up to [`Status::COUNTED`] index entries for
    /// each lane.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        Ok(DB::status(self.pool(), &self.core().names).await?)
    }

    /// Forgets what the consumer group `group` handled longer ago than `retention`. Running
    /// consumers do this regularly; call it for handlers that no [`Consumer`](crate::consume) runs.
    /// Returns the number of events.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn forget_handled(
        &self,
        group: &str,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        /// Most rows in one statement, so that none holds locks for long.
        const AT_ONCE: u32 = 5_000;
        let names = &self.core().names;
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin_with(TxOptions::of_consumer(Duration::from_secs(60))).await?;
            let now = DB::forget_inbox(&mut tx, names, group, retention, AT_ONCE).await?;
            tx.commit().await?;
            forgotten += now;
            if now < u64::from(AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }

    /// Takes back the space of events that are published and older than `retention`. A running
    /// relay does this every few seconds; call it in jobs, or when all relays are stopped. Returns
    /// the number of events. On Postgres, space comes back in blocks of about a million events.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn reclaim(&self, retention: Duration) -> Result<u64, OutboxError> {
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        Ok(DB::reclaim(self.pool(), &self.core().names, retention).await?)
    }

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
        Ok(DB::parked(self.pool(), &self.core().names, None, limit).await?)
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
        let after = Some((last.lane, parked_by(&last.event), last.seq));
        Ok(DB::parked(self.pool(), &self.core().names, after, limit).await?)
    }

    /// Has a relay try the parked events with this key again at once, on every topic, in order.
    /// Returns their number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked(&self, key: &[u8]) -> Result<u64, OutboxError> {
        self.release(Release::Key(key)).await
    }

    /// Has a relay try the parked events of this topic and key again at once, in order. Returns
    /// their number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked_on(&self, topic: &str, key: &[u8]) -> Result<u64, OutboxError> {
        let lane = Lane::of(Some(key), Uuid::nil());
        self.release(Release::OnTopic(lane, KeyDigest::of(topic, key))).await
    }

    /// Has a relay try all parked events again at once, those of each key in order. Returns their
    /// number.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_all_parked(&self) -> Result<u64, OutboxError> {
        self.release(Release::All).await
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
                    "event {id} was not discarded: it was not refused, but waits behind event {head} of its topic and key.                      Discard that one, or this one by `discard_parked_even_if_it_waits`"
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

    /// Publishes retained events again, with their ids, after all that is in the outbox now; a
    /// consumer skips those whose ids it remembers. Returns their number. They are copied in one
    /// transaction, in their order, each once, even if it was replayed before. Events that are
    /// still parked are left out. Discarded events are replayed only [by id](Replay::ids). See
    /// [`RelayBuilder::retention`](crate::RelayBuilder::retention) for what is retained.
    ///
    /// All of it happens in the database. On Postgres it fails after ten minutes, or after
    /// `statement_timeout` if that is less; on SQLite, other writers wait for it. Narrow `which`
    /// down to what is needed.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn replay(&self, which: Replay) -> Result<u64, OutboxError> {
        let replayed = DB::replay(self.pool(), &self.core().names, &which).await?;
        self.ring();
        Ok(replayed)
    }
}
