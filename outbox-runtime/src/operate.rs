//! What an operator asks of an outbox: how far its relays are, what is parked, what to publish again.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::durations::{LONGEST_KEEPING, within};
use crate::error::OutboxError;
use crate::outbox::Outbox;
use crate::record::{EventRecord, Lane};
use crate::store::{OutboxDatabase, sealed};
use crate::tx::TxOptions;

/// How far the relays of an outbox are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Events that are committed, and not saved as published, without the parked ones. Counted up to
    /// [`Status::COUNTED`] of a lane: more are not told apart from so many.
    pub backlog: u64,
    /// When the oldest of them occurred.
    pub oldest_pending: Option<SystemTime>,
    /// Events that are set aside.
    pub parked: u64,
    /// The lanes, in order.
    pub lanes: Vec<LaneStatus>,
}

impl Status {
    /// How far the backlog of a lane is counted.
    pub const COUNTED: u64 = 10_000;

    pub(crate) fn new(lanes: Vec<LaneStatus>, parked: u64) -> Self {
        Self {
            backlog: lanes.iter().map(|lane| lane.backlog).sum(),
            oldest_pending: lanes.iter().filter_map(|lane| lane.oldest_pending).min(),
            parked,
            lanes,
        }
    }
}

/// How far a lane is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The lane.
    pub lane: Lane,
    /// The relay that holds it, by an id that it draws when it starts. `None`: nobody does.
    pub owner: Option<Uuid>,
    /// Events that are committed, and not saved as published.
    pub backlog: u64,
    /// When the first of them occurred.
    pub oldest_pending: Option<SystemTime>,
}

/// An event that a relay has set aside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ParkedEvent {
    /// The event.
    pub event: EventRecord,
    /// Its number in the outbox's sequence.
    pub seq: i64,
    /// What refused it, in the broker's words and ours. `None`: an earlier event of its key is parked, and it waits
    /// behind that.
    pub reason: Option<String>,
    /// How often it was refused.
    pub attempts: u32,
    /// When it was set aside, or last refused.
    pub since: SystemTime,
}

/// Which retained events to publish again.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    pub(crate) ids: Option<Vec<Uuid>>,
    pub(crate) topic: Option<String>,
    pub(crate) from: Option<SystemTime>,
    pub(crate) until: Option<SystemTime>,
}

impl Replay {
    /// All that are retained. Narrow it down by the methods below: an event must meet all that are given.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Only those on this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only those that occurred then or later.
    #[must_use]
    pub fn occurred_from(mut self, from: SystemTime) -> Self {
        self.from = Some(from);
        self
    }

    /// Only those that occurred before.
    #[must_use]
    pub fn occurred_before(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }
}

impl<DB: OutboxDatabase> Outbox<DB> {
    /// How far the relays are. On Postgres it reads up to [`Status::COUNTED`] index entries for each lane.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        <DB as sealed::Database>::status(self.pool(), &self.settings().names).await
    }

    /// Forgets what the consumer group `group` handled longer ago than `retention`, as its running consumers do from time to
    /// time: for handlers that no [`Consumer`](crate::consume) runs. Returns how many events that were.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn forget_handled(&self, group: &str, retention: Duration) -> Result<u64, OutboxError> {
        /// In one statement, so that none holds locks for long.
        const AT_ONCE: u32 = 5_000;
        let names = &self.settings().names;
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin_with(TxOptions::of_consumer(Duration::from_secs(60))).await?;
            let now =
                <DB as sealed::Database>::forget_inbox(&mut tx, names, group, retention, AT_ONCE).await?;
            tx.commit().await?;
            forgotten += now;
            if now < u64::from(AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }

    /// Takes back the space of events that are published, and older than `retention`, as a running relay does every few
    /// seconds: for jobs, and for a database whose relays are all stopped. Returns how many events. On Postgres space comes
    /// back in blocks of about a million.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn reclaim(&self, retention: Duration) -> Result<u64, OutboxError> {
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        <DB as sealed::Database>::reclaim(self.pool(), &self.settings().names, retention).await
    }

    /// Parked events, the longest parked first, `limit` of them at most.
    ///
    /// A relay parks an event that the broker refused [several times](crate::Relay::park_after), and with it the later
    /// events of its key, so that those stay in order and the other keys go on.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # async fn example(outbox: outbox_runtime::Outbox<sqlx::Sqlite>) -> Result<(), outbox_runtime::OutboxError> {
    /// for parked in outbox.parked(100).await? {
    ///     println!("{} on {}: {:?}", parked.event.id, parked.event.topic, parked.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn parked(&self, limit: u32) -> Result<Vec<ParkedEvent>, OutboxError> {
        <DB as sealed::Database>::parked(self.pool(), &self.settings().names, limit).await
    }

    /// Has a relay try the parked events of this key again, in order, at once. Returns how many there are.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_parked(&self, key: &[u8]) -> Result<u64, OutboxError> {
        self.release(Some(key)).await
    }

    /// Has a relay try all parked events again, in the order of their keys, at once. Returns how many there are.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn release_all_parked(&self) -> Result<u64, OutboxError> {
        self.release(None).await
    }

    async fn release(&self, key: Option<&[u8]>) -> Result<u64, OutboxError> {
        let shared = self.settings();
        let released = <DB as sealed::Database>::release_parked(&shared.pool, &shared.names, key).await?;
        shared.doorbell.ring_for_lanes();
        Ok(released)
    }

    /// Gives up a parked event: it is deleted, and never published. The events behind it go on when they are tried again
    /// (or [released](Self::release_parked)). Returns whether it was there.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn discard_parked(&self, id: Uuid) -> Result<bool, OutboxError> {
        <DB as sealed::Database>::discard_parked(self.pool(), &self.settings().names, id).await
    }

    /// Publishes retained events again, with their ids, after all that is in the outbox now; a consumer skips those whose
    /// ids it remembers. Returns how many. They are copied in one transaction, in their order. See
    /// [`Relay::retention`](crate::Relay::retention) for what is retained.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn replay(&self, which: Replay) -> Result<u64, OutboxError> {
        let replayed = <DB as sealed::Database>::replay(self.pool(), &self.settings().names, &which).await?;
        self.ring();
        Ok(replayed)
    }
}
