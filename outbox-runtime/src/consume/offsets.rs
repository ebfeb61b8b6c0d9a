//! Which messages of a partition are in hand (received, not settled), and up to which offset all
//! are done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The messages of a partition that were received and whose offsets are not stored yet, in order.
#[derive(Debug)]
pub(super) struct Partition {
    /// Number of this assignment of the partition; each assignment has another.
    pub(super) generation: u64,
    in_hand: VecDeque<InHand>,
    /// Number of the next message. Messages are identified by it and not by offset: after a
    /// truncation, an offset may have another message.
    next_ticket: u64,
    last_offset: Option<i64>,
    pub(super) paused: bool,
    /// Bytes of its messages that are in hand.
    pub(super) bytes: Arc<AtomicUsize>,
}

/// A message in hand. Offsets may have gaps: transaction markers, compaction.
#[derive(Debug)]
struct InHand {
    ticket: u64,
    offset: i64,
    /// Time at which it was written, in milliseconds since 1970.
    written: Option<i64>,
    done: bool,
}

/// The result of taking a message in hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) ticket: u64,
    /// First offset that is not done, if this message's offset is not above the last one: the log
    /// was truncated, or the topic was created again. Otherwise `None`.
    pub(super) went_back_to: Option<i64>,
}

impl Partition {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            in_hand: VecDeque::new(),
            next_ticket: 0,
            last_offset: None,
            paused: false,
            bytes: Arc::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_hand.len()
    }

    /// Takes a message in hand. If offsets have gone back, messages below the new one stay in hand.
    /// Those at or above it are still handled, since the log no longer has them; but their offsets
    /// say nothing about the log as it is now.
    pub(super) fn begin(&mut self, offset: i64, written: Option<i64>) -> Begun {
        let went_back = self.last_offset.is_some_and(|last| last >= offset);
        if went_back {
            self.in_hand.retain(|of| of.offset < offset);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.last_offset = Some(offset);
        self.in_hand.push_back(InHand { ticket, offset, written, done: false });
        let first = self.in_hand.front().map_or(offset, |first| first.offset);
        Begun { ticket, went_back_to: went_back.then_some(first) }
    }

    /// Time at which the oldest message that is not done was written, in milliseconds since 1970.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.in_hand.iter().find(|message| !message.done)?.written
    }

    /// Marks a message as done. Returns the last offset before the first one that is not done, if
    /// it has changed.
    pub(super) fn done(&mut self, ticket: u64) -> Option<i64> {
        let place = self.in_hand.partition_point(|other| other.ticket < ticket);
        if let Some(of) = self.in_hand.get_mut(place)
            && of.ticket == ticket
        {
            of.done = true;
        }
        let mut up_to = None;
        while let Some(InHand { offset, done: true, .. }) = self.in_hand.front() {
            up_to = Some(*offset);
            self.in_hand.pop_front();
        }
        up_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(partition: &mut Partition, offset: i64) -> u64 {
        let begun = partition.begin(offset, Some(offset * 10));
        assert_eq!(begun.went_back_to, None);
        begun.ticket
    }

    #[test]
    fn an_offset_is_stored_only_when_all_before_it_are_done() {
        let mut partition = Partition::new(1);
        let [three, four, seven, eight] = [3, 4, 7, 8].map(|offset| begun(&mut partition, offset));
        assert_eq!(partition.done(four), None);
        assert_eq!(partition.done(eight), None);
        assert_eq!(partition.oldest(), Some(30));
        assert_eq!(partition.done(three), Some(4));
        assert_eq!(partition.done(three), None, "once");
        assert_eq!(partition.oldest(), Some(70));
        assert_eq!(partition.done(seven), Some(8), "over the gap");
        assert_eq!(partition.oldest(), None);
        assert_eq!(partition.len(), 0);
    }

    #[test]
    fn when_offsets_go_back_what_is_below_stays_in_hand_and_the_rest_says_nothing_any_more() {
        let mut partition = Partition::new(1);
        let [seventy, ninety, last] = [70, 90, 99].map(|offset| begun(&mut partition, offset));
        let Begun { ticket: eighty, went_back_to } = partition.begin(80, None);
        assert_eq!(went_back_to, Some(70), "the first that is not done");
        let new_ninety = begun(&mut partition, 90);
        assert_eq!(partition.done(eighty), None, "70 is not done");
        assert_eq!(partition.done(ninety), None, "the message that was at 90 once");
        assert_eq!(partition.done(seventy), Some(80));
        assert_eq!(partition.done(last), None);
        assert_eq!(partition.done(new_ninety), Some(90));
    }

    #[test]
    fn a_log_that_begins_anew_is_noticed_also_when_nothing_is_in_hand() {
        let mut partition = Partition::new(1);
        let ticket = begun(&mut partition, 5);
        assert_eq!(partition.done(ticket), Some(5));
        assert_eq!(partition.begin(0, None).went_back_to, Some(0));
        assert_eq!(partition.begin(1, None).went_back_to, None);
    }
}
