//! `outbox dead-letters` as a process, on a real Kafka.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

const GROUP: &str = "inventory";
const TIMEOUT: Duration = Duration::from_secs(30);

fn kafka() -> String {
    std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!(
            "KAFKA_BROKERS is not set, and this test needs a real Kafka: run `cargo xtask test`, which starts one, or set \
             the variable to one of yours"
        )
    })
}

/// A topic of its own, and its group's dead letters.
struct Scene {
    prefix: &'static str,
    /// As events declare it.
    declared: String,
    /// By its name on the brokers.
    topic: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Scene {
    async fn new(prefix: &'static str, name: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let declared = format!("cli-{name}-{now}");
        let topic = format!("{prefix}{declared}");
        let client = ClientConfig::new().set("bootstrap.servers", kafka()).clone();
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        let names = [(format!("{topic}.{GROUP}.dlt"), 2), (format!("{topic}.{GROUP}.retry.0"), 1)];
        let topics = names
            .each_ref()
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)));
        for created in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
        Self { prefix, declared, topic, producer: client.create().unwrap() }
    }

    fn dead_letter_topic(&self) -> String {
        format!("{}.{GROUP}.dlt", self.topic)
    }

    /// Writes a dead letter as a consumer does.
    fn write(&self, partition: i32, key: &[u8], id: &str, error: &str) {
        let headers = [
            ("ce_id", id),
            ("ce_type", "order.placed"),
            ("ce_dataversion", "2"),
            ("x-tenant", "acme"),
            ("outbox-original-topic", &self.topic),
            ("outbox-original-partition", "4"),
            ("outbox-original-offset", "17"),
            ("outbox-original-timestamp", "1764021330000"),
            ("outbox-group", GROUP),
            ("outbox-attempts", "10"),
            ("outbox-error-class", "transient"),
            ("outbox-error", error),
            ("outbox-first-failure", "1764021338000"),
            ("outbox-last-failure", "1764021339250"),
        ];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let topic = self.dead_letter_topic();
        let record = BaseRecord::to(&topic)
            .partition(partition)
            .key(key)
            .payload("{\"item\":\"apples\"}")
            .headers(headers);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    /// The same, and waits until it is there.
    fn give_up(&self, partition: i32, key: &[u8], id: &str, error: &str) {
        self.write(partition, key, id, error);
        self.producer.flush(TIMEOUT).unwrap();
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let mut outbox = Command::new(env!("CARGO_BIN_EXE_outbox"));
        outbox
            .args(["dead-letters", command, "--topic", &self.declared, "--group", GROUP])
            .args(["--topic-prefix", self.prefix])
            .args(more)
            .env("KAFKA_BROKERS", kafka());
        outbox
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.command(command, more).output().unwrap()
    }

    /// What it prints, if it succeeds.
    fn prints(&self, command: &str, more: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(command, more);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "{command} {more:?}: {status}: {stderr}");
        String::from_utf8(stdout).unwrap()
    }

    /// What it says, if it fails with this code and prints nothing.
    fn fails(&self, command: &str, more: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.run(command, more);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(
            (status.code(), &*stdout),
            (Some(code), &b""[..]),
            "{command} {more:?}: {stderr}"
        );
        stderr
    }

    fn listed_places(&self) -> Vec<String> {
        let listed = self.prints("list", &["-o", "json"]);
        let letters =
            listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        letters.map(|letter| letter["place"].as_str().unwrap().to_owned()).collect()
    }

    /// All on the topic by which dead letters are replayed.
    fn replayed(&self) -> Vec<OwnedMessage> {
        let topic = format!("{}.{GROUP}.retry.0", self.topic);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka())
            .set("group.id", "outbox-cli-test")
            .create()
            .unwrap();
        let (low, high) = consumer.fetch_watermarks(&topic, 0, TIMEOUT).unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&topic, 0, Offset::Offset(low)).unwrap();
        consumer.assign(&assignment).unwrap();
        (low..high)
            .map(|_| consumer.poll(TIMEOUT).expect("a message within 30 s").unwrap().detach())
            .collect()
    }
}

fn header<'m>(message: &'m OwnedMessage, name: &str) -> Option<&'m str> {
    let value = message.headers()?.iter().find(|header| header.key == name)?.value?;
    Some(std::str::from_utf8(value).unwrap())
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let scene = Scene::new("staging-", "all").await;
    let id = "018f0000-0000-7000-8000-000000000001";
    scene.give_up(0, b"alice", id, "the warehouse is closed\nuntil Monday");
    scene.give_up(0, b"carol", "018f0000-0000-7000-8000-000000000002", "not now");
    scene.give_up(1, &[0xff, 0x1b], "018f0000-0000-7000-8000-000000000003", "not now");

    let listed = scene.prints("list", &[]);
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let columns =
        ["PLACE", "CAME FROM", "EVENT", "KEY", "ATTEMPTS", "CLASS", "LAST FAILURE", "ERROR"];
    assert_eq!(lines[0], columns);
    let first = [
        "0:0",
        "4:17",
        "order.placed v2",
        "alice",
        "10",
        "transient",
        "2025-11-24T21:55:39Z",
        "the warehouse is closed",
    ];
    assert_eq!(lines[1], first);
    assert_eq!((lines[2][0], lines[3][0], lines[3][3]), ("0:1", "1:0", "0xff1b"));
    assert_eq!(lines.len(), 4);

    let listed = scene.prints("list", &["-o", "json"]);
    let letter: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&letter["key"], &letter["event_id"]), (&"alice".into(), &id.into()));
    assert_eq!(letter["payload"], "{\"item\":\"apples\"}");
    assert_eq!(letter["error"], "the warehouse is closed\nuntil Monday");
    assert_eq!(letter["last_failure"], "2025-11-24T21:55:39.25Z");
    assert_eq!(letter["headers"][3], serde_json::json!({ "name": "x-tenant", "value": "acme" }));

    let shown = scene.prints("show", &["0:0", "1:0"]);
    for line in [
        &format!("place          0:0 on {}", scene.dead_letter_topic()),
        &format!("came from      4:17 on {}", scene.topic),
        &format!("id             {id}"),
        "key            0xff1b",
        "  until Monday",
        "  x-tenant: acme",
        "  outbox-original-timestamp: 1764021330000",
        "payload, 17 bytes",
        "  {\"item\":\"apples\"}",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "`{line}` is missing in\n{shown}");
    }

    let said = scene.fails("show", &["9:9"], 1);
    let place = format!("no such dead letter at 9:9 on `{}`", scene.dead_letter_topic());
    assert!(said.contains(&place) && said.contains("`outbox dead-letters list`"), "{said}");

    let said = scene.prints("replay", &["0:0"]);
    assert!(said.starts_with("replayed 1\n") && said.contains(".retry.0"), "{said}");
    let replayed = scene.replayed();
    assert_eq!(replayed.len(), 1);
    assert_eq!(
        (replayed[0].key(), replayed[0].payload()),
        (Some(&b"alice"[..]), Some(&b"{\"item\":\"apples\"}"[..]))
    );
    for (name, value) in [
        ("ce_id", id),
        ("ce_type", "order.placed"),
        ("ce_dataversion", "2"),
        ("x-tenant", "acme"),
        ("outbox-original-topic", &scene.topic),
        ("outbox-original-partition", "4"),
        ("outbox-original-offset", "17"),
        ("outbox-original-timestamp", "1764021330000"),
        ("outbox-group", GROUP),
        ("outbox-attempts", "0"),
    ] {
        assert_eq!(header(&replayed[0], name), Some(value), "{name}");
    }
    assert_eq!(header(&replayed[0], "outbox-error"), None, "its attempts begin again");
    assert_eq!(scene.listed_places(), ["0:1", "1:0"]);

    assert!(scene.fails("discard", &["1:0"], 2).contains("add `--yes`"));
    assert_eq!(scene.prints("discard", &["1:0", "--yes"]), "discarded 1\n");
    assert_eq!(scene.listed_places(), ["0:1"]);
    let would = scene.prints("replay", &["--all", "--dry-run"]);
    assert_eq!(would, "1 would be replayed; nothing was done\n");
    assert_eq!(scene.listed_places(), ["0:1"]);
    assert!(scene.prints("replay", &["--all"]).starts_with("replayed 1\n"));
    assert_eq!(scene.replayed().len(), 2, "and nothing that was discarded");
    assert_eq!(scene.prints("list", &[]), "");
    assert_eq!(scene.prints("discard", &["--all", "--yes"]), "discarded 0\n");
    let shown = scene.prints("show", &["0:0"]);
    assert!(shown.contains("0:0 on"), "what was replayed is still there: {shown}");
}

#[tokio::test]
async fn dead_letters_are_counted_exported_and_replayed_by_what_they_are_like() {
    let scene = Scene::new("", "like").await;
    for (n, key) in ["alice", "bob", "alice", "carol"].into_iter().enumerate() {
        let id = format!("018f0000-0000-7000-8000-00000000000{n}");
        let error = if n < 3 { "the warehouse is closed" } else { "no such item" };
        scene.give_up((n % 2) as i32, key.as_bytes(), &id, error);
    }
    assert_eq!(scene.prints("count", &[]), "4\n");
    assert_eq!(scene.prints("count", &["--error", "*closed", "--key", "alice"]), "2\n");
    let by_error = scene.prints("count", &["--by", "error"]);
    assert_eq!(by_error, "COUNT  OF\n3      the warehouse is closed\n1      no such item\n");
    assert_eq!(scene.prints("count", &["--since", "2025-11-24T21:55:40Z"]), "0\n");
    assert_eq!(scene.prints("count", &["--until", "2025-11-24T21:55:40Z"]), "4\n");

    let first = scene.run("list", &["--limit", "1", "-o", "json"]);
    assert_eq!(first.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    let said = String::from_utf8(first.stderr).unwrap();
    assert!(said.contains("1 of 4 dead letters"), "{said}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("letters.jsonl");
    let path = file.to_str().unwrap();
    let said = scene.prints("export", &["--class", "transient", "--file", path]);
    assert_eq!(said, format!("exported 4 to {path}\n"));
    let exported = std::fs::read_to_string(&file).unwrap();
    assert_eq!(exported, scene.prints("export", &[]));
    assert_eq!(exported, scene.prints("list", &["-o", "json"]), "one form for all");
    assert!(scene.fails("export", &["--file", path], 1).contains("Nothing was exported"));

    let json = scene.prints("replay", &["--error", "*closed", "--limit", "2", "-o", "json"]);
    let acted: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&acted["selected"], &acted["done"]), (&2.into(), &2.into()));
    assert_eq!(scene.replayed().len(), 2);
    assert_eq!(scene.listed_places(), ["1:0", "1:1"]);
    // A place that does not meet the conditions is not silently left alone.
    scene.fails("replay", &["1:0", "1:1", "--error", "*closed"], 1);
    assert_eq!(scene.listed_places(), ["1:0", "1:1"]);
}

/// The events of each key on the topic by which dead letters are replayed, by their numbers.
fn numbers_by_key(messages: &[OwnedMessage]) -> BTreeMap<Vec<u8>, Vec<u64>> {
    let mut by_key = BTreeMap::<Vec<u8>, Vec<u64>>::new();
    for message in messages {
        let id: uuid::Uuid = header(message, "ce_id").unwrap().parse().unwrap();
        by_key.entry(message.key().unwrap().to_vec()).or_default().push(id.as_u128() as u64);
    }
    by_key
}

#[tokio::test]
async fn a_replay_that_is_killed_and_started_again_replays_each_at_least_once_and_continues() {
    const COUNT: u64 = 3_000;
    const KEYS: u64 = 50;
    let scene = Scene::new("", "killed").await;
    for n in 0..COUNT {
        let (id, key) = (uuid::Uuid::from_u128(n.into()).to_string(), format!("key-{}", n % KEYS));
        scene.write((n % KEYS % 2) as i32, key.as_bytes(), &id, "not now");
    }
    scene.producer.flush(TIMEOUT).unwrap();
    let letters = outbox::consume::DeadLetters::builder(kafka()).topic(&scene.declared);
    let letters = letters.group(GROUP).build().unwrap();
    let open = async || {
        let all = outbox::consume::DeadLetterFilter::all();
        letters.select(all).await.unwrap().len()
    };
    assert_eq!(open().await, COUNT);

    // It would take a minute, and is killed as soon as it has replayed some.
    let mut replay = scene.command("replay", &["--all", "--rate", "50/s"]);
    let mut replay = replay.stdout(Stdio::null()).spawn().unwrap();
    while open().await > COUNT - 20 {
        assert_eq!(replay.try_wait().unwrap(), None, "it has ended by itself");
    }
    replay.kill().unwrap();
    assert_eq!(replay.wait().unwrap().signal(), Some(9));
    let left = open().await;
    assert!(0 < left && left < COUNT, "{left}");
    let before = scene.replayed().len() as u64;
    assert!(before >= COUNT - left, "what is marked was replayed: {before}, {left} are open");

    let said = scene.prints("replay", &["--all"]);
    assert!(said.starts_with(&format!("replayed {left}\n")), "it continues: {said}");
    assert_eq!(open().await, 0);
    let replayed = scene.replayed();
    assert_eq!(replayed.len() as u64, before + left);
    for (key, numbers) in numbers_by_key(&replayed) {
        let mut once = numbers.clone();
        once.dedup();
        assert!(numbers.len() - once.len() <= 1, "one of a key is under way: {numbers:?}");
        let number = std::str::from_utf8(&key).unwrap().strip_prefix("key-").unwrap();
        let first: u64 = number.parse().unwrap();
        let expected: Vec<u64> = (first..COUNT).step_by(KEYS as usize).collect();
        assert_eq!(once, expected, "all of key {first}, in order");
    }
}

#[tokio::test]
async fn a_place_without_a_dead_letter_is_an_error_that_says_how_to_list_and_nothing_is_done() {
    let scene = Scene::new("", "unknown").await;
    scene.give_up(1, b"alice", "018f0000-0000-7000-8000-000000000001", "not now");
    for (command, more) in [("show", None), ("replay", None), ("discard", Some("--yes"))] {
        let more: Vec<&str> = ["1:0", "0:7"].into_iter().chain(more).collect();
        let said = scene.fails(command, &more, 1);
        assert!(said.contains("no such dead letter at 0:7 on"), "{said}");
    }
    assert_eq!(scene.listed_places(), ["1:0"]);
    assert!(scene.replayed().is_empty());
    assert!(scene.fails("replay", &[], 2).contains("say which dead letters"));
    assert!(scene.fails("discard", &["--all"], 2).contains("add `--yes`"));
    assert!(scene.fails("replay", &["first"], 2).contains("PARTITION:OFFSET"));
    assert_eq!(scene.listed_places(), ["1:0"]);
}
