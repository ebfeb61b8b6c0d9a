//! The memory of relays: everything that holds events draws on one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use tokio::sync::watch;

use crate::observe::Meter;
use crate::record::StoredEvent;

/// Each event counts twice: the publisher has a copy of its own until it is acknowledged.
const COPIES: u64 = 2;
/// Bytes that an event takes besides its contents.
const EVENT_OVERHEAD: u64 = 128;
/// Least bytes of a budget.
const LEAST: u64 = 1024 * 1024;

/// The most bytes of events that several relays of a process hold together: for outboxes of
/// tenants, each in a database or a schema of its own.
///
/// ```
/// # fn example<P: outbox::publish::Publisher + Clone>(
/// #     tenants: Vec<outbox::Outbox<sqlx::Sqlite>>, publisher: P,
/// # ) -> Result<(), outbox::OutboxError> {
/// use outbox::{MemoryBudget, Relay};
///
/// let budget = MemoryBudget::new(128 * 1024 * 1024);
/// for outbox in tenants {
///     let relay = Relay::builder(outbox, publisher.clone())
///         .shared_memory(&budget)
///         .build()?;
///     // …
/// }
/// # Ok(())
/// # }
/// ```
///
/// Half of it goes to the relays that need it first, and half is divided evenly among all that were
/// built and not dropped. So a relay whose events are not accepted holds up no other one, however
/// many of them there are. A single event for which a relay has no room is still read, if the relay
/// holds no other. The bound is therefore the budget, plus twice the largest event for each relay.
/// A relay that is built while the others hold everything holds its even share in addition, until
/// they have room again.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limit: u64,
    used: AtomicU64,
    relays: AtomicU64,
    /// Whether a relay has found no room since bytes were given back last.
    is_awaited: AtomicBool,
    given_back: watch::Sender<()>,
}

impl MemoryBudget {
    /// A budget of this many bytes, at least 1 MiB. Each event counts twice, since the publisher
    /// has a copy.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Budget {
            limit: bytes.max(LEAST),
            used: AtomicU64::new(0),
            relays: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            given_back: watch::Sender::default(),
        }))
    }

    /// Bytes that its relays hold now, or are about to read.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.0.used.load(SeqCst)
    }
}

impl Budget {
    fn relays(&self) -> u64 {
        self.relays.load(SeqCst).max(1)
    }

    /// The even share of a relay.
    fn share(&self) -> u64 {
        match self.relays() {
            1 => self.limit,
            relays => (self.limit / 2 / relays).max(1),
        }
    }

    /// The most that one relay may hold.
    fn most_of_one(&self) -> u64 {
        if self.relays() == 1 { self.limit } else { self.limit / 2 }
    }

    /// What a relay that holds `own` bytes may hold in addition, while all of them hold `all`.
    fn left(&self, own: u64, all: u64) -> u64 {
        self.most_of_one().saturating_sub(all).max(self.share().saturating_sub(own))
    }
}

/// What a relay holds of a budget.
#[derive(Debug)]
pub(super) struct Memory {
    part: Arc<Part>,
    given_back: watch::Receiver<()>,
}

#[derive(Debug)]
struct Part {
    budget: Arc<Budget>,
    used: AtomicU64,
    /// Whether it had no room when it was asked last.
    is_full: AtomicBool,
    meter: Meter,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.relays.fetch_sub(1, SeqCst);
    }
}

impl Memory {
    /// The part of one more relay.
    pub(super) fn new(budget: &MemoryBudget, meter: Meter) -> Self {
        let budget = Arc::clone(&budget.0);
        budget.relays.fetch_add(1, SeqCst);
        let given_back = budget.given_back.subscribe();
        let (used, is_full) = Default::default();
        Self { part: Arc::new(Part { budget, used, is_full, meter }), given_back }
    }

    /// The most bytes that the relay may hold if it is the only one that holds any.
    pub(super) fn most(&self) -> u64 {
        self.part.budget.most_of_one()
    }

    /// How many bytes of events may still be read. While others are held, a small remainder counts
    /// as none: reads would be tiny.
    pub(super) fn room(&self) -> u64 {
        let Part { budget, is_full, .. } = &*self.part;
        let mut room = self.part.room();
        if room == 0 {
            // First said and then asked again: what is given back in between wakes the relay.
            budget.is_awaited.store(true, SeqCst);
            room = self.part.room();
        }
        is_full.store(room == 0, SeqCst);
        room
    }

    /// Takes the room for a read of `bytes`, until the result is dropped. `None`: another relay has
    /// taken it meanwhile. `is_single`: it may be of one event that is larger than the room.
    pub(super) fn reserve(&self, bytes: u64, is_single: bool) -> Option<Held> {
        let (part, own) = (&self.part, self.part.used.load(SeqCst));
        let (asked, mut taken) = (bytes.saturating_mul(COPIES), 0);
        let take = |all| {
            let left = part.budget.left(own, all);
            taken = if is_single { left.min(asked) } else { asked };
            (left > 0 && taken <= left).then(|| all + taken)
        };
        part.budget.used.fetch_update(SeqCst, SeqCst, take).ok()?;
        part.used.fetch_add(taken, SeqCst);
        Some(Held { bytes: taken, are_events: false, part: Some(Arc::clone(part)) })
    }

    /// Counts these events as held until the result is dropped.
    pub(super) fn hold<'e>(&self, events: impl IntoIterator<Item = &'e StoredEvent>) -> Held {
        let bytes = |event: &StoredEvent| event.record.bytes() * COPIES + EVENT_OVERHEAD;
        let bytes = events.into_iter().map(bytes).sum();
        self.part.used.fetch_add(bytes, SeqCst);
        self.part.budget.used.fetch_add(bytes, SeqCst);
        self.part.meter.held(bytes);
        Held { bytes, are_events: true, part: Some(Arc::clone(&self.part)) }
    }

    /// Waits until another relay has given bytes back, if this one had no room when it was asked
    /// last.
    pub(super) async fn room_again(&mut self) {
        if !self.part.is_full.load(SeqCst) || self.given_back.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Part {
    fn room(&self) -> u64 {
        let (own, all) = (self.used.load(SeqCst), self.budget.used.load(SeqCst));
        let little = (self.budget.limit / 64).min(self.budget.share() / 4);
        match self.budget.left(own, all) {
            left if own > 0 && left < little => 0,
            left => left / COPIES,
        }
    }
}

/// Bytes that are in use for as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: u64,
    /// Whether it is of events, and not of a read that was not answered yet.
    are_events: bool,
    part: Option<Arc<Part>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(Part { budget, used, meter, .. }) = self.part.as_deref() else { return };
        used.fetch_sub(self.bytes, SeqCst);
        budget.used.fetch_sub(self.bytes, SeqCst);
        if self.are_events {
            meter.no_longer_held(self.bytes);
        }
        if budget.is_awaited.swap(false, SeqCst) {
            budget.given_back.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventRecord, Lane};

    const MIB: u64 = 1024 * 1024;

    fn event(bytes: u64) -> StoredEvent {
        let payload = Some(vec![0; bytes as usize]);
        let record = EventRecord { payload, ..EventRecord::of_key(Some("a")) };
        let lane = Lane::of(record.key.as_deref(), record.id);
        StoredEvent { lane, seq: 1, record, unreadable: None }
    }

    /// Reads as much as there is room for, as events of 64 KiB.
    fn fill(memory: &Memory) -> Vec<Held> {
        let mut held = Vec::new();
        while memory.room() > 0 {
            let read = memory.reserve(memory.room().min(64 * 1024), true).unwrap();
            held.push(memory.hold([&event(64 * 1024)]));
            drop(read);
        }
        held
    }

    #[test]
    fn a_relay_alone_has_the_whole_budget_and_one_of_several_half_and_its_share() {
        let budget = MemoryBudget::new(64 * MIB);
        let first = Memory::new(&budget, Meter::default());
        assert_eq!((first.room(), first.most()), (32 * MIB, 64 * MIB), "each event counts twice");
        let second = Memory::new(&budget, Meter::default());
        assert_eq!((first.room(), first.most()), (16 * MIB, 32 * MIB));
        drop(second);
        assert_eq!(first.room(), 32 * MIB);
    }

    #[test]
    fn relays_that_hold_all_they_can_leave_every_other_one_its_share_and_keep_within_the_budget() {
        let budget = MemoryBudget::new(64 * MIB);
        let relays: Vec<_> = (0..20).map(|_| Memory::new(&budget, Meter::default())).collect();
        let mut held: Vec<_> = relays[..19].iter().map(fill).collect();
        assert!(relays[..19].iter().all(|relay| relay.room() == 0));
        let share = 64 * MIB / 2 / 20;
        assert_eq!(relays[19].room(), share / 2, "the last one has its own");
        held.push(fill(&relays[19]));
        assert!(budget.bytes_held() <= 65 * MIB, "{}", budget.bytes_held());
        drop(held);
        assert_eq!(budget.bytes_held(), 0);
    }

    #[test]
    fn two_relays_that_read_at_once_do_not_both_get_the_same_room() {
        let budget = MemoryBudget::new(64 * MIB);
        let (first, second) =
            (Memory::new(&budget, Meter::default()), Memory::new(&budget, Meter::default()));
        let room = first.room();
        let reserved = first.reserve(room, false).unwrap();
        assert!(second.reserve(room, false).is_none(), "it is taken");
        assert_eq!(second.room(), 8 * MIB, "its share");
        drop(reserved);
        second.reserve(room, false).unwrap();
        assert_eq!(budget.bytes_held(), 0);
    }

    #[test]
    fn a_relay_that_holds_nothing_may_read_an_event_of_any_size() {
        let budget = MemoryBudget::new(MIB);
        let relays: Vec<_> = (0..1_000).map(|_| Memory::new(&budget, Meter::default())).collect();
        let held = relays[0].hold([&event(4 * MIB)]);
        assert_eq!(relays[0].room(), 0);
        assert!(relays[1].room() > 0);
        assert!(relays[1].reserve(100 * MIB, true).is_some());
        drop(held);
    }

    #[tokio::test]
    async fn a_relay_without_room_is_woken_when_another_one_gives_bytes_back() {
        let budget = MemoryBudget::new(64 * MIB);
        let (first, mut second) =
            (Memory::new(&budget, Meter::default()), Memory::new(&budget, Meter::default()));
        let held_by_first = fill(&first);
        let held_by_second = fill(&second);
        assert_eq!(second.room(), 0);
        let woken = tokio::spawn(async move {
            // What was given back before may wake it once.
            while second.room() == 0 {
                second.room_again().await;
            }
        });
        tokio::task::yield_now().await;
        assert!(!woken.is_finished());
        drop(held_by_first);
        woken.await.unwrap();
        drop(held_by_second);
    }
}
