//! What an operator is told of an outbox, and asks of it.

use std::time::SystemTime;

use uuid::Uuid;

use crate::record::{EventRecord, Lane};

/// How far the relays of an outbox are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Events that are committed, and not saved as published, without the parked ones. Counted up
    /// to [`Status::COUNTED`] of a lane: more are not told apart from so many.
    pub backlog: u64,
    /// When the oldest of them occurred.
    pub oldest_pending: Option<SystemTime>,
    /// Events that are set aside. Counted up to [`Status::COUNTED`], too.
    pub parked: u64,
    /// The lanes, in order.
    pub lanes: Vec<LaneStatus>,
}

impl Status {
    /// How far the backlog of a lane, and the parked events of all lanes, are counted.
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
    /// Its lane.
    pub lane: Lane,
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// The first parked event of its topic and key: this one is not sent before that one is
    /// published or discarded. `None`: it is the first itself, and what is to be looked at.
    pub waits_behind: Option<Uuid>,
    /// What refused it, in the broker's words and ours. `None`: it was not tried yet.
    pub reason: Option<String>,
    /// How often it was refused.
    pub attempts: u32,
    /// When it was set aside, or last refused.
    pub since: SystemTime,
}

/// A parked event that was given up.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DiscardedEvent {
    /// Its id.
    pub id: Uuid,
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// Its topic.
    pub topic: String,
    /// Its name on the wire.
    pub name: String,
    /// What had refused it.
    pub reason: Option<String>,
    /// When it was given up.
    pub at: SystemTime,
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
    /// All that are retained. Narrow it down by the methods below: an event must meet all that are
    /// given.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these, even if they were [discarded](crate::Outbox::discard_parked).
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
