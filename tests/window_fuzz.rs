//! The proof by experiment of `store/postgres/window.rs`: writers that commit late, roll back, use savepoints and
//! prepared transactions, and draw their transaction id before they wait for a lock; relays that read small chunks, join,
//! leave, are killed and restarted; leaves of the ring that fill up and are reclaimed. Every committed event is published, in the order in which its key's lock changed
//! hands; and, while the relay lives, once.
//!
//! The seed is printed; `OUTBOX_SEED=… cargo xtask test --test window_fuzz` takes the same decisions again.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use outbox::testing::MemoryPublisher;
use outbox::{EventRecord, Outbox, Relay};
use sqlx::{Executor, Postgres};
use support::random::{Random, seed};
use support::{OTHER_POSTGRES, OrderCreated, POSTGRES, migrated};

const WRITERS: u64 = 24;
const KEYS: u64 = 20;
const EVENTS: usize = 6_000;
/// How many relays share the lanes, with those that come and go.
const RELAYS: usize = 3;

/// One business transaction: some keys, each under its lock, with an event of its new value. Returns how many events
/// it committed.
async fn write(outbox: &Outbox<Postgres>, random: &mut Random, id: &str) -> Result<usize, sqlx::Error> {
    if random.chance(1) {
        // The rest of the block is used up: over to the next leaf of the ring, and around it more than once.
        support::next_leaf(outbox).await;
    }
    let mut open = outbox.pool().begin().await?;
    if random.chance(50) {
        open.execute("select pg_current_xact_id()").await?; // an old transaction id, a young number
    }
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
        let value: i64 =
            sqlx::query_scalar("update aggregate set value = value + 1 where key = $1 returning value")
                .bind(key as i64)
                .fetch_one(&mut *open)
                .await?;
        let mut tx = outbox.attach(&mut open).await.expect("a savepoint");
        tx.emit(OrderCreated::new(key.to_string(), value)).expect("a small event");
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
    if random.chance(5) {
        open.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{id}'"))).await?;
        open.commit().await?; // only tells sqlx that it is over
        random.dawdle(50).await;
        outbox.pool().execute(sqlx::AssertSqlSafe(format!("commit prepared '{id}'"))).await?;
        return Ok(events);
    }
    open.commit().await?;
    Ok(events)
}

/// Runs writers until `EVENTS` are committed.
async fn run_writers(outbox: &Outbox<Postgres>, seed: u64) -> usize {
    let committed = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (outbox, committed) = (outbox.clone(), Arc::clone(&committed));
        writers.spawn(async move {
            let mut random = Random::new(seed, writer);
            let mut n = 0;
            while committed.load(Ordering::SeqCst) < EVENTS {
                n += 1;
                let id = format!("fuzz_{seed}_{writer}_{n}");
                let events = write(&outbox, &mut random, &id).await.expect("no writer fails");
                committed.fetch_add(events, Ordering::SeqCst);
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    committed.load(Ordering::SeqCst)
}

async fn new_outbox(server: &str) -> Outbox<Postgres> {
    let outbox = migrated(Outbox::new(support::postgres(server, WRITERS as u32 + 4).await)).await;
    outbox
        .pool()
        .execute("create table aggregate (key bigint primary key, value bigint not null)")
        .await
        .unwrap();
    sqlx::query("insert into aggregate select g, 0 from generate_series(0, $1) g")
        .bind(KEYS as i64 - 1)
        .execute(outbox.pool())
        .await
        .unwrap();
    outbox
}

/// The first publication of each event, per key, with the number of later ones.
fn first_publications(published: &[EventRecord]) -> (BTreeMap<String, Vec<i64>>, usize) {
    let mut seen = std::collections::BTreeSet::new();
    let mut by_key = BTreeMap::<String, Vec<i64>>::new();
    for record in published {
        if seen.insert(record.id) {
            let order: OrderCreated = serde_json::from_slice(&record.payload).unwrap();
            by_key.entry(order.customer).or_default().push(order.n);
        }
    }
    (by_key, published.len() - seen.len())
}

async fn assert_all_in_order(
    outbox: &Outbox<Postgres>,
    published: &[EventRecord],
    committed: usize,
) -> usize {
    let (by_key, duplicates) = first_publications(published);
    assert_eq!(
        by_key.values().map(Vec::len).sum::<usize>(),
        committed,
        "every committed event, and no other"
    );
    for (key, values) in &by_key {
        let value: i64 = sqlx::query_scalar("select value from aggregate where key = $1::bigint")
            .bind(key.parse::<i64>().unwrap())
            .fetch_one(outbox.pool())
            .await
            .unwrap();
        assert_eq!(*values, (1..=value).collect::<Vec<_>>(), "the events of key {key}, in order");
    }
    duplicates
}

async fn a_living_relay_publishes_everything_once_and_in_order(server: &str) {
    let seed = seed();
    let outbox = new_outbox(server).await;
    let kafka = MemoryPublisher::new();
    let relay = Relay::new(outbox.clone(), kafka.clone())
        .batch_per_lane(7, 1 << 20)
        .poll_interval(Duration::from_millis(20));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    let committed = run_writers(&outbox, seed).await;
    drop(stop);
    relay.await.unwrap().unwrap();
    Relay::new(outbox.clone(), kafka.clone()).drain().await.unwrap();
    let duplicates = assert_all_in_order(&outbox, &kafka.published(), committed).await;
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
                    let relay = Relay::new(outbox.clone(), kafka.clone())
                        .batch_per_lane(5, 1 << 20)
                        .lease(Duration::from_millis(30))
                        .poll_interval(Duration::from_millis(5));
                    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
                    relays.push((stop, tokio::spawn(relay.run(async { _ = stopped.await }))));
                }
                random.dawdle(60).await;
                if random.chance(50) {
                    let (stop, relay) = relays.swap_remove(random.below(relays.len() as u64) as usize);
                    if random.chance(30) {
                        drop(stop);
                        relay.await.unwrap().unwrap();
                    } else {
                        relay.abort();
                        let _ = relay.await;
                        kills += 1;
                    }
                }
                reclaimed +=
                    outbox.reclaim(Duration::ZERO).await.expect("no conflict that it does not wait out");
            }
            for (_, relay) in relays {
                relay.abort();
                let _ = relay.await;
            }
            (kills, reclaimed)
        }
    });
    let committed = run_writers(&outbox, seed).await;
    done.store(true, Ordering::SeqCst);
    let (kills, reclaimed) = killer.await.unwrap();
    // The lanes of the last one killed are free when its lease has run out.
    support::within_a_minute(async {
        while let Err(error) = Relay::new(outbox.clone(), kafka.clone()).drain().await {
            assert_eq!(error.kind(), outbox::ErrorKind::LeaseLost, "{error}");
        }
    })
    .await;
    let duplicates = assert_all_in_order(&outbox, &kafka.published(), committed).await;
    println!(
        "{committed} events committed, {kills} relays killed, {reclaimed} events reclaimed, {duplicates} published again"
    );
}
