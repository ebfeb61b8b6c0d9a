//! `outbox events` as a process: on a SQLite file, and on a real Kafka.

use std::process::{Command, Output};
use std::time::Duration;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde::Serialize;
use serde_json::Value;
use sqlx::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    #[event(header)]
    tenant: String,
}

fn kafka() -> String {
    std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!(
            "KAFKA_BROKERS is not set, and this test needs a real Kafka: run `cargo xtask test`, which starts one, or set \
             the variable to one of yours"
        )
    })
}

struct Scene {
    outbox: Outbox<Sqlite>,
    url: String,
    _directory: tempfile::TempDir,
}

impl Scene {
    /// A SQLite file with the events of these customers, one after the other.
    async fn new(customers: &[&str]) -> (Self, Vec<Uuid>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let outbox = Outbox::new(sqlx::SqlitePool::connect_with(options).await.unwrap());
        outbox.migrate().await.unwrap();
        let mut ids = Vec::new();
        for customer in customers {
            let mut tx = outbox.begin().await.unwrap();
            let order = OrderPlaced { customer: (*customer).to_owned(), tenant: "acme".to_owned() };
            ids.push(tx.emit(order).unwrap());
            tx.commit().await.unwrap();
        }
        let url = format!("sqlite:{}", path.display());
        (Self { outbox, url, _directory: directory }, ids)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(["--database-url", &self.url, "events"])
            .args(arguments)
            .env_remove("KAFKA_BROKERS")
            .env_remove("OUTBOX_BROKERS")
            .output()
            .unwrap()
    }

    /// What it prints if it succeeds.
    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.printed(&[arguments, &["-o", "json"]].concat());
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs it, and returns the exit code and what is said.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Publishes what there is to a topic of its own, and returns the deployment's prefix.
    async fn published(&self) -> String {
        let prefix = format!("cli-{}-", Uuid::now_v7().simple());
        let client = ClientConfig::new().set("bootstrap.servers", kafka()).clone();
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        let topic = format!("{prefix}orders");
        let topic = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
        for created in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
        let publisher = KafkaPublisher::builder(&*kafka()).topic_prefix(&prefix).build().unwrap();
        let drain = Relay::new(self.outbox.clone(), publisher).drain();
        tokio::time::timeout(Duration::from_secs(60), drain).await.unwrap().unwrap();
        prefix
    }
}

fn texts<'v>(rows: &'v [Value], field: &str) -> Vec<&'v str> {
    rows.iter().map(|row| row[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_listed_the_newest_first_and_a_list_is_continued() {
    let (scene, ids) = Scene::new(&["ann", "bob", "ann"]).await;
    let ids: Vec<String> = ids.iter().rev().map(ToString::to_string).collect();
    let all = scene.json(&["list"]);
    assert_eq!(texts(&all, "id"), ids);
    let fields: Vec<&String> = all[0].as_object().unwrap().keys().collect();
    let expected =
        ["bytes", "id", "key", "lane", "name", "occurred_at", "seq", "state", "topic", "version"];
    assert_eq!(fields, expected, "the fields are an interface");
    let first = scene.json(&["list", "--limit", "2"]);
    let before = first[1]["seq"].to_string();
    assert_eq!(texts(&scene.json(&["list", "--before", &before]), "id"), ids[2..]);
    assert_eq!(texts(&scene.json(&["list", "--key", "ann"]), "key"), ["ann", "ann"]);
    assert_eq!(scene.json(&["list", "--state", "published"]), Vec::<Value>::new());
    assert_eq!(scene.json(&["list", "--until", "1h"]), Vec::<Value>::new());
    assert_eq!(scene.json(&["list", "--since", "1h", "--topic", "orders"]).len(), 3);
    let table = scene.printed(&["list"]);
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "STATE", "TOPIC", "KEY", "NAME", "AGE"]);
    assert_eq!(scene.refused(&["list", "--limit", "0"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_from_its_row_to_its_offset() {
    let (scene, ids) = Scene::new(&["ann", "bob"]).await;
    let id = ids[0].to_string();
    let pending = scene.printed(&["show", &id]);
    assert!(pending.contains("of lane") && pending.contains(": pending"), "{pending}");
    assert!(pending.contains("no relay holds its lane"), "{pending}");
    assert!(pending.contains("not asked, since no brokers were named"), "{pending}");

    let prefix = scene.published().await;
    let brokers = kafka();
    let on_kafka = ["--brokers", &brokers, "--topic-prefix", &prefix];
    let shown = &scene.json(&[&["show", &id][..], &on_kafka].concat())[0];
    assert_eq!(shown["rows"][0]["state"], "published");
    assert_eq!(shown["event"]["headers"]["tenant"], "acme");
    assert_eq!(shown["places"]["topic"], format!("{prefix}orders"));
    let messages = shown["places"]["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 1, "{shown}");
    let place = format!("{}:{} on {prefix}orders", messages[0]["partition"], messages[0]["offset"]);
    let by_key = scene.printed(&[&["show", "--key", "ann"][..], &on_kafka].concat());
    assert!(by_key.contains(&id) && by_key.contains(&place), "{by_key}");

    let (code, said) = scene.refused(&["show", &Uuid::now_v7().to_string()]);
    assert_eq!(code, 1);
    assert!(said.contains("is in the outbox"), "{said}");
    assert_eq!(scene.refused(&["show", "--key", "eve"]).0, 1);
    assert_eq!(scene.refused(&["show"]).0, 2);
    assert_eq!(scene.refused(&["show", "17"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_knows_is_shown_even_if_kafka_is_away() {
    let (scene, ids) = Scene::new(&["ann"]).await;
    let output = scene.run(&["show", &ids[0].to_string(), "--brokers", "127.0.0.1:1"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(": pending"), "{shown}");
    assert!(shown.contains("on Kafka     not known: "), "{shown}");
    assert!(!shown.contains("not asked"), "{shown}");
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_though_its_topic_is_empty_or_missing() {
    let (scene, ids) = Scene::new(&["ann"]).await;
    let (brokers, id) = (kafka(), ids[0].to_string());
    let missing = format!("cli-{}-", Uuid::now_v7().simple());
    // Nothing waits in the other outbox: its topic is created, and stays empty.
    let empty = Scene::new(&[]).await.0.published().await;
    for prefix in [&missing, &empty] {
        let on_kafka = ["--brokers", &brokers, "--topic-prefix", prefix];
        let shown = scene.printed(&[&["show", &id][..], &on_kafka].concat());
        let nowhere = format!("not found on {prefix}orders among 0 messages\n");
        assert!(shown.contains(&nowhere), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_previewed_confirmed_and_kept_to_its_rate() {
    let (scene, ids) = Scene::new(&["ann", "bob", "ann"]).await;
    scene.published().await;
    let (code, said) = scene.refused(&["replay", "--yes"]);
    assert!(code == 2 && said.contains("--all"), "{said}");
    let (code, said) = scene.refused(&["replay", "--all"]);
    assert!(code == 2 && said.contains("--dry-run"), "{said}");

    let preview = scene.json(&["replay", "--key", "ann", "--dry-run"]);
    assert_eq!(preview[0], serde_json::json!({"chosen": 2, "replayed": 0, "dry_run": true}));
    assert_eq!(scene.json(&["list", "--state", "pending"]), Vec::<Value>::new());
    let printed = scene.printed(&["replay", "--all", "--rate", "1000/s", "--yes"]);
    assert_eq!(printed, "published again: 3 of 3 events\n");
    let again = scene.json(&["list", "--state", "pending"]);
    let ids: Vec<String> = ids.iter().rev().map(ToString::to_string).collect();
    assert_eq!(texts(&again, "id"), ids, "in their order");

    let first = scene.json(&["list", "--state", "published"]).pop().unwrap()["seq"].to_string();
    let rest = scene.json(&["replay", "--all", "--after", &first, "--dry-run"]);
    assert_eq!(rest[0]["chosen"], 2);
    let one = scene.json(&["replay", &ids[0], "--yes"]);
    assert_eq!(one[0], serde_json::json!({"chosen": 1, "replayed": 1, "dry_run": false}));
}
