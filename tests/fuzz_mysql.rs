//! The fuzz of `fuzz.rs` on MariaDB and MySQL. Writers commit late, roll back and use savepoints, at
//! both isolation levels, with events of all sizes, of which the topic refuses the larger ones until
//! its limit is raised in the end. A transaction has inserted its event before all others, and
//! commits it last. For most of the time a snapshot keeps the server from removing what relays
//! delete, and much is deleted. Two relay processes are killed, suspended past their leases, cut off
//! from the database, or connected to one that goes silent; database and broker crash. What is on
//! the topic is read independently: nothing is lost, the order of each key stands, and the outbox is
//! empty.
//!
//! `cargo xtask fuzz --mysql mariadb-10.11,mysql-8.0 --minutes 10` runs it for longer, on these
//! servers at once.

mod support;

use std::collections::BTreeSet;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outbox::Outbox;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{Executor, MySql, MySqlPool, Transaction};
use support::mysql_writers::{self, Load, assert_all_deleted, insert_next};
use support::oracle::{Arrival, assert_at_least_once};
use support::processes::Process;
use support::proxy::{Proxy, Way};
use support::random::{Random, seed};
use support::relays::{kafka_publisher, new_relay};
use support::topics::{create_topic_of, raise_limit, read_committed};
use support::wait::{try_within, within};
use support::writers::{Failed, LONG_KEY, WRITERS, Written as _};
use tokio::spawn;
use tokio::task::block_in_place;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{self, Kafka, KafkaOptions, MySqlOptions, MySqlServer};

/// Of a round that is one of many, and of a single one.
const EVENTS: (usize, usize) = (12_000, 2_500);
const MISHAPS: (usize, usize) = (24, 8);
/// A bound only: a silent connection is noticed after half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// Number of mishaps for which a relay is suspended: longer than its lease.
const PAUSE: usize = 4;
const LEASE: Duration = Duration::from_secs(1);

const TEST: &str =
    "nothing_is_lost_and_the_order_stands_whatever_happens_to_relays_database_and_broker";
/// In the process of a relay: the URL of its database. OUTBOX_SEED is that of the round.
const RELAY: &str = "OUTBOX_TEST_RELAY";

fn minutes() -> u64 {
    std::env::var("OUTBOX_FUZZ_MINUTES")
        .map_or(0, |minutes| minutes.parse().expect("a number of minutes"))
}

fn of_length<T>((long, short): (T, T)) -> T {
    if minutes() == 0 { short } else { long }
}

/// Those that are asked for. Otherwise one, which follows from the seed.
fn asked(seed: u64) -> Vec<MySqlServer> {
    let Ok(asked) = std::env::var("OUTBOX_FUZZ_MYSQL") else {
        let all = MySqlServer::of_this_machine();
        return vec![all[Random::new(seed, WRITERS + 1).below(all.len() as u64) as usize]];
    };
    asked.split(',').map(|name| name.parse().expect("OUTBOX_FUZZ_MYSQL names servers")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_the_order_stands_whatever_happens_to_relays_database_and_broker() {
    if let Ok(url) = std::env::var(RELAY) {
        return relay(&url).await;
    }
    let end = Instant::now() + Duration::from_secs(60 * minutes());
    let seed = seed();
    let at_once = asked(seed).into_iter().map(|server| (server, spawn(rounds(server, seed, end))));
    let mut failed = Vec::new();
    // The others go on when one fails.
    for (server, rounds) in at_once.collect::<Vec<_>>() {
        failed.extend(rounds.await.err().map(|error| format!("{server}: {error}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn rounds(server: MySqlServer, mut seed: u64, end: Instant) {
    loop {
        round(server, seed).await;
        if Instant::now() >= end {
            return;
        }
        seed = Random::new(seed, 0).next();
        println!("OUTBOX_SEED={seed} for {server}");
    }
}

/// How the relays of a round are set up.
struct Settings {
    retains: bool,
    batch_events: u32,
}

impl Settings {
    fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, WRITERS + 2);
        let retains = random.chance(40);
        Self { retains, batch_events: [20, 100, 750][random.below(3) as usize] }
    }
}

async fn relay(url: &str) {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let settings = Settings::of(seed());
    let pool = MySqlPoolOptions::new().max_connections(2).connect_lazy(url).unwrap();
    let mut relay = new_relay(&Outbox::new(pool), kafka_publisher())
        .lease(LEASE)
        .batch_events(settings.batch_events)
        .retry_parked(Duration::from_secs(2));
    if settings.retains {
        relay = relay.retention(Duration::from_secs(3_600));
    }
    relay.build().unwrap().run(pending()).await.unwrap();
}

/// What has been done to the system.
#[derive(Debug, Default)]
struct Mishaps {
    kills: usize,
    pauses: usize,
    kafka_crashes: usize,
    database_crashes: usize,
    cuts: usize,
    silences: usize,
}

struct Servers {
    database: servers::MySql,
    kafka: Kafka,
    /// Between the relays and the database.
    proxy: Proxy,
    relays: [Process; 2],
    /// A relay that is suspended, and until which mishap.
    paused: Option<(usize, usize)>,
}

impl Servers {
    fn mishap(&mut self, number: usize, random: &mut Random, load: &Load, done: &mut Mishaps) {
        let chosen = match self.paused {
            Some((asleep, _)) => 1 - asleep,
            None => random.below(2) as usize,
        };
        match random.below(100) {
            0..10 => {
                block_in_place(|| {
                    self.kafka.kill();
                    self.kafka.restart()
                })
                .unwrap();
                done.kafka_crashes += 1;
            }
            10..25 => {
                block_in_place(|| {
                    load.through_a_crash(|| {
                        self.database.kill();
                        self.database.restart().unwrap();
                    });
                });
                done.database_crashes += 1;
            }
            25..35 => {
                self.proxy.cut();
                done.cuts += 1;
            }
            35..45 => {
                self.proxy.silence_open(Way::Both);
                done.silences += 1;
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
        self.proxy.cut_silent();
        if let Some((asleep, _)) = self.paused.take() {
            self.relays[asleep].signal("-CONT");
        }
    }

    fn keep_relays_alive(&mut self) {
        self.relays.iter_mut().for_each(Process::keep_alive);
    }
}

/// Transactions that are older than all others, and begun again if the server has crashed.
struct Old {
    outbox: Outbox<MySql>,
    /// What it could see stays in the table, however long it is deleted.
    snapshot: Option<Transaction<'static, MySql>>,
    /// Its event has a lower number than all that relays read.
    late: Transaction<'static, MySql>,
}

impl Old {
    async fn begin(outbox: &Outbox<MySql>) -> Result<Self, Failed> {
        let snapshot = "start transaction with consistent snapshot, read only";
        let snapshot = Some(outbox.pool().begin_with(snapshot).await?);
        delete_many(outbox.pool()).await?;
        let mut late = outbox.pool().begin().await?;
        insert_next(outbox, &mut late, &mut Random::new(0, 0), LONG_KEY).await?;
        Ok(Self { outbox: outbox.clone(), snapshot, late })
    }

    async fn begin_again_if_gone(&mut self) {
        if self.late.execute("select 1").await.is_err() {
            let held = self.snapshot.is_some();
            *self = Self::begin(&self.outbox).await.unwrap();
            self.snapshot = self.snapshot.take().filter(|_| held);
        }
    }
}

/// As many rows of some lanes as an hour leaves behind in which nothing could be removed: to read
/// such a lane from its start takes a while.
async fn delete_many(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let begin = "set transaction isolation level read committed; start transaction";
    let mut tx = pool.begin_with(begin).await?;
    tx.execute(
        "insert into outbox_event (lane, id, topic, name, version, content_type, headers, occurred_at)
         select l.lane, repeat('0', 16), 'deleted', 'n', 1, 'c', '{}', 0
         from outbox_lane l join outbox_slot a join outbox_slot b where l.lane % 3 = 0 and b.slot < 12",
    )
    .await?;
    let (first, last): (i64, i64) =
        sqlx::query_as("select min(seq), max(seq) from outbox_event where topic = 'deleted'")
            .fetch_one(&mut *tx)
            .await?;
    sqlx::query(
        "delete from outbox_event where lane % 3 = 0 and seq between ? and ? and topic = 'deleted'",
    )
    .bind(first)
    .bind(last)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

async fn round(server: MySqlServer, seed: u64) {
    let mut random = Random::new(seed, WRITERS);
    let (events, mishaps) = (of_length(EVENTS), of_length(MISHAPS));
    let scratch = ScratchDir::new("fuzz").unwrap();
    let options = MySqlOptions { server, fsync: true, ..MySqlOptions::default() };
    let database = servers::MySql::start(&scratch.path().join("mysql"), options).unwrap();
    let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers().to_owned();
    create_topic_of(&brokers, "order-events", 6, &[("max.message.bytes", "100000")]).await;
    let pool = MySqlPoolOptions::new().max_connections(WRITERS as u32 + 4);
    let outbox = mysql_writers::new_outbox(pool.connect(database.url()).await.unwrap()).await;
    let mut old = Old::begin(&outbox).await.unwrap();
    let (proxy, through) = Proxy::of_mysql(database.url()).await;
    let seed_of_round = seed.to_string();
    let environment =
        [(RELAY, through.as_str()), ("OUTBOX_SEED", &seed_of_round), ("KAFKA_BROKERS", &brokers)];
    let relays = ["relay-1", "relay-2"]
        .map(|name| Process::of_test(name, TEST, &environment, scratch.path()));
    let mut servers = Servers { database, kafka, proxy, relays, paused: None };

    let load = Arc::<Load>::default();
    let writing = spawn(Arc::clone(&load).run(outbox.clone(), seed, events));
    let mut done = Mishaps::default();
    for number in 0..mishaps {
        let due = (number + 1) * events / (mishaps + 1);
        within(PATIENCE, "enough events are committed", || {
            servers.keep_relays_alive();
            let is_due = load.committed.load(Ordering::SeqCst) >= due || writing.is_finished();
            ready(is_due.then_some(()))
        })
        .await;
        servers.mishap(number, &mut random, &load, &mut done);
        if number == mishaps * 2 / 3 {
            old.snapshot = None;
        }
        old.begin_again_if_gone().await;
    }
    servers.wake();
    writing.await.unwrap();
    old.late.commit().await.unwrap();
    let parked = until_published(&outbox, &mut servers, &brokers).await;
    drop(servers.relays);

    let expected = MySql::committed_events(&outbox).await;
    let committed = usize::try_from(expected.values().sum::<i64>()).unwrap();
    let counted = load.committed.load(Ordering::SeqCst) + 1;
    let unsure = load.unsure.load(Ordering::SeqCst);
    assert!((counted..=counted + unsure).contains(&committed), "what the writers counted");
    let arrivals = read_committed(&brokers, &["order-events"]).await;
    let again = assert_at_least_once(&arrivals, &expected);
    assert_all_deleted(&outbox).await;
    let retains = Settings::of(seed).retains;
    if retains {
        assert_each_is_retained(outbox.pool(), &arrivals).await;
    }
    println!(
        "{server}: {committed} events committed, lost 0, order violations 0, {again} published again, {parked} parked in the \
         end and then released, {}; {done:?}",
        if retains { "each retained once" } else { "none retained" }
    );
}

/// All is published once the topic takes the events that were too large, too. Returns how many
/// events were parked until then.
async fn until_published(outbox: &Outbox<MySql>, servers: &mut Servers, brokers: &str) -> u64 {
    let parked = outbox.status_within(PATIENCE).await.unwrap().parked;
    raise_limit(brokers, "order-events").await;
    let published = try_within(PATIENCE, || {
        servers.keep_relays_alive();
        async {
            // What was refused just before may be parked a moment later.
            outbox.release_all_parked().await.unwrap();
            let status = outbox.status_within(PATIENCE).await.unwrap();
            (status.backlog == 0 && status.parked == 0).then_some(())
        }
    });
    if published.await.is_none() {
        panic!("not all is published in the end: {}", what_is_left(outbox).await);
    }
    parked
}

async fn what_is_left(outbox: &Outbox<MySql>) -> String {
    let sessions: Result<Vec<String>, _> = sqlx::query_scalar(
        "select cast(concat_ws(' ', id, host, command, time, state, info) as char) from information_schema.processlist",
    )
    .fetch_all(outbox.pool())
    .await;
    format!("{:?}; sessions of the database: {sessions:?}", outbox.status_within(PATIENCE).await)
}

/// There is a copy of each event that was published, and of nothing else.
async fn assert_each_is_retained(pool: &MySqlPool, arrivals: &[Arrival]) {
    let retained: Vec<Uuid> =
        sqlx::query_scalar("select id from outbox_sent").fetch_all(pool).await.unwrap();
    let arrived: BTreeSet<Uuid> = arrivals.iter().map(|arrival| arrival.id).collect();
    let copies = retained.len();
    let retained: BTreeSet<Uuid> = retained.into_iter().collect();
    let differ: Vec<&Uuid> = retained.symmetric_difference(&arrived).collect();
    assert!(differ.is_empty(), "published and not retained, or the reverse: {differ:?}");
    assert_eq!(copies, retained.len(), "one copy of each event");
}
