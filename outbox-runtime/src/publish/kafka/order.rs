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
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
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
    keys: HashMap<u64, i32, AsTheyAre>,
    acknowledged: HashMap<i32, Instant>,
}

/// The hashes of an event's key.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// That of the topic and the key.
    key: u64,
    /// That of these and the partition that the event names.
    with_partition: u64,
}

impl Established {
    /// The hashes of an event's key, for the other methods. `None` for an event without a key,
    /// which has no order to keep.
    pub(super) fn key(&self, record: &EventRecord) -> Option<Key> {
        let hash = |partition| {
            record.key.as_ref().map(|key| self.hasher.hash_one((&*record.topic, key, partition)))
        };
        let key = hash(None)?;
        let with_partition = if record.partition.is_some() { hash(record.partition)? } else { key };
        Some(Key { key, with_partition })
    }

    /// Splits events, given by their indexes, into those that can be sent now and those that must
    /// wait until an earlier one of their key is acknowledged. At least one can be sent.
    pub(super) fn part(
        &self,
        events: &[StoredEvent],
        keys: &[Option<Key>],
        places: Vec<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let now = Instant::now();
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // The partition that the first event of each key names, and the keys with an event that
        // waits.
        let mut chosen = HashMap::<_, _, AsTheyAre>::default();
        let mut held = HashSet::<_, AsTheyAre>::default();
        places.into_iter().partition(|place| {
            let record = &events[*place].record;
            let Some(Key { key, with_partition }) = keys[*place] else { return true };
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
                    topics.get(&*record.topic).is_some_and(|topic| topic.knows(with_partition, now))
                }
            };
            if !now {
                held.insert(key);
            }
            now
        })
    }

    /// Records acknowledgements.
    pub(super) fn note<'a>(
        &self,
        acknowledged: impl Iterator<Item = (&'a StoredEvent, Option<Key>, Ack)>,
    ) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for (event, key, ack) in acknowledged {
            let name = &event.record.topic;
            let topic = match topics.get_mut(&**name) {
                Some(topic) => topic,
                None => topics.entry(name.to_string()).or_default(),
            };
            let last = topic.acknowledged.entry(ack.partition).or_insert(ack.at);
            *last = ack.at.max(*last);
            if let Some(Key { with_partition, .. }) = key {
                if topic.keys.len() >= MOST_KEYS && !topic.keys.contains_key(&with_partition) {
                    topic.keys.clear();
                }
                topic.keys.insert(with_partition, ack.partition);
            }
        }
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

/// Of maps whose keys are hashes already, by a [`RandomState`].
type AsTheyAre = BuildHasherDefault<AsItIs>;

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
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
        let keys = |established: &Established| {
            events.iter().map(|event| established.key(&event.record)).collect::<Vec<_>>()
        };
        let part = |established: &Established| established.part(&events, &keys(established), all());
        let note = |established: &Established, i: usize, ack| {
            let key = established.key(&events[i].record);
            established.note([(&events[i], key, ack)].into_iter());
        };
        assert_eq!(part(&established), (vec![0, 1, 3, 4], vec![2, 5]));
        let ack = |at| Ack { partition: 3, at };
        note(&established, 0, ack(Instant::now()));
        assert_eq!(part(&established), (vec![0, 1, 2, 3, 4], vec![5]), "`b` is not known");
        note(&established, 1, Ack { partition: 4, at: Instant::now() });
        assert_eq!(part(&established), (all(), vec![]));
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED_FOR) else { return };
        let silent = Established::default();
        note(&silent, 0, ack(long_ago));
        assert_eq!(part(&silent), (vec![0, 1, 3, 4], vec![2, 5]));
    }
}
