//! `outbox topics` and `outbox relay run --topics` by the files of a project, on a real Kafka.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use outbox::{DomainEvent, Outbox};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use uuid::Uuid;

const BOUND: Duration = Duration::from_secs(60);

const LOCK: &str = r#"format = 1

[[event]]
topic = "orders"
name = "order.placed"
version = 1
content-type = "application/json"
key = ["customer"]

[event.fields]
customer = "string"

[[event]]
topic = "payments"
name = "payment.made"
version = 1
content-type = "application/json"
key = []

[event.fields]
cents = "u64"
"#;

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
}

/// A project with its files, and topics of its own by their prefix.
struct Project {
    dir: TempDir,
    prefix: String,
    admin: AdminClient<DefaultClientContext>,
}

struct Ran {
    code: Option<i32>,
    rows: Vec<Value>,
    said: String,
}

impl Ran {
    /// Topic, state and setting of each row.
    fn states(&self, prefix: &str) -> Vec<String> {
        let rows = self.rows.iter().map(|row| {
            let topic = row["topic"].as_str().unwrap().strip_prefix(prefix).unwrap();
            let setting = row["setting"].as_str().map_or(String::new(), |name| format!(" {name}"));
            format!("{topic} {}{setting}", row["state"].as_str().unwrap())
        });
        rows.collect()
    }
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set, and this test needs a real server: run `cargo xtask test`")
    })
}

/// All of it, once it has ended.
fn read(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        let _ = tell.send(text);
    });
    told
}

impl Project {
    /// `topics`: what is in topics.toml below its first line.
    fn new(topics: &str) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).clone();
        let project = Self {
            dir: TempDir::new().unwrap(),
            prefix: format!("files-{}-", Uuid::now_v7().simple()),
            admin: client.create().unwrap(),
        };
        fs::write(project.dir.path().join("events.lock"), LOCK).unwrap();
        project.wants(topics);
        project
    }

    fn wants(&self, topics: &str) {
        let file = self.dir.path().join("topics.toml");
        fs::write(file, format!("format = 1\n{topics}")).unwrap();
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.env_clear().current_dir(self.dir.path()).args(["-o", "json"]);
        command.args(["-b", &server("KAFKA_BROKERS"), "--topic-prefix", &self.prefix]);
        let mut child =
            command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = read(child.stdout.take().unwrap());
        let said = read(child.stderr.take().unwrap());
        // A relay that starts does not end by itself.
        let (Ok(out), Ok(said)) = (out.recv_timeout(BOUND), said.recv_timeout(BOUND)) else {
            child.kill().unwrap();
            panic!("it does not end: {args:?}");
        };
        Ran {
            code: child.wait().unwrap().code(),
            rows: out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            said,
        }
    }

    fn topics(&self, command: &str, more: &[&str]) -> Ran {
        self.run(&[&["topics", command, "--topics", "topics.toml"], more].concat())
    }

    /// States of its rows, if it ends with this code.
    fn states(&self, command: &str, more: &[&str], code: i32) -> Vec<String> {
        let ran = self.topics(command, more);
        assert_eq!(ran.code, Some(code), "{command} {more:?}: {:?} {}", ran.rows, ran.said);
        ran.states(&self.prefix)
    }

    async fn create(&self, topic: &str, partitions: i32) {
        let name = format!("{}{topic}", self.prefix);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for created in self.admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
    }

    fn partitions(&self, topic: &str) -> usize {
        let name = format!("{}{topic}", self.prefix);
        let metadata = self.admin.inner().fetch_metadata(Some(&name), BOUND).unwrap();
        metadata.topics()[0].partitions().len()
    }

    /// The settings that are the topic's own.
    async fn settings(&self, topic: &str) -> BTreeMap<String, String> {
        let name = format!("{}{topic}", self.prefix);
        let asked = [ResourceSpecifier::Topic(&name)];
        let described = self.admin.describe_configs(&asked, &AdminOptions::new()).await.unwrap();
        let entries = described.into_iter().next().unwrap().unwrap().entries;
        let own = entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        own.map(|entry| (entry.name, entry.value.unwrap())).collect()
    }
}

fn own<const N: usize>(settings: [(&str, &str); N]) -> BTreeMap<String, String> {
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

const TWO: &str = "[topics.orders]\npartitions = 3\nreplicas = 1\nconfig = { \"retention.ms\" = 86400000 }\n\
                   [topics.payments]\npartitions = 2\n";

#[tokio::test]
async fn topics_of_the_lock_become_as_the_file_says_and_what_others_have_set_stays() {
    let project = Project::new(TWO);
    let missing = ["orders missing", "payments missing"];
    assert_eq!(project.states("diff", &[], 3), missing);
    assert_eq!(project.states("plan", &[], 0), missing);
    assert_eq!(project.states("diff", &["--topic", "payments"], 3), ["payments missing"]);
    assert_eq!(project.states("apply", &[], 0), ["orders created", "payments created"]);
    assert_eq!(project.states("diff", &[], 0), [""; 0]);
    assert_eq!((project.partitions("orders"), project.partitions("payments")), (3, 2));
    assert_eq!(project.settings("orders").await, own([("retention.ms", "86400000")]));

    // Somebody else sets another one, in the only request that rdkafka has: all that is to be.
    let name = format!("{}orders", project.prefix);
    let other = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("retention.ms", "86400000")
        .set("segment.ms", "3600000");
    project.admin.alter_configs([&other], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(project.states("diff", &[], 0), [""; 0], "the file says nothing of it");
    project.wants(&TWO.replace("86400000", "172800000"));
    let plan = project.topics("plan", &[]);
    assert_eq!(
        plan.states(&project.prefix),
        ["orders setting retention.ms", "payments exists"],
        "{}",
        plan.said
    );
    assert_eq!(
        (&plan.rows[0]["has"], &plan.rows[0]["needs"]),
        (&"86400000".into(), &"172800000".into())
    );
    assert_eq!(project.states("apply", &[], 0), ["orders set retention.ms", "payments exists"]);
    let both = own([("retention.ms", "172800000"), ("segment.ms", "3600000")]);
    assert_eq!(project.settings("orders").await, both);
    assert_eq!(project.states("apply", &[], 0), ["orders exists", "payments exists"]);
}

#[tokio::test]
async fn partitions_are_added_only_on_request_and_never_taken_away() {
    let project = Project::new(TWO);
    project.create("orders", 1).await;
    project.create("payments", 4).await;
    project.wants("[topics.orders]\npartitions = 3\n[topics.payments]\npartitions = 2\n");
    let differ = ["orders fewer-partitions", "payments more-partitions"];
    assert_eq!(project.states("diff", &[], 3), differ);
    assert_eq!(project.states("plan", &[], 0), differ);
    let applied = project.topics("apply", &[]);
    assert_eq!(
        (applied.code, applied.states(&project.prefix)),
        (Some(3), differ.map(str::to_owned).into())
    );
    assert!(
        applied.said.contains("--add-partitions, since that breaks the order"),
        "{}",
        applied.said
    );
    assert_eq!((project.partitions("orders"), project.partitions("payments")), (1, 4));

    let added = ["orders partitions-added", "payments more-partitions"];
    assert_eq!(project.states("apply", &["--add-partitions"], 3), added);
    assert_eq!((project.partitions("orders"), project.partitions("payments")), (3, 4));
}

#[tokio::test]
async fn replicas_of_a_topic_that_exists_are_left_to_a_person() {
    let project = Project::new("");
    project.create("orders", 1).await;
    project.create("payments", 1).await;
    project.wants("[topics.orders]\nreplicas = 2\n");
    for command in ["diff", "apply"] {
        let ran = project.topics(command, &[]);
        assert_eq!(ran.code, Some(3), "{}", ran.said);
        assert_eq!(ran.states(&project.prefix)[0], "orders replicas");
        assert_eq!((&ran.rows[0]["has"], &ran.rows[0]["needs"]), (&"1".into(), &"2".into()));
        assert!(ran.said.contains("is for a person to decide"), "{}", ran.said);
    }
}

#[tokio::test]
async fn a_setting_that_kafka_refuses_is_an_error_and_the_others_stay() {
    let project = Project::new("[topics.orders]\nconfig = { \"cleanup.policy\" = \"compcat\" }\n");
    let refused = project.topics("apply", &["--topic", "orders"]);
    assert_eq!((refused.code, refused.rows.len()), (Some(1), 0), "{}", refused.said);
    assert!(refused.said.contains("takes no such value"), "{}", refused.said);

    project.wants("[topics.orders]\nconfig = { \"retention.ms\" = 86400000 }\n");
    assert_eq!(project.states("apply", &["--topic", "orders"], 0), ["orders created"]);
    project.wants("[topics.orders]\nconfig = { \"cleanup.policy\" = \"compcat\" }\n");
    let refused = project.topics("apply", &["--topic", "orders"]);
    assert_eq!((refused.code, refused.rows.len()), (Some(1), 0), "{}", refused.said);
    assert!(refused.said.contains("`cleanup.policy` is not set to compcat"), "{}", refused.said);
    assert_eq!(project.settings("orders").await, own([("retention.ms", "86400000")]));

    // One that Kafka does not know is not sent at all.
    project.wants("[topics.orders]\nconfig = { \"retention.sm\" = 1, \"segment.ms\" = 3600000 }\n");
    let states = project.states("apply", &["--topic", "orders"], 3);
    assert_eq!(states, ["orders set segment.ms", "orders setting retention.sm"]);
}

#[tokio::test]
async fn topics_of_a_group_get_the_partitions_of_their_topic_in_one_run() {
    let project = Project::new(TWO);
    let group = ["--topic", "orders", "--group", "inventory", "--delay", "10s"];
    let ours = |state: &str| {
        ["", ".inventory.dlt", ".inventory.retry.0", ".inventory.retry.10s"]
            .map(|of| format!("orders{of} {state}"))
    };
    let plan = project.topics("plan", &group);
    assert_eq!((plan.code, plan.states(&project.prefix)), (Some(0), ours("missing").into()));
    assert!(plan.rows.iter().all(|row| row["partitions"] == 3), "{:?}", plan.rows);
    assert_eq!(plan.said, "", "the topic of the events is planned, too");
    assert_eq!(project.states("apply", &group, 0), ours("created"));
    for topic in ["orders", "orders.inventory.dlt", "orders.inventory.retry.10s"] {
        assert_eq!(project.partitions(topic), 3, "{topic}");
    }
    assert_eq!(project.states("diff", &group, 0), [""; 0]);
}

#[tokio::test]
async fn a_relay_publishes_nothing_to_topics_that_are_not_as_the_file_says() {
    let project = Project::new(TWO);
    let file = project.dir.path().join("outbox.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let outbox = Outbox::new(SqlitePool::connect_with(options).await.unwrap());
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderPlaced { customer: "ann".to_owned() }).unwrap();
    tx.commit().await.unwrap();
    let relay = ["relay", "run", "-D", "sqlite:outbox.db", "--topics", "topics.toml"];

    let mend = "topics apply --topics topics.toml --lock events.lock";
    // It would wait for what is away, but not for topics.
    for more in [&[][..], &["--once"]] {
        let refused = project.run(&[&relay, more].concat());
        assert_eq!(refused.code, Some(78), "{}", refused.said);
        assert!(refused.said.contains(&format!("{}orders: it does not exist", project.prefix)));
        assert!(refused.said.contains(&format!("`outbox {mend}` creates")), "{}", refused.said);
    }
    assert_eq!(outbox.status().await.unwrap().backlog, 1);
    let mended = project.run(&mend.split(' ').collect::<Vec<_>>());
    assert_eq!(mended.code, Some(0), "{}", mended.said);

    project.wants(&TWO.replace("partitions = 3", "partitions = 4"));
    let refused = project.run(&[&relay[..], &["--once"]].concat());
    assert_eq!(refused.code, Some(78), "{}", refused.said);
    assert!(
        refused.said.contains("its number of partitions is 3 instead of 4"),
        "{}",
        refused.said
    );
    assert!(
        refused.said.contains("--add-partitions` adds those that it lacks, which breaks the order"),
        "{}",
        refused.said
    );
    assert_eq!(outbox.status().await.unwrap().backlog, 1);

    // Settings and replicas are no reason to publish nothing.
    project.wants(&TWO.replace("86400000", "1000").replace("replicas = 1", "replicas = 2"));
    let published = project.run(&[&relay[..], &["--once"]].concat());
    assert_eq!(published.code, Some(0), "{}", published.said);
    assert_eq!(published.rows[0]["published"], 1);
}

#[test]
fn what_the_files_do_not_say_right_changes_nothing() {
    let project = Project::new("[topics.order]\npartitions = 3\n");
    let refused = project.topics("apply", &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(refused.said.contains("line 2: the lock has no event on the topic `order`"));
    project.wants("");
    let refused = project.topics("apply", &["--topic", "order"]);
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    for args in [
        &["topics", "diff", "--group", "inventory"][..],
        &["topics", "diff", "--topic", "orders"],
        &["topics", "apply", "--topic", "orders", "--group", "inventory", "--add-partitions"],
        &["topics", "diff", "--topic", "orders", "--group", "inventory", "--lock", "events.lock"],
    ] {
        assert_eq!(project.run(args).code, Some(2), "{args:?}");
    }
}
