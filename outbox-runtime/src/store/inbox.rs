//! What a consumer group has handled, and the queues of its keys.
//!
//! A key has a queue while one of its events is in a retry topic, or about to be. That one is the
//! head (state `failed`, then `sent`); the later ones are kept behind it with their payloads (state
//! `kept`).

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod statements;

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::row::row;
use crate::check::from_unix_micros;

/// A key, as a consumer group sees it.
#[derive(Debug, Clone, Copy)]
pub struct GroupKey<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a [u8],
}

impl GroupKey<'_> {
    /// The key's digest for indexes, which do not accept keys of any length. Keys with the same
    /// digest would wait for each other; there would be no other effect.
    pub(crate) fn digest(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.key)
    }
}

/// An event in the queue of its key. It is identified by its id: offsets begin again with a topic
/// that is deleted and created again.
#[derive(Debug, Clone, Copy)]
pub struct QueuedEvent<'a> {
    /// Its key.
    pub of: GroupKey<'a>,
    /// Its id.
    pub event_id: Uuid,
    /// Partition in which it was first, for the operator.
    pub partition: i32,
    /// Offset at which it was first, for the operator.
    pub offset: i64,
}

/// Where an event was in the queue of its key, and which others are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePosition {
    /// Whether it was in the queue.
    pub queued: bool,
    /// Whether it was there as being in a retry topic.
    pub in_retry_topic: bool,
    /// Whether others are before it; if it was not queued, whether there are any.
    pub earlier: bool,
    /// Whether others are behind it; if it was not queued, whether there are any.
    pub later: bool,
}

/// A message that is kept in the database, besides its key and its place on the topic.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The headers, as JSON.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
}

/// The first event in the queue of a key.
#[derive(Debug, Clone)]
pub struct QueueHead {
    /// Its id.
    pub event_id: Uuid,
    /// Partition in which it was first.
    pub partition: i32,
    /// Offset at which it was first.
    pub offset: i64,
    /// `None` if it is in a retry topic, or about to be.
    pub message: Option<StoredMessage>,
}

/// What a consumer group's inbox has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxStats {
    /// The consumer group.
    pub group: String,
    /// Number of events that it remembers as handled, counted up to [`InboxStats::COUNTED`]: that
    /// number means as many or more.
    pub handled: u64,
    /// Time at which the oldest of them was handled.
    pub oldest: SystemTime,
    /// Time at which the latest of them was handled.
    pub latest: SystemTime,
}

impl InboxStats {
    /// Number up to which the events of a group are counted.
    pub const COUNTED: u64 = 100_000;
}

/// The keys of a topic whose events wait: one of them is in a retry topic of the group, and the
/// later ones are kept in the database behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingKeys {
    /// The consumer group.
    pub group: String,
    /// The topic, as its events declare it.
    pub topic: String,
    /// Number of keys.
    pub keys: u64,
    /// Number of events that are kept in the database until the earlier ones of their keys are
    /// done.
    pub kept: u64,
    /// Time since which the oldest of all these events waits.
    pub since: SystemTime,
}

row! {
    /// An inbox, as stores return it.
    pub(crate) struct InboxStatsRow {
        consumer_group: String,
        handled: i64,
        oldest_micros: i64,
        latest_micros: i64,
    }

    /// Waiting keys, as stores return them.
    pub(crate) struct WaitingKeysRow {
        consumer_group: String,
        topic: String,
        keys: i64,
        kept: i64,
        since_micros: i64,
    }
}

impl From<InboxStatsRow> for InboxStats {
    fn from(row: InboxStatsRow) -> Self {
        Self {
            group: row.consumer_group,
            handled: row.handled.unsigned_abs(),
            oldest: from_unix_micros(row.oldest_micros).unwrap_or(UNIX_EPOCH),
            latest: from_unix_micros(row.latest_micros).unwrap_or(UNIX_EPOCH),
        }
    }
}

impl From<WaitingKeysRow> for WaitingKeys {
    fn from(row: WaitingKeysRow) -> Self {
        Self {
            group: row.consumer_group,
            topic: row.topic,
            keys: row.keys.unsigned_abs(),
            kept: row.kept.unsigned_abs(),
            since: from_unix_micros(row.since_micros).unwrap_or(UNIX_EPOCH),
        }
    }
}
