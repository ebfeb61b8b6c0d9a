//! Writers that commit late, roll back, use savepoints and prepared transactions, and draw their
//! transaction id before they wait for a lock; and what must be true of their events afterwards.
//! Those of MySQL are in `mysql_writers.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::event::EventRecord;
use outbox::{Outbox, OutboxDatabase, OutboxError};
use sqlx::{Executor, Postgres};

use super::oracle::{Arrival, Expected, assert_at_least_once};
use super::random::Random;
use super::{OrderCreated, migrated};

pub const WRITERS: u64 = 24;
const KEYS: u64 = 20;
/// The key of a transaction that a test may hold open.
pub const LONG_KEY: i64 = KEYS as i64;

/// A database on which these writers write.
pub trait Written: OutboxDatabase {
    /// One business transaction: some keys, each under its lock, with an event of its new value.
    /// `id` is one of its own. Returns how many events it committed.
    fn write(
        outbox: &Outbox<Self>,
        random: &mut Random,
        id: &str,
    ) -> impl Future<Output = Result<usize, Failed>> + Send;

    /// How many events of each key are committed.
    fn committed_events(outbox: &Outbox<Self>) -> impl Future<Output = Expected>;
}

/// Why a business transaction has failed.
#[derive(Debug)]
pub struct Failed {
    pub why: String,
    /// Number of its events, if it may have been committed all the same.
    pub unsure: usize,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self { why: error.to_string(), unsure: 0 }
    }
}

impl From<OutboxError> for Failed {
    fn from(error: OutboxError) -> Self {
        Self { why: error.to_string(), unsure: 0 }
    }
}

/// Keys in their order, so that there are no deadlocks.
pub fn some_keys(random: &mut Random) -> Vec<i64> {
    let mut keys: Vec<i64> = (0..=random.below(3)).map(|_| random.below(KEYS) as i64).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The event of a key's new value. Few are large, in the header and in the payload: up to what an
/// event may have.
pub fn order(random: &mut Random, key: i64, value: i64) -> OrderCreated {
    let mut order = OrderCreated::new(key.to_string(), value);
    if random.below(200) == 0 {
        order.tenant = Some(random.text(470_000));
    }
    order
}

async fn write(outbox: &Outbox<Postgres>, random: &mut Random, id: &str) -> Result<usize, Failed> {
    if random.chance(1) {
        // The rest of the block is used up: over to the next leaf of the ring, and around it more
        // than once.
        super::next_leaf(outbox).await;
    }
    // It locks and then reads, which is its own business, and is no conflict.
    let mut open = outbox.pool().begin_with("begin isolation level read committed").await?;
    if random.chance(50) {
        open.execute("select pg_current_xact_id()").await?; // an old transaction id, a young number
    }
    if random.chance(30) {
        random.dawdle(20).await;
    }
    let mut events = 0;
    for key in some_keys(random) {
        let in_savepoint = random.chance(30);
        if in_savepoint {
            open.execute("savepoint s").await?;
        }
        let value: i64 = sqlx::query_scalar(
            "update aggregate set value = value + 1 where key = $1 returning value",
        )
        .bind(key)
        .fetch_one(&mut *open)
        .await?;
        let mut tx = outbox.attach(&mut open).await?;
        tx.emit(order(random, key, value))?;
        tx.commit().await?;
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

impl Written for Postgres {
    fn write(
        outbox: &Outbox<Self>,
        random: &mut Random,
        id: &str,
    ) -> impl Future<Output = Result<usize, Failed>> + Send {
        write(outbox, random, id)
    }

    async fn committed_events(outbox: &Outbox<Self>) -> Expected {
        let values: Vec<(String, i64)> = sqlx::query_as("select key::text, value from aggregate")
            .fetch_all(outbox.pool())
            .await
            .unwrap();
        values.into_iter().collect()
    }
}

/// Runs writers until `events` events are `committed`. Returns how many there are then.
pub async fn run<DB: Written>(
    outbox: &Outbox<DB>,
    seed: u64,
    events: usize,
    committed: &Arc<AtomicUsize>,
) -> usize {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (outbox, committed) = (outbox.clone(), Arc::clone(committed));
        writers.spawn(async move {
            let mut random = Random::new(seed, writer);
            let mut n = 0;
            while committed.load(Ordering::SeqCst) < events {
                n += 1;
                let id = format!("fuzz_{seed}_{writer}_{n}");
                let written = DB::write(&outbox, &mut random, &id).await.expect("no writer fails");
                committed.fetch_add(written, Ordering::SeqCst);
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    committed.load(Ordering::SeqCst)
}

/// An outbox, with the table of the aggregates whose changes are the events.
pub async fn new_outbox(pool: sqlx::PgPool) -> Outbox<Postgres> {
    let outbox = migrated(Outbox::new(pool)).await;
    outbox
        .pool()
        .execute("create table aggregate (key bigint primary key, value bigint not null)")
        .await
        .unwrap();
    sqlx::query("insert into aggregate select g, 0 from generate_series(0, $1) g")
        .bind(LONG_KEY)
        .execute(outbox.pool())
        .await
        .unwrap();
    outbox
}

pub fn arrivals(published: &[EventRecord]) -> Vec<Arrival> {
    let arrivals = published.iter().enumerate();
    arrivals.map(|(index, record)| Arrival::of_record(index, record)).collect()
}

/// All that was committed arrived, in the order of its key, and nothing else. Returns how many
/// arrived again.
pub async fn assert_all_in_order<DB: Written>(
    outbox: &Outbox<DB>,
    arrivals: Vec<Arrival>,
    committed: usize,
) -> usize {
    let expected = DB::committed_events(outbox).await;
    let values: i64 = expected.values().sum();
    assert_eq!(usize::try_from(values).unwrap(), committed, "what the writers counted");
    assert_at_least_once(&arrivals, &expected)
}
