//! What keeps the order of a key when a broker refuses one of its events.
//!
//! A broker takes requests of a producer in their sequence: after one that it refused, it refuses
//! those behind it. But only where it knows the producer. A producer whose first request to a
//! partition is refused is as unknown there as before, and its second request is taken as its
//! first: a later event has then overtaken the refused one.
//!
//! So, of a key whose partition is not known to know the producer, one event is with the broker at
//! a time. That is an exchange more for the first events of a key, and none later.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::reports::Ack;
use crate::record::{EventRecord, StoredEvent};

/// How long after an acknowledgement a partition is believed to know the producer. A broker forgets
/// one after `producer.id.expiration.ms` without a record, and with the deletion of a topic.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// Keys of a topic whose partition is remembered, at most: 2 MB.
const MOST_KEYS: usize = 100_000;

/// The partitions that know a producer, by its acknowledgements.
#[derive(Default)]
pub(super) struct Established {
    hasher: RandomState,
    topics: Mutex<HashMap<String, Topic>>,
}

#[derive(Default)]
struct Topic {
    /// The partition of a key, by the hash of the key and of the partition that was asked for.
    keys: HashMap<u64, i32>,
    acknowledged: HashMap<i32, Instant>,
}

impl Established {
    /// Parts events, given by their places, into those that can be sent now and those that wait
    /// until an earlier one of their key is acknowledged. Some can always be sent.
    pub(super) fn part(
        &self,
        events: &[StoredEvent],
        places: Vec<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let now = Instant::now();
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // What was chosen for the partition of a key, and the keys of which an event waits.
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
                // Another partition may take the later event when this one refuses the earlier.
                Entry::Occupied(before) if *before.get() != record.partition => false,
                Entry::Occupied(_) => {
                    let topic = topics.get(&*record.topic).zip(self.hash(record, record.partition));
                    topic.is_some_and(|(topic, hash)| topic.knows(hash, now))
                }
            };
            if !now {
                held.insert(key);
            }
            now
        })
    }

    /// Takes in acknowledgements.
    pub(super) fn note<'a>(&self, acknowledged: impl Iterator<Item = (&'a StoredEvent, Ack)>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for (event, ack) in acknowledged {
            let record = &event.record;
            if !topics.contains_key(&*record.topic) {
                topics.insert(record.topic.to_string(), Topic::default());
            }
            let Some(topic) = topics.get_mut(&*record.topic) else { continue };
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

    /// A keyless event has no order to keep.
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
    use uuid::Uuid;

    use super::*;
    use crate::event::Headers;
    use crate::record::Lane;

    fn event(key: Option<&str>) -> StoredEvent {
        let (id, key) = (Uuid::now_v7(), key.map(|key| key.as_bytes().to_vec()));
        let record = EventRecord {
            id,
            topic: "orders".into(),
            name: "order.created".into(),
            version: 1,
            content_type: "application/json".into(),
            headers: Headers::default(),
            payload: None,
            partition: None,
            occurred_at: std::time::SystemTime::now(),
            key,
        };
        StoredEvent { lane: Lane::of(record.key.as_deref(), id), seq: 1, record, unreadable: None }
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
