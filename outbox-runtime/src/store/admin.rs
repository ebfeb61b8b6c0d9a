//! What an operator learns about an outbox, and asks of it.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::row::row;
use crate::check::from_unix_micros;
use crate::record::{EventRecord, Lane, StoredEvent};

/// An event that a relay has parked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ParkedEvent {
    /// The event.
    pub event: EventRecord,
    /// Its lane.
    pub lane: Lane,
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// Id of the first parked event of its topic and key: this one is not sent before that one is
    /// published or discarded. `None`: it is the first one itself, the one to look at.
    pub waits_behind: Option<Uuid>,
    /// Reason of the refusal, in the broker's words and ours. `None`: it was not tried yet.
    pub reason: Option<String>,
    /// Number of refusals.
    pub attempts: u32,
    /// Time at which it was parked, or last refused.
    pub since: SystemTime,
}

/// A parked event that was discarded.
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
    /// Reason of its refusal.
    pub reason: Option<String>,
    /// Time at which it was discarded.
    pub at: SystemTime,
}

row! {
    /// The place of a parked event in a page.
    pub(crate) struct PageRow {
        seq: i64,
        bytes: i64,
        waits_behind: Option<Uuid>,
    }

    /// What is stored of a parked event beside the event itself.
    pub(crate) struct RefusalRow {
        reason: Option<String>,
        attempts: i64,
        since_micros: i64,
    }

    /// A discarded event, as stores return it.
    pub(crate) struct DiscardedRow {
        id: Uuid,
        seq: i64,
        topic: String,
        name: String,
        reason: Option<String>,
        at_micros: i64,
    }
}

impl From<DiscardedRow> for DiscardedEvent {
    fn from(row: DiscardedRow) -> Self {
        let DiscardedRow { id, seq, topic, name, reason, at_micros } = row;
        Self { id, seq, topic, name, reason, at: at(at_micros) }
    }
}

impl ParkedEvent {
    pub(crate) fn new(event: StoredEvent, refusal: RefusalRow, waits_behind: Option<Uuid>) -> Self {
        Self {
            event: event.record,
            lane: event.lane,
            seq: event.seq,
            waits_behind,
            reason: refusal.reason,
            attempts: u32::try_from(refusal.attempts).unwrap_or(u32::MAX),
            since: at(refusal.since_micros),
        }
    }
}

/// A time that the database wrote itself.
pub(super) fn at(micros: i64) -> SystemTime {
    from_unix_micros(micros).unwrap_or(UNIX_EPOCH)
}

/// Which retained events to publish again.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    pub(crate) ids: Option<Vec<Uuid>>,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    pub(crate) after: i64,
    pub(crate) from: Option<SystemTime>,
    pub(crate) until: Option<SystemTime>,
}

impl Replay {
    /// All retained events. The methods below narrow it down: an event must meet all conditions
    /// given.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The lane of all events that it means. `None`: they may be in any.
    pub(crate) fn lane(&self) -> Option<i16> {
        self.key.as_deref().map(|key| Lane::of_key(key).number())
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

    /// Only those with this key.
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

    /// Only those with numbers above this one: [`ReplayPlan::position`] of a replay that was
    /// interrupted.
    #[must_use]
    pub fn after(mut self, seq: i64) -> Self {
        self.after = seq;
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

/// The events of a replay that is made a part at a time.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    rows: std::vec::IntoIter<(Lane, i64)>,
    position: i64,
}

impl ReplayPlan {
    /// Most events of a plan. It holds 16 bytes of each.
    pub const MOST: u32 = 1_000_000;

    pub(crate) fn new(rows: Vec<(Lane, i64)>) -> Self {
        Self { rows: rows.into_iter(), position: 0 }
    }

    /// Number of events that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no event is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// Number in the outbox's sequence of the last event that was replayed; 0 before the first. A
    /// replay that was interrupted continues [after](Replay::after) it.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The next rows.
    pub(crate) fn next(&self, most: usize) -> &[(Lane, i64)] {
        let rows = self.rows.as_slice();
        &rows[..most.min(rows.len())]
    }

    /// Records that so many of the next rows are replayed.
    pub(crate) fn passed(&mut self, rows: usize) {
        if let Some((_, seq)) = rows.checked_sub(1).and_then(|last| self.rows.nth(last)) {
            self.position = seq;
        }
    }
}
