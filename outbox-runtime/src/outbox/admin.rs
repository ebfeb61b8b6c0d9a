//! What an operator asks of an outbox: how far its relays are, what is parked, what to publish
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
    /// How far the relays are. On Postgres it reads up to [`Status::COUNTED`] index entries for
    /// each lane.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        Ok(DB::status(self.pool(), &self.settings().names).await?)
    }

    /// Forgets what the consumer group `group` handled longer ago than `retention`, as its running
    /// consumers do from time to time: for handlers that no [`Consumer`](crate::consume) runs.
    /// Returns how many events that were.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn forget_handled(
        &self,
        group: &str,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        /// In one statement, so that none holds locks for long.
        const AT_ONCE: u32 = 5_000;
        let names = &self.settings().names;
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

    /// Takes back the space of events that are published, and older than `retention`, as a running
    /// relay does every few seconds: for jobs, and for a database whose relays are all stopped.
    /// Returns how many events. On Postgres space comes back in blocks of about a million.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn reclaim(&self, retention: Duration) -> Result<u64, OutboxError> {
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        Ok(DB::reclaim(self.pool(), &self.settings().names, retention).await?)
    }

    /// Parked events, `limit` of them at most (and never more than 10,000, or 16 MiB unless a
    /// single event is larger). Those of a topic and key stand together, in their order; keys come
    /// in no particular one.
    ///
    /// A relay parks an event that the broker refused [several times](crate::RelayBuilder::park_after),
    /// and with it the later events of its topic and key, so that those stay in order and the other
    /// keys go on.
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
        Ok(DB::parked(self.pool(), &self.settings().names, None, limit).await?)
    }

    /// The parked events behind `last` in the list of [`parked`](Self::parked). None: that was the
    /// end of it.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked_after(
        &self,
        last: &ParkedEvent,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        let after = Some((last.lane, parked_by(&last.event), last.seq));
        Ok(DB::parked(self.pool(), &self.settings().names, after, limit).await?)
    }

    /// Has a relay try the parked events with this key again, on whatever topic, in order, at once.
    /// Returns how many there are.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked(&self, key: &[u8]) -> Result<u64, OutboxError> {
        self.release(Release::Key(key)).await
    }

    /// Has a relay try the parked events of this topic and key again, in order, at once. Returns
    /// how many there are.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked_on(&self, topic: &str, key: &[u8]) -> Result<u64, OutboxError> {
        let lane = Lane::of(Some(key), Uuid::nil());
        self.release(Release::OnTopic(lane, KeyDigest::of(topic, key))).await
    }

    /// Has a relay try all parked events again, those of each key in order, at once. Returns how
    /// many there are.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_all_parked(&self) -> Result<u64, OutboxError> {
        self.release(Release::All).await
    }

    async fn release(&self, which: Release<'_>) -> Result<u64, OutboxError> {
        let shared = self.settings();
        let released = DB::release_parked(&shared.pool, &shared.names, which).await?;
        shared.doorbell.ring_for_lanes();
        Ok(released)
    }

    /// Gives up a parked event that is the first of its topic and key: it is not published, unless
    /// a relay sends it at this very moment, nor [replayed](Self::replay), unless by its id. The
    /// events behind it go on when they are tried again (or [released](Self::release_parked)).
    /// Returns whether it was there.
    ///
    /// # Errors
    /// If it [waits behind](ParkedEvent::waits_behind) another event, which is what was refused
    /// ([`ErrorKind::NotAtFault`]): then nothing is changed. If the database refuses, or its tables
    /// are missing.
    pub async fn discard_parked(&self, id: Uuid) -> Result<bool, OutboxError> {
        self.discard(id, false).await
    }

    /// Gives up a parked event as [`discard_parked`](Self::discard_parked) does, even if it merely
    /// waits behind another one.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn discard_parked_even_if_it_waits(&self, id: Uuid) -> Result<bool, OutboxError> {
        self.discard(id, true).await
    }

    async fn discard(&self, id: Uuid, insist: bool) -> Result<bool, OutboxError> {
        let shared = self.settings();
        match DB::discard_parked(&shared.pool, &shared.names, id, insist).await? {
            Discard::NotParked => Ok(false),
            Discard::Waits(head) => Err(OutboxError::new(
                ErrorKind::NotAtFault,
                format!(
                    "event {id} was not discarded: it was not refused, but waits behind event {head} of its topic and key.                      Discard that one, or this one by `discard_parked_even_if_it_waits`"
                ),
            )),
            Discard::Done => {
                tracing::warn!(target: target::STORE, event_id = %id, "parked event discarded: it will not be published");
                shared.doorbell.ring_for_lanes();
                Ok(true)
            }
        }
    }

    /// Parked events that were given up, the latest first, `limit` of them at most (and never more
    /// than 10,000). They are forgotten when their space is reclaimed, as nothing of them is left
    /// to be replayed then.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn discarded(&self, limit: u32) -> Result<Vec<DiscardedEvent>, OutboxError> {
        Ok(DB::discarded(self.pool(), &self.settings().names, limit).await?)
    }

    /// Publishes retained events again, with their ids, after all that is in the outbox now; a
    /// consumer skips those whose ids it remembers. Returns how many. They are copied in one
    /// transaction, in their order, and each once, however often it was replayed before. Neither
    /// those that are parked are, nor those that were discarded, unless [by id](Replay::ids). See
    /// [`RelayBuilder::retention`](crate::RelayBuilder::retention) for what is retained.
    ///
    /// It all takes place in the database. On Postgres it is given up after ten minutes, or what
    /// `statement_timeout` allows if that is less; on SQLite, other writers wait for it. Narrow
    /// `which` down to what is needed.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn replay(&self, which: Replay) -> Result<u64, OutboxError> {
        let replayed = DB::replay(self.pool(), &self.settings().names, &which).await?;
        self.ring();
        Ok(replayed)
    }
}
