//! Keeps the order of a key when a broker refuses one of its events.
//!
//! A broker accepts the requests of a producer in their sequence: after it has refused one, it
//! refuses those behind it. That holds only where the broker knows the producer. If a producer's
//! first request to a partition is refused, it is as unknown there as before, and its second
//! request is taken for its first. A later event has then overtaken the refused one.
//!
//! So while it is not certain that a key's partition knows the producer, one event of the key is
//! with the broker at a time. That costs one more round trip for the first events of a key, and
//! none later.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::reports::Ack;
use crate::record::{EventRecord, StoredEvent};

/// Time after an acknowledgement during which a partition is believed to know the producer. A
/// broker forgets a producer after `producer.id.expiration.ms` without a record, and when the topic
/// is deleted.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// Most keys of a topic whose partition is remembered: about 2 MB.
const MOST_KEYS: usize = 100_000;

/// The partitions that know a producer, as its acknowledgements show.
#[derive(Default)]
pub(super) struct Established {
    hasher: RandomState,
    topics: Mutex<HashMap<String, Topic>>,
}

#[derive(Default)]
struct Topic {
    /// Partition of each key, by the hash of the key and the partition that its event names.
    keys: HashMap<u64, i32>,
    acknowledged: HashMap<i32, Instant>,
}

impl Established {
    /// Splits events, given by their indexes, into those that can be sent now and those that must
    /// wait until an earlier one of their key is acknowledged. At least one can be sent.
    pub(super) fn part(
        &self,
        events: &[StoredEvent],
        places: Vec<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let now = Instant::now();
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // The partition that the first event of each key names, and the keys with an event that
        // waits.
        let (mut chosen, mut held) = (HashMap::new(), HashSet::new());
        places.into_iter().partition(|place| {
            let record = &events[*place].record;
            let Some(key) = self.hash(record, None) else { return true };
            if held.contains(&key) {
                return false;
            }
            let now = match chosen.entry(key) {
                Entry::Vacant(first) => {
                    first.insert(record.partition);
                    true
                }
                // Another partition may accept the later event after this one refused the earlier
                // one.
                Entry::Occupied(before) if *before.get() != record.partition => false,
                Entry::Occupied(_) => {
                    let hash = match record.partition {
                        None => Some(key),
                        partition => self.hash(record, partition),
                    };
                    let topic = topics.get(&*record.topic).zip(hash);
                    topic.is_some_and(|(topic, hash)| topic.knows(hash, now))
                }
            };
            if !now {
                held.insert(key);
            }
            now
        })
    }

    /// Records acknowledgements.
    pub(super) fn note<'a>(&self, acknowledged: impl Iterator<Item = (&'a StoredEvent, Ack)>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for (event, ack) in acknowledged {
            let record = &event.record;
            let topic = match topics.get_mut(&*record.topic) {
                Some(topic) => topic,
                None => topics.entry(record.topic.to_string()).or_default(),
            };
            let last = topic.acknowledged.entry(ack.partition).or_insert(ack.at);
            *last = ack.at.max(*last);
            if let Some(hash) = self.hash(record, record.partition) {
                if topic.keys.len() >= MOST_KEYS && !topic.keys.contains_key(&hash) {
                    topic.keys.clear();
                }
                topic.keys.insert(hash, ack.partition);
            }
        }
    }

    /// `None` for an event without a key, which has no order to keep.
    fn hash(&self, record: &EventRecord, partition: Option<i32>) -> Option<u64> {
        record.key.as_ref().map(|key| self.hasher.hash_one((&*record.topic, key, partition)))
    }
}

impl Topic {
    fn knows(&self, hash: u64, now: Instant) -> bool {
        self.keys
            .get(&hash)
            .and_then(|partition| self.acknowledged.get(partition))
            .is_some_and(|last| now.saturating_duration_since(*last) < BELIEVED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lane;

    fn event(key: Option<&str>) -> StoredEvent {
        let record = EventRecord::of_key(key);
        StoredEvent {
            lane: Lane::of(record.key.as_deref(), record.id),
            seq: 1,
            record,
            unreadable: None,
        }
    }

    #[test]
    fn a_second_event_of_a_key_waits_until_its_partition_has_acknowledged_and_again_after_a_silence()
     {
        let established = Established::default();
        let events = [Some("a"), Some("b"), Some("a"), None, None, Some("b")].map(event);
        let all = || (0..events.len()).collect::<Vec<_>>();
        assert_eq!(established.part(&events, all()), (vec![0, 1, 3, 4], vec![2, 5]));
        let ack = |at| Ack { partition: 3, at };
        established.note([(&events[0], ack(Instant::now()))].into_iter());
        assert_eq!(
            established.part(&events, all()),
            (vec![0, 1, 2, 3, 4], vec![5]),
            "`b` is not known"
        );
        established.note([(&events[1], Ack { partition: 4, at: Instant::now() })].into_iter());
        assert_eq!(established.part(&events, all()), (all(), vec![]));
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED_FOR) else { return };
        let silent = Established::default();
        silent.note([(&events[0], ack(long_ago))].into_iter());
        assert_eq!(silent.part(&events, all()), (vec![0, 1, 3, 4], vec![2, 5]));
    }
}
