//! The proof by experiment of `store/mysql/lanes/chunk.rs`: writers that commit late, roll back and
//! use savepoints, at both isolation levels; relays that read small chunks, join, leave, are killed
//! and started again; a transaction that stays open for the whole time, and holds back what the
//! server may remove. Every committed event is published, in the order in which its key's lock
//! changed hands; and, while the relay lives, once.
//!
//! The seed is printed; `OUTBOX_SEED=… cargo xtask test --test it mysql_fuzz` takes the same
//! decisions again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outbox::Outbox;
use outbox::testing::MemoryPublisher;
use sqlx::MySql;

use crate::support::random::{Random, seed};
use crate::support::relays::{RunningRelay, drain_to, drain_when_free, new_relay};
use crate::support::writers::{self, WRITERS, arrivals};
use crate::support::{self, mysql_writers};

const EVENTS: usize = 3_000;
/// How many relays share the lanes, with those that come and go.
const RELAYS: usize = 3;

async fn new_outbox() -> Outbox<MySql> {
    mysql_writers::new_outbox(support::mysql(WRITERS as u32 + 4).await).await
}

async fn run_writers(outbox: &Outbox<MySql>, seed: u64) -> usize {
    writers::run(outbox, seed, EVENTS, &Arc::default()).await
}

/// As that of all stores; and the table is empty.
async fn assert_all_in_order(
    outbox: &Outbox<MySql>,
    kafka: &MemoryPublisher,
    committed: usize,
) -> usize {
    mysql_writers::assert_all_deleted(outbox).await;
    writers::assert_all_in_order(outbox, arrivals(&kafka.published()), committed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_relay_publishes_everything_once_and_in_order() {
    let seed = seed();
    let outbox = new_outbox().await;
    // What it could see stays in the table, however long it is deleted.
    let mut old = outbox
        .pool()
        .begin_with("start transaction with consistent snapshot, read only")
        .await
        .unwrap();
    let kafka = MemoryPublisher::new();
    let relay = new_relay(&outbox, kafka.clone())
        .batch_events(7)
        .batch_bytes(1 << 20)
        .poll_interval(Duration::from_millis(20));
    let relay = RunningRelay::start(relay);
    let committed = run_writers(&outbox, seed).await;
    relay.stop().await;
    let seen: i64 =
        sqlx::query_scalar("select count(*) from outbox_event").fetch_one(&mut *old).await.unwrap();
    assert_eq!(seen, 0, "it began before all of them");
    old.rollback().await.unwrap();
    drain_to(&outbox, kafka.clone()).await;
    let duplicates = assert_all_in_order(&outbox, &kafka, committed).await;
    println!("{committed} events committed, all published in order, {duplicates} twice");
    assert_eq!(duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_killed_at_any_point_lose_nothing_and_keep_the_order() {
    let seed = seed();
    let outbox = new_outbox().await;
    let kafka = MemoryPublisher::new();
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (outbox, kafka, done) = (outbox.clone(), kafka.clone(), Arc::clone(&done));
        async move {
            let mut random = Random::new(seed, WRITERS);
            let mut relays = Vec::new();
            let mut kills = 0;
            while !done.load(Ordering::SeqCst) {
                if relays.len() < RELAYS {
                    let relay = new_relay(&outbox, kafka.clone())
                        .batch_events(5)
                        .batch_bytes(1 << 20)
                        .lease(Duration::from_millis(30))
                        .poll_interval(Duration::from_millis(5));
                    relays.push(RunningRelay::start(relay));
                }
                random.dawdle(60).await;
                if random.chance(50) {
                    let relay = relays.swap_remove(random.below(relays.len() as u64) as usize);
                    if random.chance(30) {
                        relay.stop().await;
                    } else {
                        relay.abort().await;
                        kills += 1;
                    }
                }
            }
            for relay in relays {
                relay.abort().await;
            }
            kills
        }
    });
    let committed = run_writers(&outbox, seed).await;
    done.store(true, Ordering::SeqCst);
    let kills = killer.await.unwrap();
    // The lanes of the last one killed are free when its lease has run out.
    drain_when_free(&outbox, kafka.clone()).await;
    let duplicates = assert_all_in_order(&outbox, &kafka, committed).await;
    println!("{committed} events committed, {kills} relays killed, {duplicates} published again");
}
