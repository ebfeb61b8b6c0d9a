//! Relays over a real database, and a broker in memory that loses answers. The tests on real
//! brokers are in `tests/it/exactly_once.rs`.

mod broker;
mod restored;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, Sqlite};
use uuid::Uuid;

use super::ExactlyOnce;
use crate::outbox::Outbox;
use crate::record::Lane;
use crate::relay::RelayBuilder;
use crate::store::OutboxDatabase;
use crate::store::groups::ExactlyOnceStore;
use broker::{Broker, Faults};

const KEYS: u64 = 12;

/// A generator of numbers that a seed replays.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn seed() -> u64 {
    let seed = std::env::var("OUTBOX_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| Uuid::new_v5(&Uuid::now_v7(), b"seed").as_u64_pair().0);
    println!("OUTBOX_SEED={seed}");
    seed
}

/// A database with a table of the business: how many events each key has.
trait Tested: OutboxDatabase<LaneStore: ExactlyOnceStore> {
    /// A new one, and what keeps it.
    async fn outbox() -> (Outbox<Self>, Option<tempfile::TempDir>);

    async fn drop_outbox(outbox: Outbox<Self>);

    /// An event of a key, with the next number of that key.
    async fn write(outbox: &Outbox<Self>, random: &mut Random);

    /// The values of the events that are committed, by key.
    async fn committed(outbox: &Outbox<Self>) -> BTreeMap<String, Vec<i64>>;
}

fn fill<DB: OutboxDatabase>(outbox: &Outbox<DB>, statement: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(outbox.core().names.fill(statement))
}

/// Stands for the events without a key, which have no order.
const WITHOUT_KEY: &str = "key-99";
const ALL: &str = "select key, value from {aggregate} where value > 0";

fn any_key(random: &mut Random) -> String {
    match random.below(KEYS + 2) {
        n if n < KEYS => format!("key-{n}"),
        _ => WITHOUT_KEY.to_owned(),
    }
}

fn all(rows: Vec<(String, i64)>) -> BTreeMap<String, Vec<i64>> {
    rows.into_iter().map(|(key, value)| (key, (1..=value).collect())).collect()
}

impl Tested for Postgres {
    async fn outbox() -> (Outbox<Self>, Option<tempfile::TempDir>) {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool: PgPool = PgPoolOptions::new().max_connections(6).connect(&url).await.unwrap();
        let schema = format!("once_{}", Uuid::now_v7().simple());
        let outbox = Outbox::builder(pool).schema(schema).build().unwrap();
        outbox.migrate().await.unwrap();
        let aggregate = "create table {aggregate} (key text primary key, value bigint not null)";
        outbox.pool().execute(fill(&outbox, aggregate)).await.unwrap();
        let keys = "insert into {aggregate} select 'key-' || n, 0 from generate_series(0, 99) n";
        outbox.pool().execute(fill(&outbox, keys)).await.unwrap();
        (outbox, None)
    }

    async fn drop_outbox(outbox: Outbox<Self>) {
        outbox.pool().execute(fill(&outbox, "drop schema {schema} cascade")).await.unwrap();
    }

    async fn write(outbox: &Outbox<Self>, random: &mut Random) {
        let key = any_key(random);
        let begin = "begin isolation level read committed";
        let mut tx = outbox.pool().begin_with(begin).await.unwrap();
        if random.chance(30) {
            tx.execute("select pg_current_xact_id()").await.unwrap();
            tokio::task::yield_now().await;
        }
        let next = "update {aggregate} set value = value + 1 where key = $1 returning value";
        let next = sqlx::query_scalar(fill(outbox, next)).bind(&key);
        let value: i64 = next.fetch_one(&mut *tx).await.unwrap();
        let (id, key) = (Uuid::now_v7(), Some(key.as_bytes()).filter(|_| key != WITHOUT_KEY));
        let insert = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at)
values ($1, $2, 'orders', $3, 'order.placed', 1, 'text/plain', $4::json, $5, now())";
        sqlx::query(fill(outbox, insert))
            .bind(Lane::of(key, id).number())
            .bind(id)
            .bind(key)
            .bind("{}")
            .bind(value.to_string().as_bytes())
            .execute(&mut *tx)
            .await
            .unwrap();
        if random.chance(10) {
            tx.rollback().await.unwrap()
        } else {
            tx.commit().await.unwrap()
        }
        outbox.ring();
    }

    async fn committed(outbox: &Outbox<Self>) -> BTreeMap<String, Vec<i64>> {
        all(sqlx::query_as(fill(outbox, ALL)).fetch_all(outbox.pool()).await.unwrap())
    }
}

impl Tested for Sqlite {
    async fn outbox() -> (Outbox<Self>, Option<tempfile::TempDir>) {
        let directory = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new()
            .filename(directory.path().join("outbox.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(300));
        let pool = SqlitePoolOptions::new().max_connections(6).connect_with(file).await.unwrap();
        let outbox = Outbox::new(pool);
        outbox.migrate().await.unwrap();
        let aggregate = "create table {aggregate} (key text primary key, value integer not null)";
        outbox.pool().execute(fill(&outbox, aggregate)).await.unwrap();
        for n in 0..100 {
            let key = sqlx::query(fill(&outbox, "insert into {aggregate} values ($1, 0)"));
            key.bind(format!("key-{n}")).execute(outbox.pool()).await.unwrap();
        }
        (outbox, Some(directory))
    }

    async fn drop_outbox(outbox: Outbox<Self>) {
        outbox.pool().close().await;
    }

    async fn write(outbox: &Outbox<Self>, random: &mut Random) {
        let key = any_key(random);
        let mut tx = outbox.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
        let next = "update {aggregate} set value = value + 1 where key = $1 returning value";
        let next = sqlx::query_scalar(fill(outbox, next)).bind(&key);
        let value: i64 = next.fetch_one(&mut *tx).await.unwrap();
        let (id, key) = (Uuid::now_v7(), Some(key.as_bytes()).filter(|_| key != WITHOUT_KEY));
        let insert = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at)
values ($1, $2, 'orders', $3, 'order.placed', 1, 'text/plain', $4, $5, 0)";
        sqlx::query(fill(outbox, insert))
            .bind(Lane::of(key, id).number())
            .bind(id)
            .bind(key)
            .bind("{}")
            .bind(value.to_string().into_bytes())
            .execute(&mut *tx)
            .await
            .unwrap();
        if random.chance(10) {
            tx.rollback().await.unwrap()
        } else {
            tx.commit().await.unwrap()
        }
        outbox.ring();
    }

    async fn committed(outbox: &Outbox<Self>) -> BTreeMap<String, Vec<i64>> {
        all(sqlx::query_as(fill(outbox, ALL)).fetch_all(outbox.pool()).await.unwrap())
    }
}

/// A new outbox, and leases that are short, and yet long enough for this machine: to make the outbox
/// took up to a hundred commits, and a group is taken over within ten.
async fn new_outbox<DB: Tested>() -> (Outbox<DB>, Option<tempfile::TempDir>, Duration) {
    let begun = Instant::now();
    let (outbox, directory) = DB::outbox().await;
    let lease = begun.elapsed().clamp(Duration::from_millis(400), Duration::from_secs(60));
    (outbox, directory, lease)
}

/// A relay in the background: aborted, it dies.
fn relay<DB: Tested>(
    outbox: &Outbox<DB>,
    broker: &Broker,
    groups: u16,
    lease: Duration,
) -> tokio::task::JoinHandle<()> {
    let relay = RelayBuilder::new(outbox.clone(), broker.publisher())
        .lease(lease)
        .batch_events(5)
        .park_after(2)
        .retry_parked(Duration::from_millis(50))
        .build_exactly_once(ExactlyOnce::new().groups(groups).commit_interval(Duration::ZERO))
        .unwrap();
    tokio::spawn(async move { relay.run(std::future::pending()).await.unwrap() })
}

macro_rules! on_each_database {
    ($promise:ident) => {
        mod postgres {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise::<sqlx::Postgres>().await;
            }
        }
        mod sqlite {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise::<sqlx::Sqlite>().await;
            }
        }
    };
}

on_each_database! {
    each_event_is_published_once_and_in_order_whatever_dies_and_whichever_answer_is_lost
}

async fn each_event_is_published_once_and_in_order_whatever_dies_and_whichever_answer_is_lost<
    DB: Tested,
>() {
    let seed = seed();
    let mut random = Random(seed);
    let (mut lost, mut refused) = (0, 0);
    for groups in [1, 2, 4] {
        let (outbox, _directory, lease) = new_outbox::<DB>().await;
        let broker = Broker::new(Faults { seed: random.below(1 << 30), lost: 15, refused: 10 });
        let mut relays: Vec<_> = (0..2).map(|_| relay(&outbox, &broker, groups, lease)).collect();
        for n in 0..400 {
            DB::write(&outbox, &mut random).await;
            if n % 40 == 39 {
                // Without a word: what it has open stays open until it is fenced.
                let dead = random.below(2) as usize;
                relays[dead].abort();
                relays[dead] = relay(&outbox, &broker, groups, lease);
            }
        }
        let expected = DB::committed(&outbox).await;
        let all: usize = expected.values().map(Vec::len).sum();
        broker.has_more_than(all / 2).await;
        broker.has_no_more_faults();
        broker.has_more_than(all - 1).await;
        for relay in relays {
            relay.abort();
        }
        let mut published = broker.by_key(WITHOUT_KEY);
        published.entry(WITHOUT_KEY.to_owned()).or_default().sort_unstable();
        assert_eq!(published, expected, "{groups} groups, OUTBOX_SEED={seed}");
        lost += broker.lost_answers();
        refused += broker.refusals();
        DB::drop_outbox(outbox).await;
    }
    assert!(lost > 0 && refused > 0, "{lost} answers were lost, {refused} events refused");
}
