//! How much to read at once. What is learnt here survives errors and the loss of lanes: a relay
//! that forgot how large its events are would fail at them again.

use std::time::Duration;

use super::memory::Memory;
use crate::record::{LANES, StoredEvent};
use crate::store::Rest;

/// Events to read of a lane while no size is known.
const FIRST_ROWS: u32 = 128;
const FIRST_BYTES: u64 = 1024 * 1024;
const LEAST_BYTES: u64 = 64 * 1024;
/// Least bytes to read of a lane, if it is read at all.
const LEAST_OF_LANE: u64 = 4 * 1024;

/// What was learnt of a lane's events.
#[derive(Debug, Default, Clone, Copy)]
struct Learnt {
    average: u64,
    largest: u64,
    /// Bytes of the next event, if it was larger than the last read allowed; otherwise 0.
    next: u64,
    /// Number of the last answer in which its events came, or in which it had none.
    served: u64,
}

#[derive(Debug)]
pub(super) struct Reading {
    lanes: [Learnt; LANES],
    answers: u64,
    /// Bytes that a read may ask for, so that it takes a fraction of the lease.
    bytes: u64,
    most_bytes: u64,
    of_lane: Bounds,
}

/// The most of a lane to have in one batch, and in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) rows: u32,
    pub(super) bytes: u64,
}

/// What to ask of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) lane: usize,
    pub(super) rows: u32,
    pub(super) bytes: u64,
    pub(super) largest: u64,
}

impl Ask {
    /// Whether about as much was read as was asked for.
    pub(super) fn is_full_of(&self, events: &[StoredEvent]) -> bool {
        let bytes: u64 = events.iter().map(|event| event.record.bytes()).sum();
        events.len() >= self.rows as usize || bytes >= self.bytes / 2
    }
}

impl Reading {
    /// Each lane has room for two batches, whatever the others hold.
    pub(super) fn new(bounds: Bounds, memory: u64) -> Self {
        let share = memory / (LANES as u64 * 4);
        let bytes = bounds.bytes.min(share).max(1);
        Self {
            lanes: [Learnt::default(); LANES],
            answers: 0,
            bytes: FIRST_BYTES,
            most_bytes: (bytes * LANES as u64).max(LEAST_BYTES),
            of_lane: Bounds { rows: bounds.rows, bytes },
        }
    }

    pub(super) fn of_lane(&self) -> Bounds {
        self.of_lane
    }

    /// What to ask of the lanes that are to be read, each with the most rows that it wants. Lanes
    /// that have waited longest come first. The first one may read its next event even if there is
    /// no room for it: it is then read alone.
    pub(super) fn plan(&self, mut wanting: Vec<(usize, u32)>, memory: &Memory) -> Vec<Ask> {
        let mut left = memory.room();
        if left == 0 || wanting.is_empty() {
            return Vec::new();
        }
        left = left.min(self.bytes);
        wanting.sort_by_key(|(lane, _)| self.lanes[*lane].served);
        let share = (left / wanting.len() as u64)
            .clamp(LEAST_OF_LANE, self.of_lane.bytes.max(LEAST_OF_LANE));
        let mut asks = Vec::with_capacity(wanting.len());
        for (lane, most) in wanting {
            let learnt = self.lanes[lane];
            let bytes = learnt.next.max(share);
            if bytes > left && !asks.is_empty() {
                continue;
            }
            left = left.saturating_sub(bytes);
            let (rows, largest) = (learnt.rows(bytes).clamp(1, most), learnt.largest);
            asks.push(Ask { lane, rows, bytes, largest });
        }
        asks
    }

    /// Takes in what was read of a lane.
    pub(super) fn learn(
        &mut self,
        lane: usize,
        sizes: impl ExactSizeIterator<Item = u64>,
        rest: Rest,
    ) {
        self.answers += 1;
        let learnt = &mut self.lanes[lane];
        let events = sizes.len() as u64;
        if events > 0 || rest == Rest::Nothing {
            learnt.served = self.answers;
        }
        let (sum, largest) =
            sizes.fold((0, 0), |(sum, largest), size| (sum + size, size.max(largest)));
        if let Some(average) = sum.checked_div(events) {
            (learnt.average, learnt.largest) = (average, largest);
        }
        learnt.next = 0;
        if let Rest::TooLarge(next) = rest {
            learnt.next = next;
            learnt.largest = learnt.largest.max(next);
        }
    }

    /// Adapts to the time that a read of `bytes` took. It should be a fraction of the lease, since
    /// the next claim waits for it.
    pub(super) fn took(&mut self, took: Duration, bytes: u64, lease: Duration) {
        if took > lease / 4 {
            self.bytes = (self.bytes.min(bytes.max(1)) / 2).max(LEAST_BYTES);
        } else if took < lease / 16 && bytes >= self.bytes / 4 {
            self.bytes = (self.bytes * 2).min(self.most_bytes);
        }
    }

    /// Adapts to a read that failed, perhaps because it asked for too much.
    pub(super) fn failed(&mut self) {
        self.bytes = (self.bytes / 4).max(LEAST_BYTES);
    }
}

impl Learnt {
    /// How many events to ask for. If sizes are even, as many as certainly fit, for which there is
    /// a cheaper statement. Otherwise more than are likely to fit, and the database decides which
    /// do.
    fn rows(&self, bytes: u64) -> u32 {
        let rows = match self {
            Self { average: 0, .. } => u64::from(FIRST_ROWS),
            Self { average, largest, .. } if *largest <= average * 2 => bytes / largest.max(&1),
            Self { average, .. } => bytes / average * 2,
        };
        u32::try_from(rows).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Meter;
    use crate::relay::memory::MemoryBudget;

    const MIB: u64 = 1024 * 1024;
    const LEASE: Duration = Duration::from_secs(8);

    fn reading() -> (Reading, Memory) {
        (
            Reading::new(Bounds { rows: 1_500, bytes: MIB }, 64 * MIB),
            Memory::new(&MemoryBudget::new(64 * MIB), Meter::default()),
        )
    }

    fn all() -> Vec<(usize, u32)> {
        (0..LANES).map(|lane| (lane, 1_500)).collect()
    }

    #[test]
    fn no_read_asks_for_more_than_there_is_room_for_and_every_lane_has_its_turn() {
        let (mut reading, memory) = reading();
        for lane in 0..LANES {
            reading.learn(lane, [].into_iter(), Rest::TooLarge(900_000));
        }
        let mut turns = [0; LANES];
        for _ in 0..LANES * 3 {
            let asks = reading.plan(all(), &memory);
            assert!(asks.iter().map(|ask| ask.bytes).sum::<u64>() <= FIRST_BYTES, "{asks:?}");
            for ask in asks {
                turns[ask.lane] += 1;
                reading.learn(ask.lane, [900_000].into_iter(), Rest::TooLarge(900_000));
            }
        }
        assert_eq!(turns, [3; LANES]);
    }

    #[test]
    fn an_event_larger_than_the_budget_is_read_alone() {
        let (mut reading, memory) = reading();
        reading.learn(3, [].into_iter(), Rest::TooLarge(1024 * MIB));
        let mut alone = Vec::new();
        for _ in 0..LANES {
            let asks = reading.plan(all(), &memory);
            for ask in &asks {
                reading.learn(ask.lane, [100].into_iter(), Rest::More);
            }
            if asks.iter().any(|ask| ask.lane == 3) {
                alone = asks;
                break;
            }
        }
        assert_eq!(alone.len(), 1, "{alone:?}");
        assert!(alone[0].bytes == 1024 * MIB, "{alone:?}");
    }

    #[test]
    fn a_slow_read_makes_the_next_smaller_and_fast_ones_make_them_larger() {
        let (mut reading, memory) = reading();
        let asked = |reading: &mut Reading| -> u64 {
            reading.plan(all(), &memory).iter().map(|ask| ask.bytes).sum()
        };
        for _ in 0..10 {
            let bytes = asked(&mut reading);
            reading.took(Duration::ZERO, bytes, LEASE);
        }
        assert_eq!(asked(&mut reading), 16 * MIB);
        reading.took(LEASE, 16 * MIB, LEASE);
        assert_eq!(asked(&mut reading), 8 * MIB);
        reading.failed();
        assert_eq!(asked(&mut reading), 2 * MIB, "an error does not make it forget");
        for _ in 0..10 {
            reading.failed();
        }
        assert_eq!(asked(&mut reading), LEAST_BYTES);
    }
}
