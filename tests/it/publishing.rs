//! What a publisher does on a real Kafka when a broker refuses events or takes none: nothing of a
//! key is on the topic after an event that is not, and what is wrong is said.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::support::log::Log;
use crate::support::random::{Random, seed};
use crate::support::relays::{
    RunningRelay, drain, kafka_publisher, kafka_publisher_of, new_relay, until_parked_count,
};
use crate::support::topics::{create_replicated, create_topic_of, raise_limit, read_topic_of};
use crate::support::wait::within;
use crate::support::{self, eventually, kafka, migrated};
use outbox::codec::Json;
use outbox::event::EventDescriptor;
use outbox::kafka::KafkaConfig;
use outbox::{DomainEvent, MemoryBudget, Outbox};
use rdkafka::Message as _;
use serde::Serialize;
use sqlx::Sqlite;
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

/// The `n`th event of its key, of a size and on a topic that the test chooses.
#[derive(Serialize)]
struct Sized {
    #[serde(skip)]
    kind: &'static EventDescriptor,
    /// Empty: the event is keyless.
    key: String,
    n: usize,
    noise: String,
    #[serde(skip)]
    at: Option<SystemTime>,
}

impl DomainEvent for Sized {
    type Codec = Json;
    const DESCRIPTORS: &'static [EventDescriptor] = &[];

    fn descriptor(&self) -> &'static EventDescriptor {
        self.kind
    }

    fn key(&self) -> Option<Vec<u8>> {
        (!self.key.is_empty()).then(|| self.key.as_bytes().to_vec())
    }

    fn occurred_at(&self) -> Option<SystemTime> {
        self.at
    }
}

impl Sized {
    fn new(kind: &'static EventDescriptor, key: impl Into<String>, n: usize, bytes: usize) -> Self {
        Self { kind, key: key.into(), n, noise: "x".repeat(bytes), at: None }
    }
}

/// A name of a topic that no other run has.
fn name() -> &'static str {
    Box::leak(format!("publishing-{}", Uuid::now_v7().simple()).into_boxed_str())
}

fn kind(topic: &'static str) -> &'static EventDescriptor {
    let kind = EventDescriptor::new(topic, "order.sized", 1, "application/json", &["key"], &[]);
    Box::leak(Box::new(kind))
}

async fn topic(
    brokers: &str,
    partitions: i32,
    config: &[(&str, &str)],
) -> &'static EventDescriptor {
    let name = name();
    create_topic_of(brokers, name, partitions, config).await;
    kind(name)
}

async fn commit(outbox: &Outbox<Sqlite>, events: impl IntoIterator<Item = Sized>) {
    let mut tx = outbox.begin().await.unwrap();
    for event in events {
        tx.emit(event).unwrap();
    }
    tx.commit().await.unwrap();
}

/// A relay with a fresh publisher, which no broker knows.
fn start(outbox: &Outbox<Sqlite>, brokers: &str, properties: &[(&str, &str)]) -> RunningRelay {
    let config = KafkaConfig::new(brokers)
        .property("compression.type", "none")
        .properties(properties.iter().copied());
    let relay =
        new_relay(outbox, kafka_publisher_of(config)).retry_parked(Duration::from_secs(3600));
    RunningRelay::start(relay.lease(Duration::from_secs(1)))
}

async fn until_settled(outbox: &Outbox<Sqlite>) {
    let is = async || outbox.status().await.unwrap().backlog == 0;
    eventually("all is published or parked", is).await;
}

/// Releases what is parked until nothing is: the broker takes a moment to heed a new limit.
async fn until_all_is_taken(outbox: &Outbox<Sqlite>) {
    eventually("nothing is parked", async || {
        outbox.release_all_parked().await.unwrap();
        outbox.status().await.unwrap().parked == 0
    })
    .await;
}

/// The events of each key in the order of their first occurrence.
async fn first_occurrences(brokers: &str, topic: &'static str) -> BTreeMap<String, Vec<usize>> {
    let mut keys = BTreeMap::<String, Vec<usize>>::new();
    for message in read_topic_of(brokers.to_owned(), topic).await {
        let payload: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap()).unwrap();
        let numbers = keys.entry(payload["key"].as_str().unwrap().to_owned()).or_default();
        let n = payload["n"].as_u64().unwrap() as usize;
        if !numbers.contains(&n) {
            numbers.push(n);
        }
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_key_overtakes_the_first_event_of_a_fresh_producer_when_it_is_refused() {
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kind = topic(&kafka(), 1, &[("max.message.bytes", "600000")]).await;
    for round in 0..6 {
        let key = format!("key-{round}");
        let sizes = [900_000, 140_000, 140_000, 10];
        let event = |(n, bytes)| Sized::new(kind, key.clone(), n, bytes);
        commit(&outbox, sizes.into_iter().enumerate().map(event)).await;
        let relay = start(&outbox, &kafka(), &[]);
        until_parked_count(&outbox, 4 * (round + 1)).await;
        relay.stop().await;
    }
    assert_eq!(first_occurrences(&kafka(), kind.topic).await, BTreeMap::new());
    raise_limit(&kafka(), kind.topic).await;
    let relay = start(&outbox, &kafka(), &[]);
    until_all_is_taken(&outbox).await;
    relay.stop().await;
    let all = first_occurrences(&kafka(), kind.topic).await;
    assert_eq!(all.len(), 6);
    assert!(all.values().all(|numbers| *numbers == [0, 1, 2, 3]), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_each_key_stands_whatever_is_refused_and_however_often_the_producer_is_fresh()
{
    const KEYS: usize = 60;
    const LIMIT: usize = 20_000;
    let mut random = Random::new(seed(), 0);
    let scratch = ScratchDir::new("order").unwrap();
    let mut broker = Kafka::start(scratch.path(), KafkaOptions::default()).unwrap();
    let brokers = broker.brokers().to_owned();
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kind = topic(&brokers, 3, &[("max.message.bytes", &LIMIT.to_string())]).await;
    let mut emitted = [0; KEYS];
    let rounds = 16;
    let killed = random.below(rounds);
    for round in 0..rounds {
        let (batch, linger) =
            (["1", "3", "10000"][random.below(3) as usize], ["0", "5"][random.below(2) as usize]);
        let properties =
            [("batch.num.messages", batch), ("linger.ms", linger), ("batch.size", "20000")];
        let relay = start(&outbox, &brokers, &properties);
        for _ in 0..random.below(4) + 1 {
            // A few keys, so that many of their events are on their way together.
            let first = random.below(KEYS as u64) as usize;
            let events = (0..random.below(40) + 1).map(|_| {
                let key = (first + random.below(4) as usize) % KEYS;
                let bytes = match random.below(100) {
                    0..4 => LIMIT + random.below(200) as usize,
                    4..30 => random.below(LIMIT as u64 - 500) as usize,
                    _ => random.below(300) as usize,
                };
                emitted[key] += 1;
                Sized::new(kind, key.to_string(), emitted[key], bytes)
            });
            let events: Vec<_> = events.collect();
            commit(&outbox, events).await;
            random.dawdle(60).await;
        }
        if round == killed {
            tokio::task::block_in_place(|| {
                broker.kill();
                broker.restart()
            })
            .unwrap();
        }
        if random.chance(50) { relay.abort().await } else { relay.stop().await }
    }
    let relay = start(&outbox, &brokers, &[("batch.size", "20000")]);
    until_settled(&outbox).await;
    relay.stop().await;
    let parked = outbox.status().await.unwrap().parked;
    let on_topic = first_occurrences(&brokers, kind.topic).await;
    let mut published = 0;
    for (key, numbers) in &on_topic {
        assert_eq!(*numbers, (1..=numbers.len()).collect::<Vec<_>>(), "key {key}");
        published += numbers.len();
    }
    let all: usize = emitted.iter().sum();
    assert_eq!(published as u64 + parked, all as u64, "what is not on the topic is parked");
    assert!(parked > 0, "something was refused");

    raise_limit(&brokers, kind.topic).await;
    let relay = start(&outbox, &brokers, &[]);
    until_all_is_taken(&outbox).await;
    relay.stop().await;
    for (key, numbers) in first_occurrences(&brokers, kind.topic).await {
        assert_eq!(
            numbers,
            (1..=emitted[key.parse::<usize>().unwrap()]).collect::<Vec<_>>(),
            "key {key}"
        );
    }
    println!("{all} events of {KEYS} keys, {parked} of them parked for a while, none out of order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_enough_replicas_in_sync_is_told_of_and_the_events_of_others_are_published()
{
    const EVENTS: usize = 3_000;
    let log = Log::of_this_program();
    let scratch = ScratchDir::new("stuck").unwrap();
    let (first, options) = (scratch.path().join("first"), KafkaOptions::default());
    let kafka = Kafka::start(&first, options).unwrap();
    let brokers = kafka.brokers().to_owned();
    let (free, of_another) = (topic(&brokers, 3, &[]).await, topic(&brokers, 3, &[]).await);
    let mut second = kafka.start_second(&scratch.path().join("second"), options).unwrap();
    let stuck = kind(name());
    create_replicated(&brokers, stuck.topic).await;
    second.kill();
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let of_both = (0..EVENTS).flat_map(|n| {
        let (key, n) = (n % 50, n / 50 + 1);
        [Sized::new(stuck, format!("s{key}"), n, 10), Sized::new(free, format!("f{key}"), n, 10)]
    });
    commit(&outbox, of_both).await;
    let (publisher, budget) = (kafka_publisher_of(&brokers), MemoryBudget::new(1024 * 1024));
    let relay = new_relay(&outbox, publisher.clone()).retry_parked(Duration::from_secs(1));
    let relay = RunningRelay::start(relay.shared_memory(&budget));
    // Another tenant of the process, on the same producer.
    let (pool, _directory_of_another) = support::sqlite(4).await;
    let another = migrated(Outbox::new(pool)).await;
    let relay_of_another =
        RunningRelay::start(new_relay(&another, publisher).shared_memory(&budget));

    log.until_it_says(&[
        "WARN",
        stuck.topic,
        "leader 1, 1 of 2 replicas in sync",
        "min.insync.replicas",
    ])
    .await;
    commit(&another, (1..=500).map(|n| Sized::new(of_another, (n % 10).to_string(), n, 10))).await;
    until_settled(&another).await;
    assert_eq!(another.status().await.unwrap().parked, 0);
    let of_another = first_occurrences(&brokers, of_another.topic).await;
    assert_eq!(of_another.values().map(Vec::len).sum::<usize>(), 500);
    assert!(of_another.values().all(|numbers| numbers.is_sorted()), "{of_another:?}");
    relay_of_another.stop().await;

    until_settled(&outbox).await;
    let in_order = |keys: &BTreeMap<String, Vec<usize>>| {
        assert_eq!(keys.len(), 50);
        keys.values()
            .for_each(|numbers| assert_eq!(*numbers, (1..=EVENTS / 50).collect::<Vec<_>>()));
    };
    in_order(&first_occurrences(&brokers, free.topic).await);
    assert_eq!(outbox.status().await.unwrap().parked, EVENTS as u64);
    let warnings = log.lines(&["a topic takes no events", stuck.topic]);
    assert!(warnings.len() <= 3, "once a partition at most: {warnings:#?}");

    tokio::task::block_in_place(|| second.restart()).unwrap();
    // Each of them is sent alone, and a key's one after the other.
    let ten_minutes = Duration::from_secs(600);
    within(ten_minutes, "the parked events are published", async || {
        (outbox.status().await.unwrap().parked == 0).then_some(())
    })
    .await;
    in_order(&first_occurrences(&brokers, stuck.topic).await);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_the_time_of_sending_and_says_in_ce_time_when_it_happened() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let strict = [
        ("message.timestamp.before.max.ms", "3600000"),
        ("message.timestamp.after.max.ms", "3600000"),
    ];
    let kind = topic(&kafka(), 1, &strict).await;
    let before = SystemTime::now();
    // Retention would delete the first two at once; the broker would refuse the last.
    let times = [
        (0, "1970-01-01T00:00:00Z"),
        (1_000_000_000, "2001-09-09T01:46:40Z"),
        (4_000_000_000, "2096-10-02T07:06:40Z"),
    ];
    let events = times.iter().enumerate().map(|(n, (seconds, _))| {
        let at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds));
        Sized { at, ..Sized::new(kind, "a", n, 10) }
    });
    commit(&outbox, events).await;
    let relay = new_relay(&outbox, kafka_publisher());
    assert_eq!(drain(relay).await.unwrap(), 3);
    for (message, (_, happened)) in read_topic_of(kafka(), kind.topic).await.iter().zip(times) {
        let sent = SystemTime::UNIX_EPOCH
            + Duration::from_millis(message.timestamp().to_millis().unwrap().try_into().unwrap());
        assert!(sent + HOUR > before && sent < SystemTime::now() + HOUR, "{sent:?}");
        assert_eq!(support::consumers::header(message, "ce_time"), Some(happened));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyless_event_for_a_compacted_topic_is_refused_with_cause_and_remedy() {
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kind = topic(&kafka(), 1, &[("cleanup.policy", "compact")]).await;
    commit(&outbox, [Sized::new(kind, "", 1, 10)]).await;
    let relay = new_relay(&outbox, kafka_publisher());
    let error = drain(relay).await.unwrap_err().to_string();
    for hint in ["has no key", "cleanup.policy", "#[event(key)]", kind.topic, "Nothing is lost"] {
        assert!(error.contains(hint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_producers_queue_is_refused_and_waits_for_nothing() {
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kind = topic(&kafka(), 1, &[]).await;
    commit(&outbox, [Sized::new(kind, "a", 1, 10_000)]).await;
    let config = KafkaConfig::new(kafka()).property("queue.buffering.max.kbytes", "1");
    let relay = new_relay(&outbox, kafka_publisher_of(config));
    let error = drain(relay).await.unwrap_err().to_string();
    assert!(error.contains("queue.buffering.max.kbytes"), "{error}");
}
