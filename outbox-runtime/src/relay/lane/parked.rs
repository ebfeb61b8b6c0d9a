//! The keys of a lane that have parked events, which no later event of the key may overtake.

use std::collections::{HashMap, HashSet};

use crate::record::{EventRecord, KeyDigest};
use crate::store::parked::MOST_KNOWN;
use crate::store::{KnownParked, Parking};

/// All parked keys of a lane while they are few. If there are many, only those with events about to
/// be parked; the relay then asks the database which keys of each batch are parked.
#[derive(Debug, Default)]
pub(in crate::relay) struct ParkedKeys {
    known: HashMap<KeyDigest, ParkedKey>,
    /// Whether `known` lacks some parked keys.
    asks: bool,
    /// If `asks`: the parked keys in the batch to be sent next.
    in_next: HashSet<KeyDigest>,
}

#[derive(Debug, Default)]
struct ParkedKey {
    /// Number of events that were passed over and are not saved as parked yet.
    on_the_way: u32,
    /// Whether the database has parked events of it, as far as this relay knows.
    stored: bool,
    /// Whether its parked events are being tried again.
    released: bool,
}

impl ParkedKeys {
    pub(in crate::relay) fn new(known: KnownParked) -> Self {
        Self {
            asks: known.is_none(),
            known: known
                .into_iter()
                .flatten()
                .map(|key| (key, ParkedKey { stored: true, ..ParkedKey::default() }))
                .collect(),
            in_next: HashSet::new(),
        }
    }

    /// Whether the database is to be asked about each batch that is read.
    pub(in crate::relay) fn asks(&self) -> bool {
        self.asks
    }

    pub(in crate::relay) fn are_none(&self) -> bool {
        !self.asks && self.known.is_empty()
    }

    /// Takes in which keys of the batch to be sent next are parked. `None`: the lane has no parked
    /// key any more.
    pub(in crate::relay) fn were_asked(&mut self, parked: KnownParked) {
        self.asks &= parked.is_some();
        self.in_next = parked.into_iter().flatten().collect();
    }

    /// Whether the event must not be sent, since earlier events of its key are parked.
    pub(in crate::relay) fn holds(&self, record: &EventRecord) -> bool {
        if self.known.is_empty() && self.in_next.is_empty() {
            return false;
        }
        record
            .key_digest()
            .is_some_and(|key| self.known.contains_key(&key) || self.in_next.contains(&key))
    }

    /// Records that an event is about to be parked. Returns whether its key is being tried again.
    pub(in crate::relay) fn add(&mut self, record: &EventRecord) -> bool {
        let Some(key) = record.key_digest() else { return false };
        let parked = self.known.entry(key).or_default();
        parked.on_the_way += 1;
        parked.released
    }

    /// Whether its key is being tried again.
    pub(in crate::relay) fn is_released(&self, record: &EventRecord) -> bool {
        let key = record.key_digest().filter(|_| !self.known.is_empty());
        key.and_then(|key| self.known.get(&key)).is_some_and(|parked| parked.released)
    }

    /// The batch was taken; `holds` was asked about each of its events.
    pub(in crate::relay) fn next_is_taken(&mut self) {
        self.in_next.clear();
        if self.known.len() > MOST_KNOWN as usize {
            self.asks = true;
            self.known.retain(|_, parked| parked.on_the_way > 0 || parked.released);
        }
    }

    /// Records that these are parked now.
    pub(in crate::relay) fn saved(&mut self, parked: &[Parking]) {
        for key in parked.iter().filter_map(|parking| parking.event.record.key_digest()) {
            if let Some(parked) = self.known.get_mut(&key) {
                parked.on_the_way = parked.on_the_way.saturating_sub(1);
                parked.stored = true;
            }
            self.forget_if_idle(key);
        }
    }

    /// Records that these are no longer about to be parked: they are read again, and may be sent
    /// then. Forgets a key that has no other event to wait for.
    pub(in crate::relay) fn abandoned(&mut self, parked: &[Parking]) {
        for key in parked.iter().filter_map(|parking| parking.event.record.key_digest()) {
            let Some(parked) = self.known.get_mut(&key) else { continue };
            parked.on_the_way = parked.on_the_way.saturating_sub(1);
            if parked.on_the_way == 0 && !parked.stored {
                self.known.remove(&key);
            }
            self.forget_if_idle(key);
        }
    }

    /// Records whether the parked events of a key are being tried again.
    pub(in crate::relay) fn set_released(&mut self, key: KeyDigest, released: bool) {
        let parked = self.known.entry(key).or_default();
        parked.stored = true;
        parked.released = released;
        self.forget_if_idle(key);
    }

    /// Records that the database has no parked event of a key any more. Forgets the key, unless
    /// more of its events are about to be parked.
    pub(in crate::relay) fn unpark(&mut self, key: KeyDigest) {
        if let Some(parked) = self.known.get_mut(&key).filter(|parked| parked.on_the_way > 0) {
            parked.stored = false;
            return;
        }
        self.known.remove(&key);
        self.in_next.remove(&key);
    }

    /// Forgets a key that the database knows. The next batch may have been read before that.
    fn forget_if_idle(&mut self, key: KeyDigest) {
        let idle = |parked: &ParkedKey| parked.on_the_way == 0 && !parked.released;
        if self.asks && self.known.get(&key).is_some_and(idle) {
            self.known.remove(&key);
            self.in_next.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Lane, StoredEvent};

    fn record(topic: &'static str, key: &str) -> EventRecord {
        EventRecord { topic: topic.into(), ..EventRecord::of_key(Some(key)) }
    }

    fn key(record: &EventRecord) -> KeyDigest {
        record.key_digest().unwrap()
    }

    fn parking(record: &EventRecord) -> [Parking; 1] {
        let lane = Lane::of(record.key.as_deref(), record.id);
        let event = StoredEvent { lane, seq: 1, record: record.clone(), unreadable: None };
        [Parking { event, reason: None, attempts: 0, released: false }]
    }

    #[test]
    fn a_parked_key_holds_the_events_of_its_topic_only() {
        let parked = ParkedKeys::new(Some(vec![key(&record("orders", "7"))]));
        assert!(parked.holds(&record("orders", "7")));
        assert!(!parked.holds(&record("orders", "8")) && !parked.holds(&record("payments", "7")));
        assert!(!parked.holds(&EventRecord { key: None, ..record("orders", "7") }));
    }

    #[test]
    fn a_key_with_events_on_the_way_stays_parked_when_the_others_are_delivered() {
        let record = record("orders", "7");
        let mut parked = ParkedKeys::new(Some(vec![key(&record)]));
        parked.set_released(key(&record), true);
        assert!(parked.add(&record), "it is tried again with those before it");
        parked.unpark(key(&record));
        assert!(parked.holds(&record));
        parked.saved(&parking(&record));
        parked.unpark(key(&record));
        assert!(!parked.holds(&record) && parked.are_none());
    }

    #[test]
    fn of_too_many_parked_keys_only_those_on_the_way_are_held() {
        let mut parked = ParkedKeys::new(Some(Vec::new()));
        let records: Vec<_> = (0..=MOST_KNOWN).map(|n| record("orders", &n.to_string())).collect();
        for record in &records {
            parked.add(record);
            parked.saved(&parking(record));
        }
        assert!(parked.holds(&records[0]) && !parked.asks());
        let on_the_way = record("orders", "on the way");
        parked.add(&on_the_way);
        parked.next_is_taken();
        assert!(parked.asks() && !parked.are_none());
        assert_eq!(parked.known.len(), 1);
        assert!(parked.holds(&on_the_way));
    }

    #[test]
    fn a_batch_that_was_read_before_a_key_was_parked_does_not_overtake_it() {
        let record = record("orders", "7");
        let mut parked = ParkedKeys::new(None);
        parked.add(&record);
        // A batch is read, for which the database does not know the key yet; then it is saved as
        // parked.
        parked.were_asked(Some(Vec::new()));
        parked.saved(&parking(&record));
        assert!(parked.known.is_empty());
        assert!(parked.holds(&record), "an event of the batch");
        parked.next_is_taken();
        parked.were_asked(Some(vec![key(&record)]));
        assert!(parked.holds(&record), "an event of the next one");
        parked.unpark(key(&record));
        assert!(!parked.holds(&record), "all were delivered before it is sent");
    }

    #[test]
    fn a_lane_without_parked_keys_does_not_ask_any_more() {
        let record = record("orders", "7");
        let mut parked = ParkedKeys::new(None);
        parked.add(&record);
        parked.were_asked(None);
        assert!(!parked.asks());
        parked.saved(&parking(&record));
        assert!(parked.holds(&record), "but it knows what it parked since");
    }
}
