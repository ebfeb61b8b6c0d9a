//! `outbox bench` as a process: it leaves nothing behind, whatever happens.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set, and this test needs a real server: run `cargo xtask test`")
    })
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.arg("bench").args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A database of its own, so that nothing else measures in it. It is dropped at the end of a test
/// that succeeds.
struct Database {
    name: String,
    url: String,
}

impl Database {
    async fn new() -> Self {
        let server = server("DATABASE_URL");
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        execute(&server, &format!("create database {name}")).await;
        let (host, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{host}/{name}"), name }
    }

    /// What of a measurement is there.
    async fn schemas(&self) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let schemas = "select nspname::text from pg_namespace where nspname like 'outbox%'";
        let found = sqlx::query_scalar(schemas).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        found
    }

    async fn drop(self) {
        let drop = format!("drop database {} with (force)", self.name);
        execute(&server("DATABASE_URL"), &drop).await;
    }
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

fn topics(prefix: &str) -> Vec<String> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).create().unwrap();
    let metadata = client.fetch_metadata(None, Duration::from_secs(30)).unwrap();
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Brokers learn of a deletion some time after it is acknowledged.
async fn until_gone(prefix: &str) {
    let gone = async {
        while !topics(prefix).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    assert!(gone.is_ok(), "topics of a measurement stay: {:?}", topics(prefix));
}

#[tokio::test]
async fn it_measures_postgres_and_kafka_and_leaves_nothing_behind() {
    let (database, brokers) = (Database::new().await, server("KAFKA_BROKERS"));
    let prefix = format!("bench-{}-", uuid::Uuid::now_v7().simple());
    let servers = ["-D", &database.url, "-b", &brokers, "--topic-prefix", &prefix];
    let work = ["--events", "300", "--size", "64", "--writers", "2", "--per-transaction", "7"];
    let latency = ["--rate", "200/s", "--duration", "500ms", "--yes", "-o", "json"];
    let ran = run(&[&servers[..], &work, &latency].concat());
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let fields: Vec<&String> = report.as_object().unwrap().keys().collect();
    let expected = [
        "commits_per_second",
        "database",
        "drain_mb_per_second",
        "drain_per_second",
        "drain_seconds",
        "emit_per_second",
        "emit_seconds",
        "events",
        "kafka",
        "latency",
        "note",
        "per_transaction",
        "size",
        "writers",
    ];
    assert_eq!(fields, expected, "the fields are an interface");
    let fields: Vec<&String> = report["latency"].as_object().unwrap().keys().collect();
    let expected = ["events", "max_seconds", "p50_seconds", "p99_seconds", "per_second"];
    assert_eq!(fields, expected);
    assert_eq!((&report["database"], &report["kafka"]), (&"postgres".into(), &true.into()));
    let number = |field: &str| report[field].as_f64().unwrap();
    // Of 300 events, the last transaction has 6.
    let commits = number("commits_per_second") * number("emit_seconds");
    assert_eq!(commits.round(), 43.0);
    assert_eq!((number("emit_per_second") * number("emit_seconds")).round(), 300.0);
    let latency = |field: &str| report["latency"][field].as_f64().unwrap();
    assert!(latency("events") > 0.0 && latency("p50_seconds") > 0.0);
    assert!(latency("p50_seconds") <= latency("p99_seconds"));
    assert!(latency("p99_seconds") <= latency("max_seconds"));
    assert_eq!(database.schemas().await, Vec::<String>::new());
    until_gone(&prefix).await;
    database.drop().await;
}

#[tokio::test]
async fn it_removes_what_it_made_when_it_is_interrupted_or_fails() {
    let (database, brokers) = (Database::new().await, server("KAFKA_BROKERS"));
    let prefix = format!("bench-{}-", uuid::Uuid::now_v7().simple());
    let servers = ["-D", &database.url, "-b", &brokers, "--topic-prefix", &prefix, "--yes"];
    let endless = ["--events", "100000000", "--writers", "2"];
    for signal in ["-INT", "-TERM"] {
        let child = command(&[&servers[..], &endless].concat());
        let child = { child }.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It has made both, and works.
        while topics(&prefix).is_empty() {
            tokio::task::yield_now().await;
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && said.contains("interrupted"), "{said}");
        assert!(ended.stdout.is_empty());
        assert_eq!(database.schemas().await, Vec::<String>::new(), "{said}");
        until_gone(&prefix).await;
    }
    // Kafka refuses the topic, once the tables are there.
    let refused = ["-D", &database.url, "-b", &brokers, "--topic-prefix", "not legal ", "--yes"];
    let refused = run(&refused);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("could not be created"), "{said}");
    assert_eq!(database.schemas().await, Vec::<String>::new());
    database.drop().await;
}

#[tokio::test]
async fn sqlite_is_measured_without_kafka_and_its_own_tables_stay() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", directory.path().join("orders.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let create = "create table orders (id integer primary key)";
    sqlx::query(create).execute(&mut connection).await.unwrap();
    let work = ["--without-kafka", "--events", "50", "--duration", "0", "--yes"];
    let ran = run(&[&["-D", &url], &work[..]].concat());
    let (out, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d+/s", "[n]/s");
    settings.add_filter(r"[\d.]+ MB/s", "[n] MB/s");
    settings.bind(|| {
        insta::assert_snapshot!(out, @r#"
    sqlite to nowhere, 50 events of 300 bytes, 8 writers
    emit      [n]/s
    commits   [n]/s
    drain     [n]/s
              [n] MB/s of payloads
    "#)
    });
    assert!(said.contains("one run, on these machines"), "{said}");
    let tables = "select name from sqlite_master where type = 'table' and name not like 'sqlite%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await.unwrap();
    assert_eq!(tables, ["orders"]);
}

#[test]
fn it_does_not_begin_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.db");
    std::fs::File::create(&file).unwrap();
    let ran = run(&["-D", &format!("sqlite:{}", file.display()), "--without-kafka"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("--yes") && said.contains("10000 events"), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0, "nothing was written");
}
