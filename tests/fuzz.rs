//! Everything at once, on real servers: writers that commit late, roll back and prepare; a transaction held open all the
//! while; two relay processes that are killed and suspended past their leases; a broker that crashes; a ring of leaves
//! that is reclaimed. What is on the topic is read independently: nothing is lost, and the order of each key stands.
//!
//! `cargo xtask fuzz --pg 14..18 --minutes 10` runs it for longer and on every version of Postgres.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::message::Headers as _;
use sqlx::postgres::PgPoolOptions;
use support::processes::Process;
use support::random::{Random, seed};
use support::topics::{create_topic_of, read_topic_of};
use support::writers::{self, Arrival, LONG_KEY, WRITERS, assert_all_in_order};
use support::{OrderCreated, within_a_minute};
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

const EVENTS: usize = 12_000;
const MISHAPS: usize = 16;
/// A relay sleeps through so many mishaps: longer than its lease.
const PAUSE: usize = 6;

fn versions() -> Vec<PgVersion> {
    let asked = std::env::var("OUTBOX_FUZZ_PG").unwrap_or_else(|_| "15,18".to_owned());
    asked
        .split(',')
        .map(|number| {
            let known = PgVersion::ALL.into_iter().find(|version| version.to_string() == number);
            known
                .unwrap_or_else(|| panic!("OUTBOX_FUZZ_PG={asked}: `{number}` is none of 14, 15, 16, 17, 18"))
        })
        .collect()
}

fn minutes() -> u64 {
    std::env::var("OUTBOX_FUZZ_MINUTES").map_or(0, |minutes| minutes.parse().expect("a number of minutes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_the_order_stands_whatever_happens_to_relays_and_broker() {
    let end = Instant::now() + Duration::from_secs(60 * minutes());
    let mut seed = seed();
    loop {
        for version in versions() {
            round(version, seed).await;
        }
        if Instant::now() >= end {
            return;
        }
        seed = Random::new(seed, 0).next();
        println!("OUTBOX_SEED={seed}");
    }
}

async fn round(version: PgVersion, seed: u64) {
    let mut random = Random::new(seed, WRITERS);
    let scratch = ScratchDir::new("fuzz").unwrap();
    let postgres = Postgres::start(version, &scratch.path().join("postgres"), PgOptions::default()).unwrap();
    let mut kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers().to_owned();
    create_topic_of(&brokers, "order-events", 6, &[]).await;
    let pool = PgPoolOptions::new().max_connections(WRITERS as u32 + 4);
    let outbox = writers::new_outbox(pool.connect(postgres.url()).await.unwrap()).await;
    let environment = [("DATABASE_URL", postgres.url()), ("KAFKA_BROKERS", &brokers)];
    let relay = |name| Process::start(name, "orders", &["relay"], &environment, scratch.path());
    let mut relays = [relay("relay-1"), relay("relay-2")];

    // Begun first, and committed last.
    let mut long = outbox.begin().await.unwrap();
    let value: i64 =
        sqlx::query_scalar("update aggregate set value = value + 1 where key = $1 returning value")
            .bind(LONG_KEY)
            .fetch_one(&mut long)
            .await
            .unwrap();
    long.emit(OrderCreated::new(LONG_KEY.to_string(), value)).unwrap();

    let committed = Arc::<AtomicUsize>::default();
    let writing = tokio::spawn({
        let (outbox, committed) = (outbox.clone(), Arc::clone(&committed));
        async move { writers::run(&outbox, seed, EVENTS, &committed).await }
    });
    let (mut kills, mut pauses, mut crashes) = (0, 0, 0);
    let mut paused: Option<(usize, usize)> = None;
    for mishap in 0..MISHAPS {
        let due = (mishap + 1) * EVENTS / (MISHAPS + 1);
        while committed.load(Ordering::SeqCst) < due && !writing.is_finished() {
            relays.iter_mut().for_each(Process::keep_alive);
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
        }
        let chosen = match paused {
            Some((asleep, _)) => 1 - asleep,
            None => random.below(2) as usize,
        };
        if random.chance(10) {
            tokio::task::block_in_place(|| {
                kafka.kill();
                kafka.restart()
            })
            .unwrap();
            crashes += 1;
        } else if paused.is_none() && random.chance(30) {
            relays[chosen].keep_alive();
            relays[chosen].signal("-STOP");
            paused = Some((chosen, mishap + PAUSE));
            pauses += 1;
        } else {
            relays[chosen].kill();
            kills += 1;
        }
        if let Some((asleep, _)) = paused.take_if(|(_, until)| *until <= mishap) {
            relays[asleep].signal("-CONT");
        }
    }
    if let Some((asleep, _)) = paused {
        relays[asleep].signal("-CONT");
    }
    let committed = writing.await.unwrap() + 1;
    long.commit().await.unwrap();
    within_a_minute(async {
        while outbox.status().await.unwrap().backlog > 0 {
            relays.iter_mut().for_each(Process::keep_alive);
            tokio::time::sleep(Duration::from_millis(50)).await; // between two looks
        }
    })
    .await;
    assert_eq!(outbox.status().await.unwrap().parked, 0, "no event is at fault");
    drop(relays);

    let again = assert_all_in_order(&outbox, arrivals(brokers).await, committed).await;
    println!(
        "Postgres {version}: {committed} events committed, lost 0, order violations 0, {again} published again; \
         relays killed {kills} times, suspended {pauses} times, the broker crashed {crashes} times"
    );
    assert!(kills + pauses + crashes == MISHAPS, "all mishaps fell into the traffic");
}

async fn arrivals(brokers: String) -> Vec<Arrival> {
    let messages = read_topic_of(brokers, "order-events").await;
    messages
        .iter()
        .map(|message| {
            let id = message.headers().unwrap().iter().find(|header| header.key == "ce_id").unwrap();
            let id = std::str::from_utf8(id.value.unwrap()).unwrap().parse().unwrap();
            (id, serde_json::from_slice(message.payload().unwrap()).unwrap())
        })
        .collect()
}
