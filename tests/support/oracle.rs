//! What must be true of the events that consumers read, judged without the code under test.
//!
//! Each event has an id, a key, and its number among the events of its key: 1, 2, and so on. The
//! events of a key are on one topic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use outbox::event::EventRecord;
use rdkafka::Message as _;
use rdkafka::message::OwnedMessage;
use serde::Deserialize;
use uuid::Uuid;

use super::consumers::header;

/// How many events each key has.
pub type Expected = BTreeMap<String, i64>;

/// A copy of an event that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub id: Uuid,
    pub key: String,
    pub n: i64,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What the payloads of the tests' events have.
#[derive(Deserialize)]
struct Payload {
    n: i64,
}

impl Arrival {
    pub fn of_message(message: &OwnedMessage) -> Self {
        let place = Place {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        };
        let read = || {
            let key = String::from_utf8(message.key()?.to_vec()).ok()?;
            let payload: Payload = serde_json::from_slice(message.payload()?).ok()?;
            Some((header(message, "ce_id")?.parse().ok()?, key, payload.n))
        };
        let (id, key, n) = read().unwrap_or_else(|| panic!("no event of the tests at {place}"));
        Self { id, key, n, place }
    }

    /// The `index`th event that a publisher got.
    pub fn of_record(index: usize, record: &EventRecord) -> Self {
        let place = Place {
            topic: record.topic.to_string(),
            partition: 0,
            offset: i64::try_from(index).unwrap(),
        };
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        let payload: Payload = serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
        Self { id: record.id, key, n: payload.n, place }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, key, n, place } = self;
        write!(f, "number {n} of key {key} (id {id}) at {place}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.topic, self.partition, self.offset)
    }
}

/// Each expected event arrived once, those of a key in order, and nothing else.
pub fn assert_exactly_once(arrivals: &[Arrival], expected: &Expected) {
    let wrong = [repetitions(arrivals), disorder(arrivals), difference(arrivals, expected)];
    report(arrivals, &wrong.concat());
}

/// No event arrived twice, and those of a key are in order: for a reading before all is published.
pub fn assert_at_most_once(arrivals: &[Arrival]) {
    report(arrivals, &[repetitions(arrivals), disorder(arrivals)].concat());
}

/// Each expected event arrived, and nothing else; the first copies of the events of a key are in
/// order. Returns how many events arrived again.
pub fn assert_at_least_once(arrivals: &[Arrival], expected: &Expected) -> usize {
    report(arrivals, &[disorder(arrivals), difference(arrivals, expected)].concat());
    arrivals.len() - first_copies(arrivals).len()
}

/// Each of these events arrived: for those that a database still has after it has lost others. What
/// it has lost may have arrived, and its numbers are given again.
pub fn assert_none_lost(arrivals: &[Arrival], ids: &BTreeSet<Uuid>) {
    let arrived: BTreeSet<Uuid> = arrivals.iter().map(|arrival| arrival.id).collect();
    let missing: Vec<String> =
        ids.difference(&arrived).map(|id| format!("missing: id {id}")).collect();
    report(arrivals, &missing);
}

fn report(arrivals: &[Arrival], wrong: &[String]) {
    const SHOWN: usize = 20;

    let (read, count) = (arrivals.len(), wrong.len());
    let shown = wrong[..count.min(SHOWN)].join("\n");
    assert!(wrong.is_empty(), "{read} events were read, and {count} times that is wrong:\n{shown}");
}

/// Every copy of an event but its first.
fn repetitions(arrivals: &[Arrival]) -> Vec<String> {
    let mut first: BTreeMap<Uuid, &Arrival> = BTreeMap::new();
    let mut again = Vec::new();
    for arrival in in_place_order(arrivals) {
        match first.get(&arrival.id) {
            Some(first) => again.push(format!("twice: {first}, and {arrival}")),
            None => drop(first.insert(arrival.id, arrival)),
        }
    }
    again
}

/// First copies that do not come after the one before them.
fn disorder(arrivals: &[Arrival]) -> Vec<String> {
    let mut last: BTreeMap<&str, &Arrival> = BTreeMap::new();
    let mut wrong = Vec::new();
    for arrival in first_copies(arrivals) {
        let Some(before) = last.insert(&arrival.key, arrival) else { continue };
        let partition = |arrival: &Arrival| (arrival.place.topic.clone(), arrival.place.partition);
        if partition(before) != partition(arrival) {
            wrong.push(format!("without an order: {before}, and {arrival}"));
        } else if before.n >= arrival.n {
            wrong.push(format!("out of order: {before}, and then {arrival}"));
        }
    }
    wrong
}

/// What is missing, and what should not be there.
fn difference(arrivals: &[Arrival], expected: &Expected) -> Vec<String> {
    let count = |key: &str| expected.get(key).copied().unwrap_or(0);
    let is_expected = |arrival: &&Arrival| (1..=count(&arrival.key)).contains(&arrival.n);
    let arrived: BTreeSet<_> = arrivals.iter().map(|arrival| (&*arrival.key, arrival.n)).collect();
    let all = expected.iter().flat_map(|(key, count)| (1..=*count).map(|n| (&**key, n)));
    let missing = all.filter(|event| !arrived.contains(event));
    let missing = missing.map(|(key, n)| format!("missing: number {n} of key {key}"));
    let foreign = arrivals.iter().filter(|arrival| !is_expected(arrival));
    missing.chain(foreign.map(|arrival| format!("never committed: {arrival}"))).collect()
}

fn first_copies(arrivals: &[Arrival]) -> Vec<&Arrival> {
    let mut seen = BTreeSet::new();
    in_place_order(arrivals).into_iter().filter(|arrival| seen.insert(arrival.id)).collect()
}

fn in_place_order(arrivals: &[Arrival]) -> Vec<&Arrival> {
    let mut all: Vec<&Arrival> = arrivals.iter().collect();
    all.sort_by(|a, b| a.place.cmp(&b.place));
    all
}
