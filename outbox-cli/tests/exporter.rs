//! `outbox exporter` and `outbox relay run --http`, scraped as Prometheus does it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outbox::consume::DeadLetters;
use outbox::{DomainEvent, Outbox};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::sqlite::SqliteConnectOptions;

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "scraped", name = "noted", keyless)]
struct Noted {}

struct Scraped {
    child: Child,
    address: String,
}

impl Scraped {
    /// An exporter of an SQLite file, on a free port, once it listens.
    fn exporter(database: &str) -> Self {
        Self::start(&["exporter", "--every", "50ms", "--database-url", database])
    }

    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(arguments)
            .args(["--http", "127.0.0.1:0", "--log-format", "json"])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        // Its log is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) =
                    line["fields"]["address"].as_str().or(line["address"].as_str())
                {
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        let address = told.recv().expect("it ended before it listened");
        Self { child, address }
    }

    /// Status and body of an answer.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: outbox\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Scrapes until the metrics have this line.
    fn until_reported(&self, line: &str) -> String {
        loop {
            let (_, metrics) = self.get("/metrics");
            if metrics.lines().any(|reported| reported == line) {
                return metrics;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_exporter_reports_what_waits_without_a_relay_and_that_its_database_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.db");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let exporter = Scraped::exporter(&format!("sqlite:{}", file.display()));
    assert_eq!(exporter.get("/livez"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    assert_eq!(exporter.get("/readyz").0, "HTTP/1.1 200 OK");
    assert_eq!(exporter.get("/other").0, "HTTP/1.1 404 Not Found");
    exporter.until_reported("outbox_database_up{outbox=\"outbox\"} 0");

    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    Outbox::new(pool).migrate().await.unwrap();
    let metrics = exporter.until_reported("outbox_database_up{outbox=\"outbox\"} 1");
    for line in [
        "# HELP outbox_lanes_owned Lanes that a living relay holds, of 16. Nothing publishes the events of the others.",
        "# TYPE outbox_lanes_owned gauge",
        "outbox_lanes_owned{outbox=\"outbox\"} 0",
        "outbox_backlog{outbox=\"outbox\"} 0",
        "outbox_oldest_pending_seconds{outbox=\"outbox\"} 0",
        "outbox_parked{outbox=\"outbox\"} 0",
        concat!("outbox_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(metrics.lines().any(|reported| reported == line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_knows_brokers_counts_the_open_dead_letters_of_each_group() {
    let brokers = std::env::var("KAFKA_BROKERS").expect(
        "KAFKA_BROKERS is not set, and this test needs a real Kafka: run `cargo xtask test`",
    );
    let prefix = format!("{}-", uuid::Uuid::now_v7());
    let client = ClientConfig::new().set("bootstrap.servers", &brokers).clone();
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let [events, mail, idle] =
        ["orders", "orders.mail.dlt", "orders.idle.dlt"].map(|name| format!("{prefix}{name}"));
    let topics =
        [&events, &mail, &idle].map(|name| NewTopic::new(name, 2, TopicReplication::Fixed(1)));
    for created in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        created.unwrap();
    }
    let producer: FutureProducer = client.create().unwrap();
    let give_up = async |partition| {
        let letter = FutureRecord::<str, str>::to(&mail).payload("{}").partition(partition);
        producer.send(letter, Duration::from_secs(60)).await.unwrap();
    };
    give_up(0).await;
    give_up(1).await;

    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", directory.path().join("shop.db").display());
    let exporter = ["exporter", "--database-url", &url, "--brokers", &brokers];
    let counted = ["--topic-prefix", &prefix, "--dead-letters-every", "50ms"];
    let exporter = Scraped::start(&[&exporter[..], &counted].concat());
    let line = |group: &str, open: u64| {
        format!("outbox_dead_letters_open{{group=\"{group}\",topic=\"orders\"}} {open}")
    };
    let metrics = exporter.until_reported(&line("mail", 2));
    assert!(!metrics.contains("orders.mail"), "{metrics}");
    exporter.until_reported(&line("idle", 0));

    let letters = DeadLetters::builder(&*brokers).topic("orders").topic_prefix(&prefix);
    let letters = letters.group("mail").build().unwrap();
    let first = letters.list(1).await.unwrap().remove(0);
    letters.discard(&first).await.unwrap();
    exporter.until_reported(&line("mail", 1));
    give_up(0).await;
    exporter.until_reported(&line("mail", 2));
    // One that is gone is not reported as it was.
    admin.delete_topics(&[&mail], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    exporter.until_reported(&line("mail", 0));
}

#[tokio::test]
async fn a_relay_is_ready_and_reports_what_it_publishes() {
    let brokers = std::env::var("KAFKA_BROKERS").expect(
        "KAFKA_BROKERS is not set, and this test needs a real Kafka: run `cargo xtask test`",
    );
    let prefix = format!("{}-", uuid::Uuid::now_v7());
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic = format!("{prefix}scraped");
    let topic = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let outbox = Outbox::new(sqlx::SqlitePool::connect_with(options).await.unwrap());
    outbox.migrate().await.unwrap();

    let url = format!("sqlite:{}", path.display());
    let relay = ["relay", "run", "--database-url", &url, "--brokers", &brokers];
    let relay = Scraped::start(&[&relay[..], &["--topic-prefix", &prefix]].concat());
    let metrics = relay.until_reported("outbox_lanes_held{outbox=\"outbox\"} 16");
    assert_eq!(relay.get("/livez").0, "HTTP/1.1 200 OK");
    assert_eq!(relay.get("/readyz").0, "HTTP/1.1 200 OK");
    for line in [
        "# TYPE outbox_published_total counter",
        "outbox_published_total{outbox=\"outbox\"} 0",
        "outbox_take_overs_total{outbox=\"outbox\"} 0",
        "outbox_leases_lost_total{outbox=\"outbox\"} 0",
        "outbox_database_up{outbox=\"outbox\"} 1",
    ] {
        assert!(metrics.lines().any(|reported| reported == line), "{line}\n{metrics}");
    }

    let mut tx = outbox.begin().await.unwrap();
    tx.emit(Noted {}).unwrap();
    tx.commit().await.unwrap();
    let published = "outbox_published_total{outbox=\"outbox\",topic=\"scraped\",event=\"noted\"} 1";
    let metrics = relay.until_reported(published);
    let bucket = "outbox_delivery_seconds_bucket{outbox=\"outbox\",le=\"+Inf\"} 1";
    assert!(metrics.lines().any(|reported| reported == bucket), "{metrics}");
    relay.until_reported("outbox_broker_up{client=\"publisher\"} 1");
}
