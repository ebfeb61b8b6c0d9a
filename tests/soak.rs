//! Consumers under attack, on real servers: three groups on two topics, in four processes that
//! leave, join and are killed, with a broker that crashes, handlers that fail, and garbage among
//! the messages. In the end, by counting in the database and on the topics: the effect of every
//! event is there once for each group, or the event is in that group's dead letters.
//!
//! `cargo xtask soak --seconds 180` runs it for longer, and `--mysql mysql-8.0` on another server.

#[macro_use]
mod support;

#[path = "soak/checks.rs"]
mod checks;
#[path = "soak/database.rs"]
mod database;
#[path = "soak/groups.rs"]
mod groups;
#[path = "soak/members.rs"]
mod members;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use checks::{assert_no_offset_ran_ahead, assert_settled, open_in};
use database::Soaked;
use groups::{GROUPS, Garbage, Ordered, PARTITIONS, Paid};
use members::{Members, consume_until_told, last_lines};
use outbox::Outbox;
use support::migrated;
use support::random::{Random, seed};
use support::relays::{RunningRelay, kafka_publisher_of, new_relay};
use support::topics::create_topic_of;
use support::wait::try_within;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

const PROCESSES: usize = 4;
const CUSTOMERS: u64 = 60;
/// Interval between kills, exits and crashes.
const MISHAP_EVERY: Duration = Duration::from_millis(1_500);
/// Longest time until everything that is left is done.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

mod postgres {
    #[tokio::test(flavor = "multi_thread")]
    async fn every_event_takes_effect_once_in_each_group_or_is_its_dead_letter() {
        super::soak::<sqlx::Postgres>().await;
    }
}

mod mysql {
    #[tokio::test(flavor = "multi_thread")]
    async fn every_event_takes_effect_once_in_each_group_or_is_its_dead_letter() {
        super::soak::<sqlx::MySql>().await;
    }
}

async fn soak<DB: Soaked>() {
    if std::env::var_os("OUTBOX_SOAK_MEMBER").is_some() {
        return consume_until_told::<DB>().await;
    }
    let seconds = std::env::var("OUTBOX_SOAK_SECONDS")
        .map_or(30, |seconds| seconds.parse().expect("a number of seconds"));
    let mut random = Random::new(seed(), 0);
    let scratch = ScratchDir::new("soak").unwrap();
    let (_server, url) = DB::start(scratch.path());
    let mut kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers().to_owned();
    for topic in [Ordered::TOPIC, Paid::TOPIC] {
        create_topic_of(&brokers, topic, PARTITIONS, &[]).await;
    }
    let pool = DB::pool(&url).await;
    let outbox = migrated(Outbox::<DB>::new(pool.clone())).await;
    DB::create_effects(&pool).await;

    let logs = scratch.path().to_owned();
    let of_members = brokers.clone();
    let mut members = Members {
        command: Box::new(move |member| {
            let log = std::fs::File::options()
                .create(true)
                .append(true)
                .open(logs.join(format!("member-{member}.log")));
            let log = log.unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", DB::TEST, "--nocapture"])
                .env("OUTBOX_SOAK_MEMBER", "1")
                .env("DATABASE_URL", &url)
                .env("KAFKA_BROKERS", &of_members)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            command
        }),
        children: (0..PROCESSES).map(|_| None).collect(),
    };
    (0..PROCESSES).for_each(|member| members.start(member));

    let relay = RunningRelay::start(new_relay(&outbox, kafka_publisher_of(&brokers)));
    let writing = Arc::new(AtomicBool::new(true));
    let written = Arc::new(AtomicI64::new(0));
    let writer = tokio::spawn({
        let (outbox, writing, written) =
            (outbox.clone(), Arc::clone(&writing), Arc::clone(&written));
        let mut random = Random::new(random.next(), 1);
        async move {
            let mut numbers = BTreeMap::<(bool, u64), i64>::new();
            while writing.load(Ordering::SeqCst) {
                let mut tx = outbox.begin().await.unwrap();
                for _ in 0..10 {
                    let (pays, customer) = (random.chance(30), random.below(CUSTOMERS));
                    let n = numbers.entry((pays, customer)).or_default();
                    *n += 1;
                    let name = format!("customer-{customer}");
                    let emitted = if pays {
                        tx.emit(Paid::new(name, *n))
                    } else {
                        tx.emit(Ordered::new(name, *n))
                    };
                    emitted.unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                }
                if random.chance(10) {
                    // What is an event by its headers, and garbage inside: one in a hundred.
                    tx.emit(Garbage { customer: format!("customer-{}", random.below(CUSTOMERS)) })
                        .unwrap();
                }
                tx.commit().await.unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await; // the rate of the load
            }
        }
    });

    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut kills, mut exits, mut crashes) = (0, 0, 0);
    let mut leaving = Vec::new();
    let mut checked = false;
    while Instant::now() < end {
        tokio::time::sleep(MISHAP_EVERY).await; // between two mishaps
        members.assert_alive(scratch.path());
        let member = random.below(PROCESSES as u64) as usize;
        match random.below(10) {
            0..=4 => {
                members.kill(member);
                kills += 1;
            }
            5..=7 => {
                leaving.extend(members.tell(member));
                exits += 1;
            }
            _ => {
                tokio::task::block_in_place(|| {
                    kafka.kill();
                    kafka.restart()
                })
                .unwrap();
                crashes += 1;
            }
        }
        if !checked
            && end.saturating_duration_since(Instant::now()) < Duration::from_secs(seconds) / 2
        {
            // All die at once: what they have committed is done.
            (0..PROCESSES).for_each(|member| members.kill(member));
            leaving.drain(..).for_each(|mut child| drop(child.wait()));
            assert_no_offset_ran_ahead::<DB>(&pool, &brokers).await;
            checked = true;
        }
        for member in 0..PROCESSES {
            if members.children[member].is_none() {
                members.start(member);
            }
        }
    }
    writing.store(false, Ordering::SeqCst);
    writer.await.unwrap();
    leaving.drain(..).for_each(|mut child| drop(child.wait()));

    // Until every group is through with every topic, and nothing waits in a retry topic.
    let is_settled = async || {
        if outbox.status().await.unwrap().backlog > 0 {
            return None;
        }
        for (group, topics, _) in GROUPS {
            for topic in topics {
                if open_in::<DB>(&pool, &brokers, group, topic).await > 0 {
                    return None;
                }
            }
        }
        Some(())
    };
    let mut ask = || {
        members.assert_alive(scratch.path());
        is_settled()
    };
    if try_within(SETTLED_WITHIN, &mut ask).await.is_none() {
        for (group, topics, _) in GROUPS {
            for topic in topics {
                let open = open_in::<DB>(&pool, &brokers, group, topic).await;
                eprintln!("{group} {topic}: {open} open");
            }
        }
        (0..PROCESSES).for_each(|member| eprintln!("{}", last_lines(scratch.path(), member)));
        panic!("not all events are settled");
    }
    let ended: Vec<_> = (0..PROCESSES).filter_map(|member| members.tell(member)).collect();
    for mut child in ended {
        assert!(
            tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap().success()
        );
    }
    relay.stop().await;

    assert_no_offset_ran_ahead::<DB>(&pool, &brokers).await;
    let mut totals = Vec::new();
    for (group, topics, ordered) in GROUPS {
        let (mut effects, mut letters) = (0, 0);
        for topic in topics {
            let counted = assert_settled::<DB>(&pool, &brokers, group, topic, ordered).await;
            effects += counted.0;
            letters += counted.1;
        }
        totals.push(format!("{group} {effects} effects, {letters} dead letters"));
    }
    println!(
        "{} events; {}; members killed {kills} times, left {exits} times, the broker crashed {crashes} times; \
         lost 0, twice 0, order violations 0",
        written.load(Ordering::SeqCst),
        totals.join("; ")
    );
}
