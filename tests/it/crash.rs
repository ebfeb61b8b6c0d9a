//! The whole system as a user runs it — `examples/orders` and `examples/inventory` as processes,
//! Postgres, Kafka — with each of its parts killed, many times, while orders come in over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::processes::Process;
use crate::support::random::{Random, seed};
use crate::support::topics::create_topic_of;
use crate::support::wait::within;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

const ORDERS: usize = 10_000;
/// A bound, for a machine that does much else.
const TEN_MINUTES: Duration = Duration::from_secs(600);
const CLIENTS: u64 = 16;
const CUSTOMERS: u64 = 40;
const PROCESS_KILLS: usize = 30;
const SERVER_KILLS: usize = 2; // of each
/// Number of kills for which a relay is suspended: longer than its lease.
const PAUSE: usize = 4;

/// Their places among the processes.
const RELAYS: [usize; 2] = [1, 2];

/// Posts one order until it is confirmed, always with the same id.
async fn post_order(address: &str, customer: &str) {
    let id = Uuid::now_v7();
    let body = format!(r#"{{"id":"{id}","customer":"{customer}","item":"apples"}}"#);
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let attempt = async || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.starts_with("HTTP/1.1 201"))
    };
    within(TEN_MINUTES, "an order is confirmed", async || {
        let confirmed = tokio::time::timeout(Duration::from_secs(5), attempt()).await;
        matches!(confirmed, Ok(Ok(true))).then_some(())
    })
    .await;
}

/// How many deliveries a process found in its inbox, by its log.
fn skipped_by(process: &str, logs: &Path) -> usize {
    let log = std::fs::read(logs.join(format!("{process}.log"))).unwrap();
    String::from_utf8_lossy(&log).matches("event skipped: handled before").count()
}

/// How many messages the topic has.
fn messages_on_topic(brokers: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "counts")
        .create()
        .unwrap();
    let watermarks =
        (0..6).map(|p| consumer.fetch_watermarks("orders", p, Duration::from_secs(30)).unwrap());
    watermarks.map(|(low, high)| high - low).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_equals_the_orders_whatever_is_killed() {
    let mut random = Random::new(seed(), 0);
    let scratch = ScratchDir::new("crash").unwrap();
    let mut postgres =
        Postgres::start(PgVersion::V15, &scratch.path().join("postgres"), PgOptions::default())
            .unwrap();
    let mut kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    create_topic_of(kafka.brokers(), "orders", 6, &[]).await;

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let (database, brokers) = (postgres.url().to_owned(), kafka.brokers().to_owned());
    let environment = [
        ("DATABASE_URL", database.as_str()),
        ("KAFKA_BROKERS", &brokers),
        ("ORDERS_ADDRESS", &address),
    ];
    let start = |name, example, role: &[&str]| {
        Process::start(name, example, role, &environment, scratch.path())
    };
    let mut processes = [
        start("service", "orders", &["serve"]),
        start("relay-1", "orders", &["relay"]),
        start("relay-2", "orders", &["relay"]),
        start("inventory-1", "inventory", &[]),
        start("inventory-2", "inventory", &[]),
    ];

    let posted = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (address, posted) = (address.clone(), Arc::clone(&posted));
        let mut random = Random::new(random.next(), client);
        clients.spawn(async move {
            while posted.fetch_add(1, Ordering::SeqCst) < ORDERS {
                post_order(&address, &format!("customer-{}", random.below(CUSTOMERS))).await;
            }
        });
    }

    // Kills at even distances in the traffic: by orders, not by time, so that all fall into it.
    let mut kills = BTreeMap::<&str, usize>::new();
    let all_kills = PROCESS_KILLS + 2 * SERVER_KILLS;
    let mut paused: Option<(usize, usize)> = None;
    for kill in 0..all_kills {
        let due = (kill + 1) * ORDERS / (all_kills + 1);
        within(TEN_MINUTES, "enough orders are posted", || {
            processes.iter_mut().for_each(Process::keep_alive);
            ready((posted.load(Ordering::SeqCst) >= due).then_some(()))
        })
        .await;
        let every = all_kills / (2 * SERVER_KILLS);
        let victim = if kill % every == every / 2 {
            let (name, restarted) = if (kill / every).is_multiple_of(2) {
                (
                    "broker",
                    tokio::task::block_in_place(|| {
                        kafka.kill();
                        kafka.restart()
                    }),
                )
            } else {
                (
                    "postgres",
                    tokio::task::block_in_place(|| {
                        postgres.kill();
                        postgres.restart()
                    }),
                )
            };
            restarted.unwrap();
            name
        } else {
            let mut chosen = random.below(processes.len() as u64) as usize;
            if paused.is_some_and(|(asleep, _)| asleep == chosen) {
                chosen = 0; // the service, rather than a second mishap of the same relay
            }
            if RELAYS.contains(&chosen) && paused.is_none() && random.chance(40) {
                processes[chosen].keep_alive();
                processes[chosen].signal("-STOP");
                paused = Some((chosen, kill + PAUSE));
                "a relay paused"
            } else {
                processes[chosen].kill();
                processes[chosen].name
            }
        };
        if let Some((asleep, _)) = paused.take_if(|(_, until)| *until <= kill) {
            processes[asleep].signal("-CONT");
        }
        *kills.entry(victim).or_default() += 1;
    }
    if let Some((asleep, _)) = paused {
        processes[asleep].signal("-CONT");
    }
    while !clients.is_empty() {
        processes.iter_mut().for_each(Process::keep_alive);
        let _ = tokio::time::timeout(Duration::from_millis(20), clients.join_next()).await;
    }

    // Nothing is killed any more: what was ordered is reserved, soon.
    let pool = PgPool::connect(&database).await.unwrap();
    let count = async |rows: &'static str| -> i64 {
        sqlx::query_scalar(rows).fetch_one(&pool).await.unwrap()
    };
    let orders = count("select count(*) from orders").await;
    within(TEN_MINUTES, "all orders are reserved", || {
        processes.iter_mut().for_each(Process::keep_alive);
        async { (count("select count(*) from reservation").await >= orders).then_some(()) }
    })
    .await;

    let ordered: BTreeSet<Uuid> = sqlx::query_scalar("select id from orders")
        .fetch_all(&pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let reserved: Vec<(Uuid, String, i64)> =
        sqlx::query_as("select order_id, customer, number from reservation order by place")
            .fetch_all(&pool)
            .await
            .unwrap();
    let mut last = BTreeMap::new();
    let violations = reserved
        .iter()
        .filter(|(_, customer, number)| last.insert(customer, *number).unwrap_or(0) + 1 != *number)
        .count();
    let messages = messages_on_topic(&brokers);
    let skipped: usize =
        ["inventory-1", "inventory-2"].map(|name| skipped_by(name, scratch.path())).iter().sum();
    println!("killed: {kills:?}");
    println!(
        "orders posted {ORDERS}, committed {orders}, published {messages} ({} of them again), reserved {}, \
         deliveries skipped by the inbox {skipped}, order violations {violations}",
        messages - orders,
        reserved.len(),
    );
    assert_eq!(orders as usize, ORDERS, "each order posted is placed once");
    assert_eq!(reserved.len(), ORDERS, "each order is reserved, once");
    assert_eq!(
        reserved.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>(),
        ordered,
        "and no other"
    );
    assert_eq!(
        violations, 0,
        "the orders of each customer are reserved in the order of their placing"
    );
}
