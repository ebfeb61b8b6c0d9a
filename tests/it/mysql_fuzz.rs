//! The proof by experiment of `store/mysql/lanes/chunk.rs`: writers that commit late, roll back and
//! use savepoints, at both isolation levels; relays that read small chunks, join, leave, are killed
//! and started again; a transaction that stays open for the whole time, and holds back what the
//! server may remove. Every committed event is published, in the order in which its key's lock
//! changed hands; and, while the relay lives, once.
//!
//! The seed is printed; `OUTBOX_SEED=… cargo xtask test --test it mysql_fuzz` takes the same
//! decisions again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use outbox::Outbox;
use outbox::testing::MemoryPublisher;
use sqlx::{AssertSqlSafe, Executor, MySql};

use crate::support::oracle::{Expected, assert_at_least_once};
use crate::support::random::{Random, seed};
use crate::support::relays::{RunningRelay, drain_to, drain_when_free, new_relay};
use crate::support::writers::arrivals;
use crate::support::{self, OrderCreated, migrated};

const WRITERS: u64 = 16;
const KEYS: u64 = 20;
const EVENTS: usize = 3_000;
/// How many relays share the lanes, with those that come and go.
const RELAYS: usize = 3;

async fn new_outbox() -> Outbox<MySql> {
    let outbox = migrated(Outbox::new(support::mysql(WRITERS as u32 + 4).await)).await;
    let aggregate = "create table aggregate (id bigint primary key, value bigint not null)";
    outbox.pool().execute(aggregate).await.unwrap();
    let rows: Vec<String> = (0..KEYS).map(|key| format!("({key}, 0)")).collect();
    let rows = format!("insert into aggregate (id, value) values {}", rows.join(", "));
    outbox.pool().execute(AssertSqlSafe(rows)).await.unwrap();
    outbox
}

/// One business transaction: some keys, each under its lock, with an event of its new value.
/// Returns how many events it committed.
async fn write(outbox: &Outbox<MySql>, random: &mut Random) -> Result<usize, sqlx::Error> {
    let begin = if random.chance(50) {
        "set transaction isolation level read committed; start transaction"
    } else {
        "set transaction isolation level repeatable read; start transaction with consistent snapshot"
    };
    let mut open = outbox.pool().begin_with(begin).await?;
    if random.chance(30) {
        random.dawdle(20).await;
    }
    let mut keys: Vec<u64> = (0..=random.below(3)).map(|_| random.below(KEYS)).collect();
    keys.sort_unstable(); // no deadlocks
    keys.dedup();
    let mut events = 0;
    for key in keys {
        let in_savepoint = random.chance(30);
        if in_savepoint {
            open.execute("savepoint s").await?;
        }
        let id = key as i64;
        sqlx::query("update aggregate set value = value + 1 where id = ?")
            .bind(id)
            .execute(&mut *open)
            .await?;
        let value: i64 = sqlx::query_scalar("select value from aggregate where id = ?")
            .bind(id)
            .fetch_one(&mut *open)
            .await?;
        let mut tx = outbox.attach(&mut open).await.expect("a savepoint");
        let mut order = OrderCreated::new(key.to_string(), value);
        if random.below(200) == 0 {
            // In the header and in the payload: up to what an event may have.
            order.tenant = Some(random.text(470_000));
        }
        tx.emit(order).expect("an event within the limit");
        tx.commit().await.expect("an insert");
        events += 1;
        if in_savepoint && random.chance(30) {
            open.execute("rollback to savepoint s").await?; // value and event alike
            events -= 1;
        }
        if random.chance(10) {
            random.dawdle(50).await;
        }
    }
    if random.chance(15) {
        open.rollback().await?;
        return Ok(0);
    }
    open.commit().await?;
    Ok(events)
}

async fn run_writers(outbox: &Outbox<MySql>, seed: u64) -> usize {
    let committed = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (outbox, committed) = (outbox.clone(), Arc::clone(&committed));
        writers.spawn(async move {
            let mut random = Random::new(seed, writer);
            while committed.load(Ordering::SeqCst) < EVENTS {
                let written = write(&outbox, &mut random).await.expect("no writer fails");
                committed.fetch_add(written, Ordering::SeqCst);
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    committed.load(Ordering::SeqCst)
}

/// All that was committed arrived, in the order of its key, and nothing else. Returns how many
/// arrived again.
async fn assert_all_in_order(
    outbox: &Outbox<MySql>,
    kafka: &MemoryPublisher,
    committed: usize,
) -> usize {
    let values: Vec<(i64, i64)> =
        sqlx::query_as("select id, value from aggregate").fetch_all(outbox.pool()).await.unwrap();
    let expected: Expected =
        values.into_iter().map(|(id, value)| (id.to_string(), value)).collect();
    let sum: i64 = expected.values().sum();
    assert_eq!(usize::try_from(sum).unwrap(), committed, "what the writers counted");
    let left: i64 = sqlx::query_scalar("select count(*) from outbox_event")
        .fetch_one(outbox.pool())
        .await
        .unwrap();
    assert_eq!(left, 0, "what is published is deleted");
    assert_at_least_once(&arrivals(&kafka.published()), &expected)
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
