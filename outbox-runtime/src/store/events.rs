//! Where an event is: its rows in the outbox, and what became of them.

use std::time::SystemTime;

use uuid::Uuid;

use super::admin::{DiscardedEvent, ParkedEvent, at};
use super::relays::RelayStatus;
use super::row::row;
use crate::check::from_unix_micros;
use crate::record::{EventRecord, Lane};

/// What became of an event's row in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventState {
    /// It is committed, and not saved as published: it waits for its relay, or is on its way.
    Pending,
    /// All in-sync replicas have it.
    Published,
    /// It is set aside: see [`ParkedEvent`].
    Parked,
    /// It was parked, and an operator gave it up.
    Discarded,
}

impl EventState {
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn stored(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Published => "published",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
        }
    }

    fn of_stored(state: &str) -> Self {
        match state {
            "published" => Self::Published,
            "parked" => Self::Parked,
            "discarded" => Self::Discarded,
            _ => Self::Pending,
        }
    }
}

/// Which events of the outbox. An event must meet all conditions given.
///
/// ```
/// use outbox::admin::{EventFilter, EventState};
///
/// let pending_of_ann = EventFilter::all().state(EventState::Pending).key("ann");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub(crate) state: Option<EventState>,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    pub(crate) from: Option<SystemTime>,
    pub(crate) until: Option<SystemTime>,
}

impl EventFilter {
    /// All events that are retained. The methods below narrow it down.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those of which this became.
    #[must_use]
    pub fn state(mut self, state: EventState) -> Self {
        self.state = Some(state);
        self
    }

    /// Only those on this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only those with this key. The fastest condition: only the key's lane is searched.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only those with this name on the wire.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
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

    /// The lane of all events that it means. `None`: they may be in any.
    pub(crate) fn lane(&self) -> Option<i16> {
        self.key.as_deref().map(|key| Lane::of_key(key).number())
    }
}

/// Most bytes of an event's key that a list has.
pub(crate) const KEY_BYTES: i32 = 1_024;

/// An event in a list, without its payload and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedEvent {
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// Its lane.
    pub lane: Lane,
    /// Its id. A replayed event is there several times.
    pub id: Uuid,
    /// Its topic.
    pub topic: String,
    /// Its key, or the first 1,024 bytes of it. `None`: it has none.
    pub key: Option<Vec<u8>>,
    /// Its name on the wire.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Time at which it occurred. `None`: the database's time is in no calendar.
    pub occurred_at: Option<SystemTime>,
    /// Bytes of payload, key, headers and names.
    pub bytes: u64,
    /// What became of it.
    pub state: EventState,
}

/// What is known of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoundEvent {
    /// Its id.
    pub id: Uuid,
    /// The event, as it was emitted. `None`: its row cannot be read, or is gone.
    pub event: Option<EventRecord>,
    /// Its rows in the outbox, in order, at most a hundred. A replay adds one. Empty: its space was
    /// reclaimed, or it was never here.
    pub copies: Vec<EventCopy>,
    /// Its rows in the table of the parked events, in order.
    pub parked: Vec<ParkedEvent>,
    /// When it was given up, if it was.
    pub discarded: Vec<DiscardedEvent>,
    /// The relay that holds its lane. `None`: no relay does.
    pub relay: Option<RelayStatus>,
}

/// A row of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventCopy {
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// Its lane.
    pub lane: Lane,
    /// What became of it.
    pub state: EventState,
}

/// Most rows of one event that are told.
pub(crate) const MOST_COPIES: i64 = 100;

/// What a consumer group knows of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupEvent {
    /// The consumer group.
    pub group: String,
    /// What it did of it.
    pub state: GroupState,
    /// Since when.
    pub since: SystemTime,
}

/// What a consumer group did of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// Its changes are committed.
    Handled,
    /// It failed, and is in a retry topic or about to be sent there.
    InRetryTopic,
    /// It waits behind an earlier event of its key.
    Waits,
}

row! {
    /// A listed event, as stores return it.
    pub(crate) struct EventRow {
        seq: i64,
        lane: i16,
        id: Uuid,
        topic: String,
        key: Option<Vec<u8>>,
        name: String,
        version: i32,
        occurred_micros: Option<i64>,
        bytes: i64,
        state: String,
    }

    /// A row of an event, as stores return it.
    pub(crate) struct CopyRow {
        seq: i64,
        lane: i16,
        state: String,
    }

    /// What a group knows of an event, as stores return it.
    pub(crate) struct GroupRow {
        consumer_group: String,
        state: String,
        since_micros: i64,
    }
}

impl From<EventRow> for ListedEvent {
    fn from(row: EventRow) -> Self {
        Self {
            seq: row.seq,
            lane: Lane::from_number(row.lane),
            id: row.id,
            topic: row.topic,
            key: row.key,
            name: row.name,
            version: row.version.unsigned_abs(),
            occurred_at: row.occurred_micros.and_then(from_unix_micros),
            bytes: row.bytes.unsigned_abs(),
            state: EventState::of_stored(&row.state),
        }
    }
}

impl From<CopyRow> for EventCopy {
    fn from(CopyRow { seq, lane, state }: CopyRow) -> Self {
        Self { seq, lane: Lane::from_number(lane), state: EventState::of_stored(&state) }
    }
}

impl From<GroupRow> for GroupEvent {
    fn from(GroupRow { consumer_group, state, since_micros }: GroupRow) -> Self {
        let state = match &*state {
            "handled" => GroupState::Handled,
            "kept" => GroupState::Waits,
            _ => GroupState::InRetryTopic,
        };
        Self { group: consumer_group, state, since: at(since_micros) }
    }
}
