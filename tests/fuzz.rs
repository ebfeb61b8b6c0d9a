//! Everything at once, on real servers: writers that commit late, roll back and prepare, events of
//! all sizes, of which the topic refuses the larger ones until its limit is raised in the end; a
//! transaction and a snapshot held open all the while; a database with another default isolation;
//! two relay processes that are killed, suspended past their leases, cut off from the database, or
//! connected to one that goes silent; a database whose clock is set forward and back; a broker that
//! crashes; a ring of leaves that is reclaimed. What is on the topic is read independently: nothing
//! is lost, and the order of each key stands.
//!
//! `cargo xtask fuzz --pg 14..18 --minutes 10` runs it for longer and on every version of Postgres.

mod support;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use outbox::Outbox;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgPool};
use support::OrderCreated;
use support::processes::Process;
use support::proxy::{Proxy, Way};
use support::random::{Random, seed};
use support::topics::{create_topic_of, raise_limit, read_committed};
use support::wait::{try_within, within};
use support::writers::{self, LONG_KEY, WRITERS, assert_all_in_order};
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

const EVENTS: usize = 12_000;
const MISHAPS: usize = 24;
/// A bound only: a silent connection is noticed after half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// Number of mishaps for which a relay is suspended: longer than its lease.
const PAUSE: usize = 6;

fn versions() -> Vec<PgVersion> {
    let asked = std::env::var("OUTBOX_FUZZ_PG").unwrap_or_else(|_| "15,18".to_owned());
    asked
        .split(',')
        .map(|number| {
            let known = PgVersion::ALL.into_iter().find(|version| version.to_string() == number);
            known.unwrap_or_else(|| {
                panic!("OUTBOX_FUZZ_PG={asked}: `{number}` is none of 14, 15, 16, 17, 18")
            })
        })
        .collect()
}

fn minutes() -> u64 {
    std::env::var("OUTBOX_FUZZ_MINUTES")
        .map_or(0, |minutes| minutes.parse().expect("a number of minutes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_the_order_stands_whatever_happens_to_relays_and_broker() {
    let end = Instant::now() + Duration::from_secs(60 * minutes());
    let mut seed = seed();
    loop {
        for version in versions() {
            round(version, Delivery::AtLeastOnce, seed).await;
        }
        // More than one of these only if there is time.
        let versions = versions().into_iter().take(if minutes() == 0 { 1 } else { usize::MAX });
        for version in versions {
            round(version, Delivery::ExactlyOnce, seed).await;
        }
        if Instant::now() >= end {
            return;
        }
        seed = Random::new(seed, 0).next();
        println!("OUTBOX_SEED={seed}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    /// How many events, and how many mishaps. After each kill, a relay takes its groups over, which
    /// takes time.
    fn amounts(self) -> (usize, usize) {
        if self == Self::ExactlyOnce && minutes() == 0 { (3_000, 8) } else { (EVENTS, MISHAPS) }
    }

    /// The example that has such a relay.
    fn example(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "orders",
            Self::ExactlyOnce => "relay_exactly_once",
        }
    }
}

/// What has been done to the system.
#[derive(Debug, Default)]
struct Mishaps {
    kills: usize,
    pauses: usize,
    crashes: usize,
    cuts: usize,
    silences: usize,
    clock_steps: usize,
}

struct Servers {
    postgres: Postgres,
    kafka: Kafka,
    /// Between the relays and Postgres.
    proxy: Proxy,
    relays: [Process; 2],
    /// A relay that is suspended, and until which mishap.
    paused: Option<(usize, usize)>,
}

impl Servers {
    fn mishap(&mut self, number: usize, random: &mut Random, done: &mut Mishaps) {
        let chosen = match self.paused {
            Some((asleep, _)) => 1 - asleep,
            None => random.below(2) as usize,
        };
        match random.below(100) {
            0..10 => {
                tokio::task::block_in_place(|| {
                    self.kafka.kill();
                    self.kafka.restart()
                })
                .unwrap();
                done.crashes += 1;
            }
            10..20 => {
                self.proxy.cut();
                done.cuts += 1;
            }
            20..30 => {
                self.proxy.silence_open(Way::Both);
                done.silences += 1;
            }
            30..45 => {
                self.postgres.set_clock(random.below(7200) as i64 - 3600).unwrap();
                done.clock_steps += 1;
            }
            45..65 if self.paused.is_none() => {
                self.relays[chosen].keep_alive();
                self.relays[chosen].signal("-STOP");
                self.paused = Some((chosen, number + PAUSE));
                done.pauses += 1;
            }
            _ => {
                self.relays[chosen].kill();
                done.kills += 1;
            }
        }
        if let Some((asleep, _)) = self.paused.take_if(|(_, until)| *until <= number) {
            self.relays[asleep].signal("-CONT");
        }
    }

    fn wake(&mut self) {
        // As the server's kernel does: its own timeouts end at a time of a clock that may have been
        // set back.
        self.proxy.cut_silent();
        if let Some((asleep, _)) = self.paused.take() {
            self.relays[asleep].signal("-CONT");
        }
    }

    fn keep_relays_alive(&mut self) {
        self.relays.iter_mut().for_each(Process::keep_alive);
    }
}

/// Only the relays have the database's defaults: the writers say that they wait for each other's
/// locks.
async fn pool_of_writers(url: &str, isolation: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(WRITERS as u32 + 4);
    let options = options.options([("default_transaction_isolation", "read committed")]);
    let pool = pool.connect_with(options).await.unwrap();
    let set = format!("alter database postgres set default_transaction_isolation = '{isolation}'");
    pool.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    pool
}

async fn round(version: PgVersion, delivery: Delivery, seed: u64) {
    let mut random = Random::new(seed, WRITERS);
    let (events, mishaps) = delivery.amounts();
    let scratch = ScratchDir::new("fuzz").unwrap();
    let options = PgOptions { clock: true, ..PgOptions::default() };
    let postgres = Postgres::start(version, &scratch.path().join("postgres"), options).unwrap();
    let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers().to_owned();
    create_topic_of(&brokers, "order-events", 6, &[("max.message.bytes", "100000")]).await;
    let isolation = ["read committed", "repeatable read", "serializable"][random.below(3) as usize];
    let outbox = writers::new_outbox(pool_of_writers(postgres.url(), isolation).await).await;
    let (proxy, through) = Proxy::of_postgres(postgres.url()).await;
    let environment = [("DATABASE_URL", through.as_str()), ("KAFKA_BROKERS", &brokers)];
    let relays = ["relay-1", "relay-2"].map(|name| {
        Process::start(name, delivery.example(), &["relay"], &environment, scratch.path())
    });
    let mut servers = Servers { postgres, kafka, proxy, relays, paused: None };

    // No row version that is newer than this can be removed while it lasts.
    let mut snapshot =
        outbox.pool().begin_with("begin isolation level repeatable read").await.unwrap();
    snapshot.execute("select count(*) from aggregate").await.unwrap();
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
        async move { writers::run(&outbox, seed, events, &committed).await }
    });
    let mut done = Mishaps::default();
    for number in 0..mishaps {
        let due = (number + 1) * events / (mishaps + 1);
        within(PATIENCE, "enough events are committed", || {
            servers.keep_relays_alive();
            let is_due = committed.load(Ordering::SeqCst) >= due || writing.is_finished();
            ready(is_due.then_some(()))
        })
        .await;
        servers.mishap(number, &mut random, &mut done);
    }
    servers.wake();
    let committed = writing.await.unwrap() + 1;
    long.commit().await.unwrap();
    drop(snapshot);
    let parked = until_published(&outbox, &mut servers, &brokers).await;
    drop(servers.relays);

    let arrivals = read_committed(&brokers, &["order-events"]).await;
    let again = assert_all_in_order(&outbox, arrivals, committed).await;
    if delivery == Delivery::ExactlyOnce {
        assert_eq!(again, 0, "published again, although delivered exactly once");
    }
    println!(
        "Postgres {version}, {isolation}, {delivery:?}: {committed} events committed, lost 0, order violations 0, {again} published \
         again, {parked} parked in the end and then released; {done:?}"
    );
}

/// All but the keys of events that are too large is published, and once the topic takes those, they
/// are as well. Returns how many events were parked.
async fn until_published(
    outbox: &Outbox<sqlx::Postgres>,
    servers: &mut Servers,
    brokers: &str,
) -> u64 {
    let mut wait = async |all: bool| {
        let published = try_within(PATIENCE, || {
            servers.keep_relays_alive();
            async {
                // A clock that has just been set forward may end its transaction as idle too long.
                let status = outbox.status_within(PATIENCE).await.ok()?;
                (status.backlog == 0 && (!all || status.parked == 0)).then_some(status.parked)
            }
        });
        match published.await {
            Some(parked) => parked,
            None => panic!("not all is published in the end: {}", what_is_left(outbox).await),
        }
    };
    let parked = wait(false).await;
    raise_limit(brokers, "order-events").await;
    outbox.release_all_parked().await.unwrap();
    wait(true).await;
    parked
}

async fn what_is_left(outbox: &Outbox<sqlx::Postgres>) -> String {
    let sessions: Result<Vec<String>, _> = sqlx::query_scalar(
        "select concat_ws(' ', pid, state, wait_event, clock_timestamp() - state_change, pg_blocking_pids(pid), query)
         from pg_stat_activity where backend_type = 'client backend'",
    )
    .fetch_all(outbox.pool())
    .await;
    format!("{:?}; sessions of the database: {sessions:?}", outbox.status_within(PATIENCE).await)
}
