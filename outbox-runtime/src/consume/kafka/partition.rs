//! What is in hand of a partition, and up to where it is done.

use std::collections::VecDeque;

/// The offsets of a partition that were received and not stored as done, in order.
#[derive(Debug)]
pub(super) struct Partition {
    /// Tells this assignment of the partition from any before.
    pub(super) generation: u64,
    /// Offset, and whether it is done. Offsets may have gaps: transaction markers, compaction.
    in_hand: VecDeque<(i64, bool)>,
    pub(super) paused: bool,
}

impl Partition {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, in_hand: VecDeque::new(), paused: false }
    }

    pub(super) fn len(&self) -> usize {
        self.in_hand.len()
    }

    /// Takes an offset in hand. `false`: it is there already (it was read again after a pause), or is done.
    pub(super) fn begin(&mut self, offset: i64) -> bool {
        match self.in_hand.back() {
            Some((last, _)) if *last >= offset => false,
            _ => {
                self.in_hand.push_back((offset, false));
                true
            }
        }
    }

    /// Notes that an offset is done; returns the last offset before the first that is not, if that is news.
    pub(super) fn done(&mut self, offset: i64) -> Option<i64> {
        let place = self.in_hand.partition_point(|(other, _)| *other < offset);
        if let Some((other, done)) = self.in_hand.get_mut(place)
            && *other == offset
        {
            *done = true;
        }
        let mut up_to = None;
        while let Some((offset, true)) = self.in_hand.front() {
            up_to = Some(*offset);
            self.in_hand.pop_front();
        }
        up_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_stored_only_when_all_before_it_are_done() {
        let mut partition = Partition::new(1);
        for offset in [3, 4, 7, 8] {
            assert!(partition.begin(offset));
        }
        assert_eq!(partition.done(4), None);
        assert_eq!(partition.done(8), None);
        assert_eq!(partition.done(3), Some(4));
        assert_eq!(partition.done(3), None, "once");
        assert_eq!(partition.done(7), Some(8), "over the gap");
        assert_eq!(partition.len(), 0);
    }

    #[test]
    fn an_offset_that_is_read_again_is_not_taken_in_hand_twice() {
        let mut partition = Partition::new(1);
        assert!(partition.begin(3) && partition.begin(4));
        assert!(!partition.begin(3) && !partition.begin(4));
        assert!(partition.begin(5));
    }
}
