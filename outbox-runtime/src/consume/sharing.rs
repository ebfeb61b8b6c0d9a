//! Which events share a transaction: those of a partition that wait for a free handler, in the order
//! in which they were received.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::key_queue::KeyQueues;

/// Most bytes of the events in one transaction: all of them are decoded before the first is
/// handled. A larger event has a transaction to itself.
const MOST_BYTES: usize = 4 << 20;
/// Events handled alone after a rollback, for each event that was rolled back: what was done in
/// vain is a quarter of the work then.
const ALONE_PER_EVENT: u32 = 4;
/// Rollbacks in a row after which that number does not double any more.
const MOST_DOUBLINGS: u32 = 6;

/// How an event may share a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Most events in its transaction.
    pub(super) events: u32,
    pub(super) bytes: usize,
}

/// An event to be handled.
pub(super) trait Sharing {
    type Partition: Clone + Eq + Hash;

    fn partition(&self) -> &Self::Partition;
    /// Its place among the events of the partition.
    fn number(&self) -> u64;
    fn key(&self) -> Option<u64>;
    /// `None`: it is handled alone.
    fn share(&self) -> Option<Share>;
}

/// The events of a transaction while it is put together.
struct Batch<J> {
    jobs: Vec<J>,
    most: u32,
    bytes: usize,
}

impl<J: Sharing> Batch<J> {
    fn takes(&self, job: &J) -> bool {
        job.share().is_some_and(|share| {
            let most = self.most.min(share.events) as usize;
            let fits = self.bytes.saturating_add(share.bytes) <= MOST_BYTES;
            self.jobs.is_empty() || self.jobs.len() < most && fits
        })
    }

    fn push(&mut self, job: J) {
        if let Some(share) = job.share() {
            self.most = self.most.min(share.events);
            self.bytes = self.bytes.saturating_add(share.bytes);
        }
        self.jobs.push(job);
    }
}

/// The events that may share a transaction and wait for a free handler. Their partitions take
/// turns.
pub(super) struct Ready<J: Sharing> {
    partitions: HashMap<J::Partition, OfPartition<J>>,
    /// Partitions with waiting events.
    turns: VecDeque<J::Partition>,
}

struct OfPartition<J> {
    waiting: VecDeque<J>,
    /// Number of the next events that are handled alone.
    alone: u32,
    /// Rollbacks after which that was decided, less the commits since.
    rollbacks: u32,
}

impl<J> Default for OfPartition<J> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), alone: 0, rollbacks: 0 }
    }
}

impl<J: Sharing> Default for Ready<J> {
    fn default() -> Self {
        Self { partitions: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<J: Sharing> Ready<J> {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds an event, or gives it back if it is to be handled alone.
    pub(super) fn enter(&mut self, job: J) -> Option<J> {
        if job.share().is_none() {
            return Some(job);
        }
        let of = self.partitions.entry(job.partition().clone()).or_default();
        if of.alone > 0 {
            of.alone -= 1;
            return Some(job);
        }
        if of.waiting.is_empty() {
            self.turns.push_back(job.partition().clone());
        }
        of.waiting.push_back(job);
        None
    }

    /// The events of the next transaction: waiting ones of a partition, each with the later ones of
    /// its key as far as there is room.
    pub(super) fn next(&mut self, queues: &mut KeyQueues<J>) -> Vec<J> {
        let mut batch = Batch { jobs: Vec::new(), most: u32::MAX, bytes: 0 };
        let partition = self.turns.pop_front();
        let of = partition.as_ref().and_then(|partition| self.partitions.get_mut(partition));
        let (Some(partition), Some(of)) = (partition, of) else { return batch.jobs };
        while let Some(job) = of.waiting.pop_front_if(|job| batch.takes(job)) {
            let key = job.key();
            batch.push(job);
            let follows =
                |job: &J, batch: &Batch<J>| *job.partition() == partition && batch.takes(job);
            while let Some(key) = key
                && let Some(later) = queues.next_if(key, |job| follows(job, &batch))
            {
                batch.push(later);
            }
        }
        if !of.waiting.is_empty() {
            self.turns.push_back(partition);
        }
        batch.jobs.sort_unstable_by_key(J::number);
        batch.jobs
    }

    /// A transaction of the partition was committed.
    pub(super) fn committed(&mut self, partition: &J::Partition) {
        if let Some(of) = self.partitions.get_mut(partition) {
            of.rollbacks = of.rollbacks.saturating_sub(1);
        }
    }

    /// A transaction of this number of events was rolled back: the next ones of the partition are
    /// handled alone, so that one that fails again and again does not have its neighbours handled
    /// twice each time. Returns those that wait.
    pub(super) fn rolled_back(&mut self, partition: &J::Partition, events: usize) -> Vec<J> {
        let Some(of) = self.partitions.get_mut(partition) else { return Vec::new() };
        // Otherwise it began before another rollback, and may have failed for the same reason.
        if of.alone == 0 {
            let events = u32::try_from(events).unwrap_or(u32::MAX);
            of.alone = events.saturating_mul(ALONE_PER_EVENT << of.rollbacks);
            of.rollbacks = (of.rollbacks + 1).min(MOST_DOUBLINGS);
        }
        let alone = of.waiting.len().min(of.alone as usize);
        of.alone -= u32::try_from(alone).unwrap_or(of.alone);
        let alone = of.waiting.drain(..alone).collect();
        if of.waiting.is_empty() {
            self.turns.retain(|other| other != partition);
        }
        alone
    }

    /// Takes a partition's events out.
    pub(super) fn revoked(&mut self, partition: &J::Partition) -> VecDeque<J> {
        self.turns.retain(|other| other != partition);
        self.partitions.remove(partition).unwrap_or_default().waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Event {
        partition: u8,
        number: u64,
        key: Option<u64>,
        events: Option<u32>,
        bytes: usize,
    }

    impl Sharing for Event {
        type Partition = u8;

        fn partition(&self) -> &u8 {
            &self.partition
        }

        fn number(&self) -> u64 {
            self.number
        }

        fn key(&self) -> Option<u64> {
            self.key
        }

        fn share(&self) -> Option<Share> {
            self.events.map(|events| Share { events, bytes: self.bytes })
        }
    }

    const UP_TO_4: Event =
        Event { partition: 1, number: 0, key: None, events: Some(4), bytes: 100 };

    #[derive(Default)]
    struct Scene {
        ready: Ready<Event>,
        queues: KeyQueues<Event>,
    }

    impl Scene {
        /// Returns what is handled alone.
        fn receive(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<u64> {
            let events = events.into_iter();
            let mut alone = Vec::new();
            for event in events {
                let first = match event.key {
                    Some(key) => self.queues.enter(key, event),
                    None => Some(event),
                };
                alone.extend(first.and_then(|event| self.ready.enter(event)));
            }
            alone.iter().map(|event| event.number).collect()
        }

        fn next(&mut self) -> Vec<u64> {
            self.ready.next(&mut self.queues).iter().map(|event| event.number).collect()
        }
    }

    fn numbered(numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Event> {
        numbers.into_iter().map(|number| Event { number, ..UP_TO_4 })
    }

    #[test]
    fn what_is_in_hand_is_taken_in_its_order_up_to_the_smallest_bound() {
        let mut scene = Scene::default();
        assert_eq!(scene.receive(numbered(1..=6)), [0; 0]);
        assert_eq!(scene.next(), [1, 2, 3, 4]);
        scene.receive([Event { number: 7, events: Some(3), ..UP_TO_4 }]);
        scene.receive(numbered(8..=9));
        assert_eq!(scene.next(), [5, 6, 7], "the third takes only two others");
        assert_eq!(scene.next(), [8, 9]);
        assert!(scene.ready.is_empty() && scene.next().is_empty());
        assert_eq!(scene.receive([Event { number: 10, events: None, ..UP_TO_4 }]), [10]);
    }

    #[test]
    fn bytes_are_bounded_and_a_large_event_has_a_transaction_to_itself() {
        let mut scene = Scene::default();
        let large = Event { number: 2, bytes: MOST_BYTES + 1, ..UP_TO_4 };
        let half = |number| Event { number, bytes: MOST_BYTES / 2, ..UP_TO_4 };
        scene.receive(numbered([1]).chain([large, half(3), half(4), half(5)]));
        assert_eq!(scene.next(), [1]);
        assert_eq!(scene.next(), [2]);
        assert_eq!(scene.next(), [3, 4]);
        assert_eq!(scene.next(), [5]);
    }

    #[test]
    fn later_events_of_a_key_go_with_it_in_order_but_not_past_one_that_goes_alone() {
        let mut scene = Scene::default();
        let of_key = |number, events| Event { number, key: Some(7), events, ..UP_TO_4 };
        let other = Event { number: 2, key: Some(8), ..UP_TO_4 };
        scene.receive([of_key(1, Some(4)), other, of_key(3, Some(4)), of_key(4, None)]);
        scene.receive([of_key(5, Some(4))]);
        assert_eq!(scene.next(), [1, 2, 3]);
        assert_eq!(scene.queues.next(7).map(|event| event.number), Some(4));
        assert_eq!(scene.queues.next(7).map(|event| event.number), Some(5));
    }

    #[test]
    fn a_transaction_has_events_of_one_partition_and_partitions_take_turns() {
        let mut scene = Scene::default();
        let of = |partition, number, key| Event { partition, number, key, ..UP_TO_4 };
        scene.receive((1..=5).map(|number| of(1, number, None)));
        scene.receive([of(2, 1, Some(7)), of(3, 2, Some(7))]);
        assert_eq!(scene.next(), [1, 2, 3, 4]);
        assert_eq!(scene.next(), [1], "the later one of its key is of another partition");
        assert_eq!(scene.next(), [5]);
        scene.receive([of(1, 6, None), of(4, 1, None)]);
        assert_eq!(scene.ready.revoked(&1).len(), 1);
        assert_eq!(scene.next(), [1]);
        assert!(scene.ready.is_empty());
    }

    #[test]
    fn after_a_rollback_events_are_handled_alone_for_longer_each_time_and_then_share_again() {
        let mut scene = Scene::default();
        scene.receive(numbered(1..=6));
        assert_eq!(scene.next(), [1, 2, 3, 4]);
        assert_eq!(scene.ready.rolled_back(&1, 4).len(), 2, "those that waited");
        assert_eq!(scene.receive(numbered(7..=30)).len(), 14, "16 in all");
        assert_eq!(scene.next(), [21, 22, 23, 24]);
        assert_eq!(scene.next(), [25, 26, 27, 28]);
        scene.ready.rolled_back(&1, 4);
        assert_eq!(scene.ready.rolled_back(&1, 4), [], "it began before the other one failed");
        assert_eq!(scene.receive(numbered(31..=100)).len(), 30, "32 in all");
        scene.next();
        scene.ready.committed(&1);
        scene.ready.rolled_back(&1, 4);
        assert_eq!(scene.ready.partitions[&1].alone + 36, 32 + 4, "as the last time");
    }
}
