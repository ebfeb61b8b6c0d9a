//! The proof by experiment of `store/postgres/lanes/window.rs`: writers that commit late, roll
//! back, use savepoints and prepared transactions, and draw their transaction id before they wait
//! for a lock; relays that read small chunks, join, leave, are killed and restarted; leaves of the
//! ring that fill up and are reclaimed. Every committed event is published, in the order in which
//! its key's lock changed hands; and, while the relay lives, once.
//!
//! The seed is printed; `OUTBOX_SEED=… cargo xtask test --test it window_fuzz` takes the same
//! decisions again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::random::{Random, seed};
use crate::support::relays::{RunningRelay, drain_to, drain_when_free, new_relay};
use crate::support::writers::{self, WRITERS, arrivals, assert_all_in_order};
use crate::support::{self, OTHER_POSTGRES, POSTGRES};
use outbox::Outbox;
use outbox::testing::MemoryPublisher;
use sqlx::Postgres;

const EVENTS: usize = 6_000;
/// How many relays share the lanes, with those that come and go.
const RELAYS: usize = 3;

async fn new_outbox(server: &str) -> Outbox<Postgres> {
    writers::new_outbox(support::postgres(server, WRITERS as u32 + 4).await).await
}

async fn run_writers(outbox: &Outbox<Postgres>, seed: u64) -> usize {
    writers::run(outbox, seed, EVENTS, &Arc::default()).await
}

async fn a_living_relay_publishes_everything_once_and_in_order(server: &str) {
    let seed = seed();
    let outbox = new_outbox(server).await;
    let kafka = MemoryPublisher::new();
    let relay = new_relay(&outbox, kafka.clone())
        .batch_events(7)
        .batch_bytes(1 << 20)
        .poll_interval(Duration::from_millis(20));
    let relay = RunningRelay::start(relay);
    let committed = run_writers(&outbox, seed).await;
    relay.stop().await;
    drain_to(&outbox, kafka.clone()).await;
    let duplicates = assert_all_in_order(&outbox, arrivals(&kafka.published()), committed).await;
    println!("{committed} events committed, all published in order, {duplicates} twice");
    assert_eq!(duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_relay_publishes_everything_once_and_in_order_on_postgres() {
    a_living_relay_publishes_everything_once_and_in_order(POSTGRES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_relay_publishes_everything_once_and_in_order_on_the_other_postgres() {
    a_living_relay_publishes_everything_once_and_in_order(OTHER_POSTGRES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_killed_at_any_point_lose_nothing_and_keep_the_order() {
    let seed = seed();
    let outbox = new_outbox(POSTGRES).await;
    let kafka = MemoryPublisher::new();
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (outbox, kafka, done) = (outbox.clone(), kafka.clone(), Arc::clone(&done));
        async move {
            let mut random = Random::new(seed, WRITERS);
            let mut relays = Vec::new();
            let (mut kills, mut reclaimed) = (0, 0);
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
                reclaimed += outbox
                    .reclaim(Duration::ZERO)
                    .await
                    .expect("no conflict that it does not wait out");
            }
            for relay in relays {
                relay.abort().await;
            }
            (kills, reclaimed)
        }
    });
    let committed = run_writers(&outbox, seed).await;
    done.store(true, Ordering::SeqCst);
    let (kills, reclaimed) = killer.await.unwrap();
    // The lanes of the last one killed are free when its lease has run out.
    drain_when_free(&outbox, kafka.clone()).await;
    let duplicates = assert_all_in_order(&outbox, arrivals(&kafka.published()), committed).await;
    println!(
        "{committed} events committed, {kills} relays killed, {reclaimed} events reclaimed, {duplicates} published again"
    );
}
