//! An outbox that Debezium publishes for a time, by the configuration of the guide, and relays before
//! and after: `docs/guide/debezium.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox::Outbox;
use outbox::publish::SlotPublisher;
use outbox::publish::kafka::KafkaPublisher;
use outbox::testing::MemoryPublisher;
use rdkafka::Message as _;
use rdkafka::message::OwnedMessage;
use sqlx::{Executor, PgPool};
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{self, Connect, PgOptions, PgVersion};

use crate::support::consumers::{
    Numbered, QUICK, RunningConsumer, Scripted, consumer_outbox, header, new_consumer,
    until_handled,
};
use crate::support::log::Log;
use crate::support::oracle::{Arrival, Expected, assert_at_least_once};
use crate::support::relays::{RunningRelay, drain_to, new_relay};
use crate::support::topics::{create_topic, read_topic};
use crate::support::{OrderCreated, commit, eventually, kafka, migrated, until_true};

const CUSTOMERS: [&str; 3] = ["alice", "bob", "Åsa"];

/// The connector's properties, as the guide has them, but for where the servers of this test are.
fn properties(postgres: &servers::Postgres, prefix: &str) -> String {
    const PAGE: &str = include_str!("../../docs/guide/debezium.md");
    let (_, properties) = PAGE.split_once("```properties\n").unwrap();
    let (properties, _) = properties.split_once("```").unwrap();
    let port = postgres.port().to_string();
    let ours = [
        ("database.hostname", "127.0.0.1"),
        ("database.port", &*port),
        ("database.user", "postgres"),
        ("database.password", "none"),
        ("database.dbname", "postgres"),
        ("transforms.outbox.route.topic.replacement", &*format!("{prefix}${{routedByValue}}")),
    ];
    let mut replaced = 0;
    let lines = properties.lines().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        let value = ours.iter().find(|(of, _)| *of == name).map_or(value, |(_, value)| {
            replaced += 1;
            value
        });
        format!("{name}={value}\n")
    });
    let properties = lines.collect();
    assert_eq!(replaced, ours.len());
    properties
}

struct Shop {
    outbox: Outbox<sqlx::Postgres>,
    prefix: String,
    emitted: i64,
}

impl Shop {
    fn topic(&self) -> String {
        format!("{}order-events", self.prefix)
    }

    /// As many more orders of each customer.
    async fn emit(&mut self, orders: i64) {
        for n in self.emitted + 1..=self.emitted + orders {
            for customer in CUSTOMERS {
                commit(&self.outbox, [OrderCreated::new(customer, n)]).await;
            }
        }
        self.emitted += orders;
    }

    fn publisher(&self) -> KafkaPublisher {
        KafkaPublisher::builder(kafka()).topic_prefix(&self.prefix).build().unwrap()
    }

    fn relay(&self) -> RunningRelay {
        RunningRelay::start(new_relay(&self.outbox, self.publisher()))
    }

    fn follower(&self) -> RunningRelay {
        let publisher = SlotPublisher::new(self.outbox.pool(), "outbox");
        RunningRelay::start(new_relay(&self.outbox, publisher))
    }

    async fn messages(&self) -> Vec<OwnedMessage> {
        read_topic(&self.topic()).await
    }

    async fn until_all_are_published(&self) {
        eventually("all is published", async || {
            let messages = self.messages().await;
            let arrived = |n| messages.iter().any(|message| Arrival::of_message(message).n == n);
            arrived(self.emitted)
        })
        .await;
    }

    async fn until_nothing_is_pending(&self) {
        eventually("nothing is pending", async || self.outbox.status().await.unwrap().backlog == 0)
            .await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_reordered_on_the_way_to_debezium_and_back() {
    let scratch = ScratchDir::new("debezium").unwrap();
    let options = PgOptions { logical: true, ..PgOptions::default() };
    let postgres =
        servers::Postgres::start(PgVersion::V15, &scratch.path().join("postgres"), options)
            .unwrap();
    let pool = PgPool::connect(postgres.url()).await.unwrap();
    let prefix = format!("{}.", Uuid::now_v7());
    let mut shop = Shop { outbox: migrated(Outbox::new(pool)).await, prefix, emitted: 0 };
    create_topic(&shop.topic(), 3, &[]).await;

    // Debezium will not publish these: they are older than the slot.
    shop.emit(10).await;
    let hand_off = shop.outbox.hand_off("outbox", "outbox").await.unwrap();
    assert!(!shop.outbox.is_handed_off(&hand_off).await.unwrap(), "no relay has run yet");
    let relay = shop.relay();
    shop.emit(10).await;
    eventually("it is handed off", async || shop.outbox.is_handed_off(&hand_off).await.unwrap())
        .await;
    // Its commit may be in the log already, and wait for a standby.
    let mut open = shop.outbox.begin().await.unwrap();
    open.execute("select pg_current_xact_id()").await.unwrap();
    let again = shop.outbox.hand_off("outbox", "outbox").await.unwrap();
    shop.until_nothing_is_pending().await;
    assert!(!shop.outbox.is_handed_off(&again).await.unwrap(), "an older transaction is open");
    open.rollback().await.unwrap();
    eventually("it is handed off", async || shop.outbox.is_handed_off(&again).await.unwrap()).await;
    shop.until_all_are_published().await;
    relay.stop().await;
    shop.emit(10).await;

    let connect_dir = scratch.path().join("connect");
    let properties = properties(&postgres, &shop.prefix);
    let debezium = Connect::debezium(&connect_dir, &kafka(), &properties).unwrap();
    let follower = shop.follower();
    shop.emit(10).await;
    shop.until_all_are_published().await;
    // What Debezium has confirmed is behind the outbox, too.
    shop.until_nothing_is_pending().await;

    // Killed. What is emitted from now on, Debezium never sees.
    drop(debezium);
    shop.emit(10).await;
    follower.stop().await;
    let publisher = SlotPublisher::new(shop.outbox.pool(), "outbox");
    let drained = new_relay(&shop.outbox, publisher).build().unwrap();
    let waits = tokio::time::timeout(Duration::from_secs(1), drained.drain()).await;
    assert!(waits.is_err(), "an event counts as published that Debezium has not confirmed");

    let relay = shop.relay();
    shop.emit(10).await;
    shop.until_all_are_published().await;
    shop.until_nothing_is_pending().await;
    relay.stop().await;

    let messages = shop.messages().await;
    let arrivals: Vec<Arrival> = messages.iter().map(Arrival::of_message).collect();
    let expected: Expected =
        CUSTOMERS.map(|customer| (customer.to_owned(), shop.emitted)).into_iter().collect();
    assert_at_least_once(&arrivals, &expected);
    assert_alike(&messages);
    assert_each_is_handled_once(&mut shop).await;
}

/// A consumer of ours handles each event once, also one that both a relay and Debezium have published.
async fn assert_each_is_handled_once(shop: &mut Shop) {
    let outbox = consumer_outbox().await;
    let handler = Scripted::<OrderCreated>::new("debezium", QUICK, |_, _, _| async { Ok(()) });
    let consumer = new_consumer(&outbox).topic_prefix(&shop.prefix).handler(handler);
    let consumer = RunningConsumer::start(consumer);
    // A customer's last event is handled after all that came twice.
    shop.emit(1).await;
    drain_to(&shop.outbox, shop.publisher()).await;
    let all = CUSTOMERS.len() * usize::try_from(shop.emitted).unwrap();
    let handled = until_handled(&outbox, "debezium", all).await;
    consumer.stop().await;
    for customer in CUSTOMERS {
        let of = |(of, n): &(String, i64)| (of == customer).then_some(*n);
        let numbers: Vec<i64> = handled.iter().filter_map(of).collect();
        assert_eq!(numbers, Vec::from_iter(1..=shop.emitted), "{customer}");
    }
}

impl Numbered for OrderCreated {
    fn number(&self) -> (&str, i64) {
        (&self.customer, self.n)
    }
}

/// What was published both by a relay and by Debezium.
fn assert_alike(messages: &[OwnedMessage]) {
    let by_relay = |message| header(message, "ce_specversion").is_some();
    let mut first = BTreeMap::new();
    let mut compared = 0;
    for message in messages {
        let id = header(message, "ce_id").unwrap();
        let Some(other) = first.insert(id, message) else { continue };
        let of = |message: &OwnedMessage| {
            let names = ["ce_id", "ce_type", "ce_dataversion", "content-type"];
            let headers = names.map(|name| header(message, name).map(str::to_owned));
            // Debezium writes no zeros at the end of it.
            let time = header(message, "ce_time").unwrap().trim_end_matches(['0', 'Z']).to_owned();
            let [key, value] =
                [message.key(), message.payload()].map(|part| part.map(<[u8]>::to_vec));
            (message.topic().to_owned(), message.partition(), key, value, headers, time)
        };
        assert_eq!(of(message), of(other));
        compared += usize::from(by_relay(message) != by_relay(other));
    }
    assert!(compared > 0, "the relay and Debezium have published the same events");
}

/// Whether a follower has begun to look at the slot after the time in `looked`.
const LOOKED: &str = "\
select exists (
  select from pg_stat_activity, looked
  where query like '%confirmed_flush_lsn%' and query not like '%pg_stat_activity%' and query_start > looked.after)";

#[tokio::test]
async fn a_slot_that_is_gone_confirms_nothing_even_if_it_comes_back() {
    let scratch = ScratchDir::new("debezium-slot").unwrap();
    let options = PgOptions { logical: true, ..PgOptions::default() };
    let postgres = servers::Postgres::start(PgVersion::V15, scratch.path(), options).unwrap();
    let pool = PgPool::connect(postgres.url()).await.unwrap();
    let outbox = migrated(Outbox::new(pool.clone())).await;
    pool.execute("create table looked as select clock_timestamp() as after").await.unwrap();
    let (log, _guard) = Log::of_this_thread("warn");

    outbox.hand_off("outbox", "outbox").await.unwrap();
    commit(&outbox, [OrderCreated::new("alice", 1)]).await;
    let follower = new_relay(&outbox, SlotPublisher::new(&pool, "outbox"));
    let follower = RunningRelay::start(follower.drain_timeout(Duration::ZERO));
    until_true(&pool, LOOKED).await;
    pool.execute("select pg_drop_replication_slot('outbox'); drop publication outbox")
        .await
        .unwrap();
    log.until_it_says(&["the replication slot is gone or lost", "start a relay that publishes"])
        .await;
    // A slot that begins after the event would confirm it.
    outbox.hand_off("outbox", "outbox").await.unwrap();
    // When it looks for the second time, it has taken in what it saw at the first.
    for _ in 0..2 {
        pool.execute("update looked set after = clock_timestamp()").await.unwrap();
        until_true(&pool, LOOKED).await;
    }
    follower.stop().await;
    let memory = MemoryPublisher::new();
    new_relay(&outbox, memory.clone()).build().unwrap().drain().await.unwrap();
    assert_eq!(memory.published().len(), 1);
}
