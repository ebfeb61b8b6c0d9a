//! The oracle of the tests finds what it is there for: a test that relies on it would otherwise
//! prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{UnwindSafe, catch_unwind};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, Producer as _};
use uuid::Uuid;

use crate::support::oracle::{
    Arrival, Expected, Place, assert_at_least_once, assert_at_most_once, assert_exactly_once,
    assert_none_lost,
};
use crate::support::topics::{
    create_topic, has_no_open_transaction, produce_numbered, read_committed,
};
use crate::support::{kafka, within_a_minute};

/// The events of two keys, each in its partition, interleaved.
fn in_order() -> Vec<Arrival> {
    (0..6_i64).map(|i| arrival(["a", "b"][i as usize % 2], i / 2 + 1, (i % 2) as i32, i)).collect()
}

fn arrival(key: &str, n: i64, partition: i32, offset: i64) -> Arrival {
    let place = Place { topic: "orders".to_owned(), partition, offset };
    Arrival { id: id(key, n), key: key.to_owned(), n, place }
}

fn id(key: &str, n: i64) -> Uuid {
    Uuid::from_u64_pair(key.as_bytes()[0].into(), n.try_into().unwrap())
}

fn three_of_each() -> Expected {
    BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 3)])
}

/// The words with which an assertion fails.
fn failure(assertion: impl FnOnce() + UnwindSafe) -> String {
    let panic = catch_unwind(assertion).expect_err("it should have failed");
    *panic.downcast::<String>().unwrap()
}

#[test]
fn what_arrived_once_and_in_order_is_right() {
    let (arrivals, expected) = (in_order(), three_of_each());
    assert_exactly_once(&arrivals, &expected);
    assert_at_most_once(&arrivals[..3]);
    assert_eq!(assert_at_least_once(&arrivals, &expected), 0);
    // A reading is not in the order of partitions.
    let mut other = arrivals;
    other.reverse();
    assert_exactly_once(&other, &expected);
}

#[test]
fn a_second_copy_is_named_with_both_places() {
    let mut arrivals = in_order();
    arrivals.push(arrival("a", 2, 0, 9));
    let twice = format!(
        "7 events were read, and 1 times that is wrong:\ntwice: number 2 of key a (id {id}) at orders 0:2, and \
         number 2 of key a (id {id}) at orders 0:9",
        id = id("a", 2)
    );
    assert_eq!(failure(|| assert_exactly_once(&arrivals, &three_of_each())), twice);
    assert_eq!(failure(|| assert_at_most_once(&arrivals)), twice);
    assert_eq!(assert_at_least_once(&arrivals, &three_of_each()), 1, "which it may");
}

#[test]
fn an_event_before_an_earlier_one_is_named_with_both_places() {
    let mut arrivals = in_order();
    arrivals[1].place.offset = 4;
    arrivals[3].place.offset = 1;
    let (first, second) = (id("b", 1), id("b", 2));
    let late = format!(
        "out of order: number 2 of key b (id {second}) at orders 1:1, and then number 1 of key b (id {first}) at \
         orders 1:4"
    );
    for said in [
        failure(|| assert_exactly_once(&arrivals, &three_of_each())),
        failure(|| assert_at_most_once(&arrivals)),
        failure(|| _ = assert_at_least_once(&arrivals, &three_of_each())),
    ] {
        assert!(said.ends_with(&late), "{said}");
    }
}

#[test]
fn another_event_with_the_same_number_is_out_of_order() {
    let mut arrivals = in_order();
    arrivals.push(Arrival { id: id("c", 3), ..arrival("b", 3, 1, 9) });
    assert!(failure(|| assert_at_most_once(&arrivals)).contains("out of order: number 3 of key b"));
}

#[test]
fn a_key_in_two_partitions_has_no_order() {
    let mut arrivals = in_order();
    arrivals[4].place.partition = 1;
    let said = failure(|| assert_at_most_once(&arrivals));
    assert!(said.contains("without an order: number 2 of key a"), "{said}");
}

#[test]
fn what_is_missing_and_what_was_never_committed_is_named() {
    let mut arrivals = in_order();
    arrivals.remove(2);
    arrivals.push(arrival("a", 4, 0, 9));
    for said in [
        failure(|| assert_exactly_once(&arrivals, &three_of_each())),
        failure(|| _ = assert_at_least_once(&arrivals, &three_of_each())),
    ] {
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[1], "missing: number 2 of key a");
        assert!(lines[2].starts_with("never committed: number 4 of key a"), "{said}");
        assert_eq!(lines.len(), 3);
    }
}

#[test]
fn an_event_that_is_still_there_and_did_not_arrive_is_lost() {
    let arrivals = in_order();
    let mut ids: BTreeSet<Uuid> = arrivals.iter().map(|arrival| arrival.id).collect();
    assert_none_lost(&arrivals, &ids);
    ids.insert(id("c", 1));
    let said = failure(|| assert_none_lost(&arrivals, &ids));
    assert!(said.ends_with(&format!("missing: id {}", id("c", 1))), "{said}");
}

const SOON: Duration = Duration::from_secs(60);

/// Aborted events in the middle and at the end, where a commit leaves no message either.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_has_what_is_committed_to_the_end_and_waits_for_open_transactions() {
    const TOPIC: &str = "oracle-transactions";
    create_topic(TOPIC, 2, &[]).await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("transactional.id", Uuid::now_v7().to_string())
        .create()
        .unwrap();
    producer.init_transactions(SOON).unwrap();
    for (n, commit) in [(1, true), (7, false), (2, true), (8, false)] {
        producer.begin_transaction().unwrap();
        produce_numbered(&producer, TOPIC, "a", n).await;
        if commit {
            producer.commit_transaction(SOON).unwrap();
        } else {
            producer.abort_transaction(SOON).unwrap();
        }
    }
    let brokers = kafka();
    let two = BTreeMap::from([("a".to_owned(), 2)]);
    assert_exactly_once(&within_a_minute(read_committed(&brokers, &[TOPIC])).await, &two);

    producer.begin_transaction().unwrap();
    produce_numbered(&producer, TOPIC, "a", 3).await;
    assert!(!has_no_open_transaction(brokers.clone(), TOPIC).await);
    let reading = tokio::spawn(async move { read_committed(&brokers, &[TOPIC]).await });
    producer.commit_transaction(SOON).unwrap();
    let three = BTreeMap::from([("a".to_owned(), 3)]);
    assert_exactly_once(&within_a_minute(reading).await.unwrap(), &three);
}
