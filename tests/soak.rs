//! Consumers under attack, on real servers: three groups on two topics, in four processes that
//! leave, join and are killed, with a broker that crashes, handlers that fail, and garbage among
//! the messages. In the end, by counting in the database and on the topics: the effect of every
//! event is there once for each group, or the event is in that group's dead letters.
//!
//! `cargo xtask soak --seconds 180` runs it for longer.

#[macro_use]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use outbox::codec::Decode;
use outbox::consume::{
    Consumer, ConsumerBuilder, ErrorClass, EventContext, EventHandler, HandlerOptions, LaterEvents,
};
use outbox::kafka::KafkaConfig;
use outbox::{DomainEvent, Outbox, OutboxTx};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::OwnedMessage;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool, Postgres};
use support::consumers::{Numbered, Refused, header, new_consumer_of};
use support::migrated;
use support::random::{Random, seed};
use support::relays::{RunningRelay, kafka_publisher_of, new_relay};
use support::topics::{create_topic_of, read_topic_of};
use support::wait::try_within;
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres as Server};

const PROCESSES: usize = 4;
const CUSTOMERS: u64 = 60;
const PARTITIONS: i32 = 6;
/// Interval between kills, exits and crashes.
const MISHAP_EVERY: Duration = Duration::from_millis(1_500);
/// Longest time until everything that is left is done.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

event_on_topic!(Ordered, "soak-orders");
event_on_topic!(Paid, "soak-payments");

/// Group, its topics, and whether it promises the order of each key.
const GROUPS: [(&str, &[&str], bool); 3] = [
    ("stock", &[Ordered::TOPIC, Paid::TOPIC], true),
    ("mail", &[Ordered::TOPIC], true),
    ("stats", &[Ordered::TOPIC, Paid::TOPIC], false),
];

const RUNGS: &[Duration] =
    &[Duration::from_millis(300), Duration::from_millis(600), Duration::from_secs(1)];
/// As the names of retry topics have them.
const RUNG_NAMES: [&str; 3] = ["300ms", "600ms", "1s"];

fn options(group: &str) -> HandlerOptions {
    let quick =
        HandlerOptions::new().backoff(Duration::from_millis(20), Duration::from_millis(200));
    match group {
        "mail" => quick.retry_topics(RUNGS, LaterEvents::Wait),
        "stats" => quick.retry_topics(RUNGS, LaterEvents::Overtake),
        _ => quick,
    }
}

/// Fails one attempt in twenty, and every attempt of one event in a hundred.
struct Effect<E> {
    group: &'static str,
    event: std::marker::PhantomData<fn(E)>,
}

impl<E: DomainEvent + Numbered + Send + 'static> EventHandler<Postgres> for Effect<E> {
    type Event = E;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        options(self.group).group(self.group)
    }

    fn classify(&self, error: &Refused) -> ErrorClass {
        error.0
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: E,
        context: &EventContext,
    ) -> Result<(), Refused> {
        let (customer, n) = event.number();
        sqlx::query(
            "insert into effect (consumer, topic, customer, n, id) values ($1, $2, $3, $4, $5)",
        )
        .bind(self.group)
        .bind(&context.topic)
        .bind(customer)
        .bind(n)
        .bind(context.id)
        .execute(tx)
        .await
        .map_err(|_| Refused(ErrorClass::Transient, "the table does not take it"))?;
        if Random::new(context.id.as_u64_pair().1, 1).chance(1) {
            return Err(Refused(ErrorClass::Permanent, "never"));
        }
        if Random::new(Uuid::now_v7().as_u64_pair().1, 2).chance(5) {
            return Err(Refused(ErrorClass::Transient, "not now"));
        }
        Ok(())
    }
}

fn consumer(
    outbox: &Outbox<Postgres>,
    brokers: &str,
    group: &'static str,
    topics: &[&str],
) -> Consumer<Postgres> {
    fn add<E>(consumer: ConsumerBuilder<Postgres>, group: &'static str) -> ConsumerBuilder<Postgres>
    where
        E: DomainEvent + Numbered + Send + 'static,
        E::Codec: Decode<E>,
    {
        consumer.handler(Effect::<E> { group, event: std::marker::PhantomData })
    }
    let kafka = KafkaConfig::new(brokers)
        .property("session.timeout.ms", "6000")
        .property("auto.commit.interval.ms", "200");
    let mut consumer = new_consumer_of(outbox, kafka).max_in_flight(200);
    if topics.contains(&Ordered::TOPIC) {
        consumer = add::<Ordered>(consumer, group);
    }
    if topics.contains(&Paid::TOPIC) {
        consumer = add::<Paid>(consumer, group);
    }
    consumer.build().unwrap()
}

/// What a process of consumers does: all groups, until a signal stops it.
async fn consume_until_told() {
    tracing_subscriber::fmt().with_ansi(false).with_env_filter("warn,outbox=info").init();
    let outbox = Outbox::new(pool(&std::env::var("DATABASE_URL").unwrap()).await);
    let brokers = std::env::var("KAFKA_BROKERS").unwrap();
    let mut told =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = tokio::task::JoinSet::new();
    for (group, topics, _) in GROUPS {
        let mut stopped = stopped.clone();
        running.spawn(consumer(&outbox, &brokers, group, topics).run(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    tokio::select! {
        _ = told.recv() => {}
        ended = running.join_next() => panic!("a consumer has ended by itself: {ended:?}"),
    }
    stop.send_replace(true);
    while let Some(ended) = running.join_next().await {
        ended.unwrap().unwrap();
    }
}

async fn pool(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(30).acquire_timeout(Duration::from_secs(30));
    pool.connect(url).await.unwrap()
}

struct Members {
    command: Box<dyn Fn(usize) -> Command>,
    children: Vec<Option<Child>>,
}

impl Members {
    fn start(&mut self, member: usize) {
        self.children[member] = Some((self.command)(member).spawn().unwrap());
    }

    fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.children[member].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// None ends but by our doing.
    fn assert_alive(&mut self, logs: &Path) {
        for (member, child) in self.children.iter_mut().enumerate() {
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("member {member} ended by itself, {status}: {}", last_lines(logs, member));
            }
        }
    }

    fn tell(&mut self, member: usize) -> Option<Child> {
        let child = self.children[member].take()?;
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        Some(child)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|member| self.kill(member));
    }
}

fn last_lines(logs: &Path, member: usize) -> String {
    let log = std::fs::read_to_string(logs.join(format!("member-{member}.log"))).unwrap();
    let last: Vec<&str> = log.lines().rev().take(30).collect();
    format!("member {member}, its last lines first:\n{}", last.join("\n"))
}

/// Everything of a topic by its ids: the group's dead letters for example.
async fn on(brokers: &str, topic: String) -> Vec<OwnedMessage> {
    read_topic_of(brokers.to_owned(), topic.leak()).await
}

fn id(message: &OwnedMessage) -> String {
    header(message, "ce_id").unwrap_or_default().to_owned()
}

/// The offset that a group committed, for each partition.
fn committed(brokers: &str, group: &str, topic: &str) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(topic, partition);
    }
    // A broker that has just come back takes its time to know.
    let end = Instant::now() + Duration::from_secs(60);
    let committed = loop {
        match consumer.committed_offsets(list.clone(), Duration::from_secs(30)) {
            Ok(committed) => break committed,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    committed.elements().iter().map(|of| of.offset().to_raw().unwrap_or(-1)).collect()
}

/// The ids that a group has dealt with: its effects, its dead letters, and what waits in its retry
/// topics.
async fn dealt_with(pool: &PgPool, brokers: &str, group: &str, topic: &str) -> BTreeSet<String> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from effect where consumer = $1 and topic = $2")
            .bind(group)
            .bind(topic)
            .fetch_all(pool)
            .await
            .unwrap();
    let mut ids: BTreeSet<String> = ids.iter().map(Uuid::to_string).collect();
    let rungs: &[&str] = if group == "stock" { &[] } else { &RUNG_NAMES };
    let topics = rungs
        .iter()
        .map(|delay| format!("{topic}.{group}.retry.{delay}"))
        .chain([format!("{topic}.{group}.dlt")]);
    for topic in topics {
        ids.extend(on(brokers, topic).await.iter().map(id));
    }
    ids
}

/// Checks that no offset is ahead of what was handled. No consumer may run meanwhile.
async fn assert_no_offset_ran_ahead(pool: &PgPool, brokers: &str) {
    for (group, topics, _) in GROUPS {
        for topic in topics {
            let committed = committed(brokers, group, topic);
            let dealt_with = dealt_with(pool, brokers, group, topic).await;
            let kept: Vec<(i32, i64)> = sqlx::query_as(
                "select source_partition, source_offset from outbox_key_queue where consumer_group = $1 and topic = $2",
            )
            .bind(group)
            .bind(topic)
            .fetch_all(pool)
            .await
            .unwrap();
            for message in on(brokers, (*topic).to_owned()).await {
                if message.offset() < committed[message.partition() as usize] {
                    assert!(
                        dealt_with.contains(&id(&message))
                            || kept.contains(&(message.partition(), message.offset())),
                        "{group} has passed {topic}/{}/{} by, and nothing came of it",
                        message.partition(),
                        message.offset()
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_takes_effect_once_in_each_group_or_is_its_dead_letter() {
    if std::env::var_os("OUTBOX_SOAK_MEMBER").is_some() {
        return consume_until_told().await;
    }
    let seconds = std::env::var("OUTBOX_SOAK_SECONDS")
        .map_or(30, |seconds| seconds.parse().expect("a number of seconds"));
    let mut random = Random::new(seed(), 0);
    let scratch = ScratchDir::new("soak").unwrap();
    let postgres =
        Server::start(PgVersion::V15, &scratch.path().join("postgres"), PgOptions::default())
            .unwrap();
    let mut kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers().to_owned();
    for topic in [Ordered::TOPIC, Paid::TOPIC] {
        create_topic_of(&brokers, topic, 6, &[]).await;
    }
    let pool = pool(postgres.url()).await;
    let outbox = migrated(Outbox::new(pool.clone())).await;
    pool.execute(
        "create table effect (place bigserial, consumer text, topic text, customer text, n bigint, id uuid);
         create index on effect (consumer, topic)",
    )
    .await
    .unwrap();

    let (url, logs) = (postgres.url().to_owned(), scratch.path().to_owned());
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
                .args([
                    "--exact",
                    "every_event_takes_effect_once_in_each_group_or_is_its_dead_letter",
                    "--nocapture",
                ])
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
            assert_no_offset_ran_ahead(&pool, &brokers).await;
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
                if open_in(&pool, &brokers, group, topic).await > 0 {
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
                eprintln!("{group} {topic}: {} open", open_in(&pool, &brokers, group, topic).await);
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

    assert_no_offset_ran_ahead(&pool, &brokers).await;
    let mut totals = Vec::new();
    for (group, topics, ordered) in GROUPS {
        let (mut effects, mut letters) = (0, 0);
        for topic in topics {
            let counted = assert_settled(&pool, &brokers, group, topic, ordered).await;
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

/// An event in its headers only.
#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "soak-orders", name = "order.created", version = 3, duplicate)]
struct Garbage {
    #[event(key)]
    #[serde(skip)]
    customer: String,
}

/// How many events of a topic are neither an effect of the group nor among its dead letters.
async fn open_in(pool: &PgPool, brokers: &str, group: &str, topic: &str) -> i64 {
    let all: BTreeSet<String> = on(brokers, topic.to_owned()).await.iter().map(id).collect();
    let dead: BTreeSet<String> =
        on(brokers, format!("{topic}.{group}.dlt")).await.iter().map(id).collect();
    let effects: i64 =
        sqlx::query_scalar("select count(*) from effect where consumer = $1 and topic = $2")
            .bind(group)
            .bind(topic)
            .fetch_one(pool)
            .await
            .unwrap();
    all.len() as i64 - dead.len() as i64 - effects
}

/// Counts what came of a topic in a group, and fails if anything was lost, done twice, or done out
/// of order.
async fn assert_settled(
    pool: &PgPool,
    brokers: &str,
    group: &str,
    topic: &str,
    ordered: bool,
) -> (usize, usize) {
    let published: BTreeSet<String> = on(brokers, topic.to_owned()).await.iter().map(id).collect();
    let letters = on(brokers, format!("{topic}.{group}.dlt")).await;
    let dead: BTreeSet<String> = letters.iter().map(id).collect();
    let effects: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "select id, customer, n from effect where consumer = $1 and topic = $2 order by place",
    )
    .bind(group)
    .bind(topic)
    .fetch_all(pool)
    .await
    .unwrap();
    let done: BTreeSet<String> = effects.iter().map(|(id, ..)| id.to_string()).collect();
    assert_eq!(done.len(), effects.len(), "{group} {topic}: no effect twice");
    assert!(done.is_disjoint(&dead), "{group} {topic}: an effect, or a dead letter");
    let all: BTreeSet<String> = done.union(&dead).cloned().collect();
    assert_eq!(all, published, "{group} {topic}: every event");
    for letter in &letters {
        for name in [
            "outbox-original-topic",
            "outbox-original-partition",
            "outbox-original-offset",
            "outbox-original-timestamp",
            "outbox-group",
            "outbox-attempts",
            "outbox-error-class",
            "outbox-error",
            "outbox-first-failure",
            "outbox-last-failure",
        ] {
            assert!(header(letter, name).is_some(), "a dead letter of {group} without {name}");
        }
    }
    if ordered {
        let mut last = BTreeMap::new();
        for (_, customer, n) in &effects {
            let before = last.insert(customer, *n).unwrap_or(0);
            assert!(before < *n, "{group} {topic}: {customer} was handled {before}, {n}");
        }
    }
    (effects.len(), dead.len())
}
