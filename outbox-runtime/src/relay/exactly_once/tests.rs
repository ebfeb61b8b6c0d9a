//! Relays over a real Postgres, and a broker in memory that loses answers. The tests on real
//! brokers are in `tests/it/exactly_once.rs`.

mod broker;

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres};
use uuid::Uuid;

use super::ExactlyOnce;
use crate::outbox::Outbox;
use crate::record::Lane;
use crate::relay::RelayBuilder;
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

async fn outbox() -> Outbox<Postgres> {
    let url = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
    let pool: PgPool = PgPoolOptions::new().max_connections(6).connect(&url).await.unwrap();
    let schema = format!("once_{}", Uuid::now_v7().simple());
    let outbox = Outbox::builder(pool).schema(schema).build().unwrap();
    outbox.migrate().await.unwrap();
    let aggregate =
        fill(&outbox, "create table {aggregate} (key text primary key, value bigint not null)");
    outbox.pool().execute(aggregate).await.unwrap();
    let keys = fill(
        &outbox,
        "insert into {aggregate} select 'key-' || n, 0 from generate_series(0, 99) n",
    );
    outbox.pool().execute(keys).await.unwrap();
    outbox
}

fn fill(outbox: &Outbox<Postgres>, statement: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(outbox.core().names.fill(statement))
}

async fn drop_schema(outbox: &Outbox<Postgres>) {
    outbox.pool().execute(fill(outbox, "drop schema {schema} cascade")).await.unwrap();
}

/// Stands for the events without a key, which have no order.
const WITHOUT_KEY: &str = "key-99";

/// An event of a key, with the next number of that key.
async fn write(outbox: &Outbox<Postgres>, random: &mut Random) {
    let key = match random.below(KEYS + 2) {
        n if n < KEYS => format!("key-{n}"),
        _ => WITHOUT_KEY.to_owned(),
    };
    let mut tx = outbox.pool().begin_with("begin isolation level read committed").await.unwrap();
    if random.chance(30) {
        tx.execute("select pg_current_xact_id()").await.unwrap();
        tokio::task::yield_now().await;
    }
    let next =
        fill(outbox, "update {aggregate} set value = value + 1 where key = $1 returning value");
    let value: i64 = sqlx::query_scalar(next).bind(&key).fetch_one(&mut *tx).await.unwrap();
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

/// A relay in the background: aborted, it dies.
fn relay(outbox: &Outbox<Postgres>, broker: &Broker, groups: u16) -> tokio::task::JoinHandle<()> {
    let relay = RelayBuilder::new(outbox.clone(), broker.publisher())
        .lease(Duration::from_millis(400))
        .batch_events(5)
        .park_after(2)
        .retry_parked(Duration::from_millis(50))
        .build_exactly_once(ExactlyOnce::new().groups(groups).commit_interval(Duration::ZERO))
        .unwrap();
    tokio::spawn(async move { relay.run(std::future::pending()).await.unwrap() })
}

/// The values of the events that are committed, by key.
async fn committed(outbox: &Outbox<Postgres>) -> BTreeMap<String, Vec<i64>> {
    let all = fill(outbox, "select key, value from {aggregate} where value > 0");
    let rows: Vec<(String, i64)> = sqlx::query_as(all).fetch_all(outbox.pool()).await.unwrap();
    rows.into_iter().map(|(key, value)| (key, (1..=value).collect())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_published_once_and_in_order_whatever_dies_and_whichever_answer_is_lost() {
    let seed = seed();
    let mut random = Random(seed);
    let (mut lost, mut refused) = (0, 0);
    for groups in [1, 2, 4] {
        let outbox = outbox().await;
        let broker = Broker::new(Faults { seed: random.below(1 << 30), lost: 15, refused: 10 });
        let mut relays: Vec<_> = (0..2).map(|_| relay(&outbox, &broker, groups)).collect();
        for n in 0..400 {
            write(&outbox, &mut random).await;
            if n % 40 == 39 {
                // Without a word: what it has open stays open until it is fenced.
                let dead = random.below(2) as usize;
                relays[dead].abort();
                relays[dead] = relay(&outbox, &broker, groups);
            }
        }
        let expected = committed(&outbox).await;
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
        drop_schema(&outbox).await;
    }
    assert!(lost > 0 && refused > 0, "{lost} answers were lost, {refused} events refused");
}
