//! The rights of docs/guide/securing.md suffice for each part on Kafka, and each is needed.

use std::thread;
use std::time::Duration;

use crate::support::consumers::{
    PERMANENT, QUICK, RunningConsumer, Scripted, TRANSIENT, consumer_outbox, new_consumer_of,
};
use crate::support::log::Log;
use crate::support::relays::{drain, new_relay};
use crate::support::secured::{secured, secured_kafka, with_certificate, with_password};
use crate::support::topics::create_topic_of;
use crate::support::{eventually_some, within_a_minute};
use outbox::consume::{BulkOptions, ConsumerGroups, DeadLetterFilter, DeadLetters, LaterEvents};
use outbox::kafka::{EventTopics, KafkaConfig, WantedTopic};
use outbox::publish::kafka::KafkaPublisher;
use outbox::{ExactlyOnce, Outbox, OutboxError};
use sqlx::Postgres;
use xtask::servers::{Acl, Operation, Resource};

const PAGE: &str = include_str!("../../docs/guide/securing.md");

event_on_topic!(Created, "orders");

const GROUP: &str = "inventory";
const SHORT: &[Duration] = &[Duration::from_millis(100)];

/// What of the page is granted to a role, for a deployment of its own.
fn rights(role: &str, case: &Case) -> Vec<Acl> {
    let page = PAGE.replace("\\\n", " ");
    let lines = page.lines().filter(|line| line.starts_with("kafka-acls.sh --add "));
    let acl = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |flag| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
        if after("--allow-principal") != Some(&*format!("User:{role}")) {
            return None;
        }
        let of = ["--topic", "--group", "--transactional-id"].map(after);
        let (resource, name) = match of {
            [Some(topic), None, None] => (Resource::Topic, topic),
            [None, Some(group), None] => (Resource::Group, group),
            [None, None, Some(id)] => (Resource::TransactionalId, id),
            _ => panic!("of no topic, group or producer: {line}"),
        };
        // Of the names with a deployment's prefix, the one that says no topic.
        let name = if name == "outbox-" { format!("{}{name}", case.prefix()) } else { name.into() };
        let operation = match after("--operation").unwrap() {
            "Read" => Operation::Read,
            "Write" => Operation::Write,
            "Create" => Operation::Create,
            "Describe" => Operation::Describe,
            "DescribeConfigs" => Operation::DescribeConfigs,
            "AlterConfigs" => Operation::AlterConfigs,
            other => panic!("{other}: {line}"),
        };
        Some(Acl {
            principal: format!("User:CN={}", case.name),
            resource,
            name: name.replace("orders", &case.topic()).replace(GROUP, &case.group()),
            prefixed: after("--resource-pattern-type") == Some("prefixed"),
            operation,
        })
    };
    lines.filter_map(acl).collect()
}

/// A deployment with a user of its own.
struct Case {
    name: String,
}

impl Case {
    fn prefix(&self) -> String {
        format!("{}-", self.name)
    }

    fn topic(&self) -> String {
        format!("{}orders", self.prefix())
    }

    fn group(&self) -> String {
        format!("{GROUP}-{}", self.name)
    }

    /// As this user, or as the one who may do everything.
    fn kafka(&self, user: &str) -> KafkaConfig {
        if user == "admin" {
            return with_password("PLAIN", secured().password());
        }
        with_certificate(&secured().certificates().client(user).unwrap())
    }

    fn publisher(&self, user: &str) -> KafkaPublisher {
        let publisher = KafkaPublisher::builder(self.kafka(user));
        publisher.topic_prefix(self.prefix()).build().unwrap()
    }

    fn letters(&self, user: &str) -> DeadLetters {
        let letters = DeadLetters::builder(self.kafka(user)).topic("orders").group(self.group());
        letters.topic_prefix(self.prefix()).build().unwrap()
    }

    async fn emitted(&self, events: i64) -> Outbox<Postgres> {
        create_topic_of(secured_kafka().brokers(), &self.topic(), 1, &[]).await;
        let outbox = consumer_outbox().await;
        let mut tx = outbox.begin().await.unwrap();
        tx.emit_all((0..events).map(|n| Created::new("a", n))).unwrap();
        tx.commit().await.unwrap();
        outbox
    }
}

/// Runs a part with all rights of its roles, and once without each of them, all at the same time.
/// `part` says what it lacks, or `None`.
fn each_right_is_needed<F>(part: &str, roles: &[&str], run: fn(Case) -> F)
where
    F: Future<Output = Option<String>>,
{
    let count: usize =
        roles.iter().map(|role| rights(role, &Case { name: String::new() }).len()).sum();
    assert!(count > 0, "{part}");
    thread::scope(|scope| {
        let cases = (0..=count).map(|without| {
            scope.spawn(move || {
                let case = Case { name: format!("{part}-{without}") };
                let mut acls: Vec<Acl> =
                    roles.iter().flat_map(|role| rights(role, &case)).collect();
                let missing = (without < count).then(|| acls.remove(without));
                secured_kafka().allow(&acls).unwrap();
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                (missing, runtime.block_on(run(case)))
            })
        });
        for case in cases.collect::<Vec<_>>() {
            match case.join().unwrap() {
                (None, lacks) => assert_eq!(lacks, None, "{part} with all rights of the page"),
                (Some(missing), None) => panic!("{part} does not need {missing:?}"),
                (Some(missing), Some(lacks)) => {
                    let told = ["may not", "right", "Does a broker answer, and may this user"];
                    assert!(told.iter().any(|told| lacks.contains(told)), "{missing:?}: {lacks}");
                }
            }
        }
    });
}

fn lacks<T>(result: Result<T, OutboxError>) -> Option<String> {
    result.err().map(|error| error.to_string())
}

async fn relays(case: Case) -> Option<String> {
    let outbox = case.emitted(1).await;
    lacks(drain(new_relay(&outbox, case.publisher(&case.name))).await)
}

#[test]
fn a_relay_needs_what_the_page_says() {
    each_right_is_needed("relay", &["relay"], relays);
}

/// What a relay lacks, it tells in its log, and goes on.
async fn relays_exactly_once(case: Case) -> Option<String> {
    let outbox = case.emitted(1).await;
    let (log, _guard) = Log::of_this_thread("warn");
    let relay = new_relay(&outbox, case.publisher(&case.name));
    let relay = relay.build_exactly_once(ExactlyOnce::new().groups(1)).unwrap();
    tokio::select! {
        drained = within_a_minute(relay.drain()) => lacks(drained),
        told = eventually_some("what it lacks", async || log.lines(&["may not"]).pop()) => Some(told),
    }
}

#[test]
fn a_relay_that_delivers_exactly_once_needs_what_the_page_says() {
    each_right_is_needed("exactly-once", &["exactly-once"], relays_exactly_once);
}

/// An event goes through a retry topic and becomes a dead letter.
async fn consumes(case: Case) -> Option<String> {
    let outbox = case.emitted(1).await;
    drain(new_relay(&outbox, case.publisher("admin"))).await.unwrap();
    let options = QUICK.attempts(1).retry_topics(SHORT, LaterEvents::Overtake);
    let decide = async |_, _, attempt| if attempt == 1 { TRANSIENT } else { PERMANENT };
    let handler = Scripted::<Created>::new(GROUP, options, decide);
    let (log, _guard) = Log::of_this_thread("warn");
    let consumer = new_consumer_of(&outbox, case.kafka(&case.name)).handler(handler);
    let consumer = consumer.topic_prefix(case.prefix()).group(case.group()).build().unwrap();
    let consumer = RunningConsumer::run(consumer);
    let letters = case.letters("admin");
    let ends = async || {
        if consumer.is_over() {
            return Some(None);
        }
        if let Some(line) = log.lines(&["may not"]).pop() {
            return Some(Some(line));
        }
        letters.list(1).await.unwrap().pop().map(|_| None)
    };
    let lacked = eventually_some("a dead letter, or what it lacks", ends).await;
    if consumer.is_over() { lacks(consumer.ended().await) } else { lacked }
}

#[test]
fn a_consumer_needs_what_the_page_says() {
    each_right_is_needed("consumer", &["consumer", "creator"], consumes);
}

/// A topic is created, and then gets another value of a setting.
async fn changes_topics(case: Case) -> Option<String> {
    let wanted = |kept: &str| {
        let orders = WantedTopic::default().partitions(1).setting("retention.ms", kept);
        let topics = EventTopics::builder(case.kafka(&case.name)).topic("orders", orders);
        topics.topic_prefix(case.prefix()).build().unwrap()
    };
    for kept in ["86400000", "172800000"] {
        if let Err(error) = within_a_minute(applied(&wanted(kept))).await {
            return Some(error.to_string());
        }
    }
    let left = within_a_minute(wanted("172800000").plan()).await.unwrap();
    left.topics[0].differences.first().map(ToString::to_string)
}

async fn applied(topics: &EventTopics) -> Result<(), OutboxError> {
    let plan = topics.plan().await?;
    topics.create(&plan).await?;
    topics.set(&plan).await
}

#[test]
fn topics_are_changed_with_what_the_page_says() {
    each_right_is_needed("topics", &["topics"], changes_topics);
}

async fn operates(case: Case) -> Option<String> {
    let outbox = case.emitted(2).await;
    drain(new_relay(&outbox, case.publisher("admin"))).await.unwrap();
    let handler = Scripted::<Created>::new(GROUP, QUICK, async |_, _, _| PERMANENT);
    let consumer = new_consumer_of(&outbox, case.kafka("admin")).handler(handler);
    let consumer = consumer.topic_prefix(case.prefix()).group(case.group());
    let consumer = RunningConsumer::start(consumer);
    let letters = case.letters("admin");
    let two = async || (letters.list(2).await.unwrap().len() == 2).then_some(());
    eventually_some("two dead letters", two).await;
    consumer.stop().await;
    within_a_minute(operated(&case)).await.unwrap_or_else(|error| Some(error.to_string()))
}

async fn operated(case: &Case) -> Result<Option<String>, OutboxError> {
    let letters = case.letters(&case.name);
    let found = letters.select(DeadLetterFilter::all()).await?;
    letters.replay_selected(&found.first(1), BulkOptions::new()).await?;
    let rest = letters.list(2).await?;
    assert_eq!(rest.len(), 1);
    letters.discard(&rest[0]).await?;
    let groups = ConsumerGroups::new(case.kafka(&case.name)).group(case.group());
    let lag = groups.lag().await?.pop();
    // A topic that may not be seen is not told from one that does not exist.
    Ok(lag.is_none().then(|| "its topic may not be seen".to_owned()))
}

#[test]
fn an_operator_needs_what_the_page_says() {
    each_right_is_needed("operator", &["operator"], operates);
}
