//! What a relay has read of a lane and not deleted yet.

use std::collections::VecDeque;

/// The events that were read and are not deleted, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// With how many events were read before each.
    events: VecDeque<(u64, i64)>,
}

/// What identifies a set of numbers well enough: another set with the same number of them, the same
/// sum and the same parity of each bit would have to come about by chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) count: i64,
    pub(super) sum: i64,
    pub(super) xor: i64,
}

impl Unacked {
    /// Forgets what is behind a position: it is read again.
    pub(super) fn go_back_to(&mut self, position: u64) {
        while self.events.back().is_some_and(|(place, _)| *place >= position) {
            self.events.pop_back();
        }
    }

    /// Adds events that were read from a position.
    pub(super) fn read(&mut self, position: u64, events: impl IntoIterator<Item = i64>) {
        self.events.extend((position..).zip(events));
    }

    /// The numbers of those before a position.
    pub(super) fn before(&self, position: u64) -> Vec<i64> {
        self.events.iter().take_while(|(place, _)| *place < position).map(|(_, seq)| *seq).collect()
    }

    /// Forgets those before a position: they are deleted.
    pub(super) fn deleted_before(&mut self, position: u64) {
        while self.events.front().is_some_and(|(place, _)| *place < position) {
            self.events.pop_front();
        }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.events.iter().map(|(_, seq)| *seq)
    }

    /// The highest number; 0 if there are none.
    pub(super) fn highest(&self) -> i64 {
        self.numbers().max().unwrap_or(0)
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.numbers().fold(Checksum::default(), |all, seq| Checksum {
            count: all.count + 1,
            sum: all.sum.saturating_add(seq),
            xor: all.xor ^ seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_known_by_its_place_until_it_is_deleted_or_read_again() {
        let mut unacked = Unacked::default();
        unacked.read(0, [5, 9, 3]);
        unacked.read(3, [4]);
        assert_eq!(unacked.highest(), 9);
        assert_eq!(unacked.before(2), [5, 9]);
        unacked.deleted_before(2);
        assert_eq!(unacked.numbers().collect::<Vec<_>>(), [3, 4]);
        unacked.go_back_to(3);
        assert_eq!(unacked.numbers().collect::<Vec<_>>(), [3]);
        unacked.read(3, [4, 6]);
        assert_eq!(unacked.checksum(), Checksum { count: 3, sum: 13, xor: 3 ^ 4 ^ 6 });
        unacked.go_back_to(0);
        assert_eq!((unacked.highest(), unacked.checksum()), (0, Checksum::default()));
    }
}
