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
//!
//! In a transaction it is not needed: one that has a refused event is aborted, and what has
//! overtaken the event is never seen.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::reports::Ack;
use crate::hashes::AsTheyAre;
use crate::kafka::TopicPrefix;
use crate::record::EventRecord;

/// Time after an acknowledgement during which a partition is believed to know the producer. A
/// broker forgets a producer after `producer.id.expiration.ms` without a record, and when the topic
/// is deleted.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// Most keys of a topic whose partition is remembered: about 2 MB.
const MOST_KEYS: usize = 100_000;

/// The partitions that know a producer, as its acknowledgements show.
#[derive(Default)]
pub(super) struct Established {
    /// Whether a refused event takes all others of its transaction with it, so that none can
    /// overtake it.
    is_needless: bool,
    hasher: RandomState,
    topics: Mutex<HashMap<String, Topic>>,
}

#[derive(Default)]
struct Topic {
    /// Partition of each key, by the hash of the key and the partition that its event names.
    keys: HashMap<u64, i32, AsTheyAre>,
    acknowledged: HashMap<i32, Instant>,
}

/// An event, and where it goes.
pub(super) struct Addressed<'e> {
    pub(super) record: &'e EventRecord,
    /// The topic's name on the brokers. Publishers with other prefixes share the producer.
    pub(super) topic: Cow<'e, str>,
    /// `None` for an event that may be sent at any time: one without a key has no order to keep.
    key: Option<Key>,
}

/// The hashes of an event's key.
#[derive(Clone, Copy)]
struct Key {
    /// That of the topic and the key.
    key: u64,
    /// That of these and the partition that the event names.
    with_partition: u64,
}

impl Established {
    /// For a producer whose events all fail together.
    pub(super) fn not_needed() -> Self {
        Self { is_needless: true, ..Self::default() }
    }

    /// What the other methods need of an event.
    pub(super) fn addressed<'e>(
        &self,
        record: &'e EventRecord,
        prefix: &TopicPrefix,
    ) -> Addressed<'e> {
        let topic = prefix.on_brokers(&record.topic);
        let key = record.key.as_deref().filter(|_| !self.is_needless).map(|key| {
            let hash = |partition: Option<i32>| self.hasher.hash_one((&*topic, key, partition));
            let key = hash(None);
            let named = record.partition.is_some();
            Key { key, with_partition: if named { hash(record.partition) } else { key } }
        });
        Addressed { record, topic, key }
    }

    /// Splits events, given by their indexes, into those that can be sent now and those that must
    /// wait until an earlier one of their key is acknowledged. At least one can be sent.
    pub(super) fn part(
        &self,
        events: &[Addressed<'_>],
        places: Vec<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let now = Instant::now();
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // The partition that the first event of each key names, and the keys with an event that
        // waits.
        let mut chosen = HashMap::<_, _, AsTheyAre>::default();
        let mut held = HashSet::<_, AsTheyAre>::default();
        places.into_iter().partition(|place| {
            let Addressed { record, topic, key } = &events[*place];
            let Some(Key { key, with_partition }) = *key else { return true };
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
                    topics.get(&**topic).is_some_and(|topic| topic.knows(with_partition, now))
                }
            };
            if !now {
                held.insert(key);
            }
            now
        })
    }

    /// Records acknowledgements.
    pub(super) fn note<'a>(&self, acknowledged: impl Iterator<Item = (&'a Addressed<'a>, Ack)>) {
        if self.is_needless {
            return;
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for (Addressed { topic: name, key, .. }, ack) in acknowledged {
            let topic = match topics.get_mut(&**name) {
                Some(topic) => topic,
                None => topics.entry(name.to_string()).or_default(),
            };
            let last = topic.acknowledged.entry(ack.partition).or_insert(ack.at);
            *last = ack.at.max(*last);
            if let Some(Key { with_partition, .. }) = *key {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn to<'e>(
        established: &Established,
        events: &'e [EventRecord],
        prefix: &TopicPrefix,
    ) -> Vec<Addressed<'e>> {
        events.iter().map(|event| established.addressed(event, prefix)).collect()
    }

    #[test]
    fn a_second_event_of_a_key_waits_until_its_partition_has_acknowledged_and_again_after_a_silence()
     {
        let established = Established::default();
        let keys = [Some("a"), Some("b"), Some("a"), None, None, Some("b")];
        let (events, none) = (keys.map(EventRecord::of_key), TopicPrefix::default());
        let all = || (0..events.len()).collect::<Vec<_>>();
        let part =
            |established: &Established| established.part(&to(established, &events, &none), all());
        let note = |established: &Established, i: usize, ack| {
            established.note([(&established.addressed(&events[i], &none), ack)].into_iter());
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
    #[test]
    fn a_topic_of_another_prefix_is_another_topic() {
        let (established, events) =
            (Established::default(), ["a", "a"].map(|key| EventRecord::of_key(Some(key))));
        let prefixes = ["shop-", "office-"].map(|prefix| TopicPrefix::new(prefix).unwrap());
        let ack = Ack { partition: 3, at: Instant::now() };
        established.note([(&established.addressed(&events[0], &prefixes[0]), ack)].into_iter());
        let part = |prefix| established.part(&to(&established, &events, prefix), vec![0, 1]);
        assert_eq!(part(&prefixes[0]), (vec![0, 1], vec![]));
        assert_eq!(part(&prefixes[1]), (vec![0], vec![1]), "nothing of it was acknowledged");
    }
}
