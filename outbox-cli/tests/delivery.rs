//! `outbox relay run --delivery exactly-once` and `outbox relay hand-back`, against real servers.

use std::process::{Command, Output};

use outbox::{DomainEvent, Outbox};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgPool, SqlitePool};
use uuid::Uuid;

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "cli-delivery", name = "parcel.sent", version = 1)]
struct ParcelSent {
    #[event(key)]
    parcel: u64,
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

struct Scene {
    outbox: Outbox<sqlx::Postgres>,
    schema: String,
}

impl Scene {
    async fn new() -> Self {
        let url = server("DATABASE_URL").parse::<PgConnectOptions>().unwrap();
        let pool = PgPool::connect_with(url).await.unwrap();
        let schema = format!("delivery_{}", Uuid::now_v7().simple());
        let outbox = Outbox::builder(pool).schema(&schema).build().unwrap();
        outbox.migrate().await.unwrap();
        Self { outbox, schema }
    }

    async fn emit(&self, parcels: u64) {
        let mut tx = self.outbox.begin().await.unwrap();
        for parcel in 0..parcels {
            tx.emit(ParcelSent { parcel }).unwrap();
        }
        tx.commit().await.unwrap();
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.env_clear().env("PATH", server("PATH"));
        command.env("OUTBOX_DATABASE_URL", server("DATABASE_URL"));
        command.args(["-o", "json", "--schema", &self.schema]);
        command.args(["--brokers", &server("KAFKA_BROKERS")]);
        command.args(args).envs(variables.iter().copied()).output().unwrap()
    }

    /// What it prints, once it has succeeded.
    fn ok(&self, args: &[&str], variables: &[(&str, &str)]) -> Value {
        let output = self.run(args, variables);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn error(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args, &[]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const ONCE: [&str; 3] = ["relay", "run", "--once"];
const HAND_BACK: [&str; 3] = ["relay", "hand-back", "--yes"];

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_delivered_exactly_once_until_it_is_handed_back() {
    let scene = Scene::new().await;
    let nothing = scene.ok(&HAND_BACK, &[]);
    assert_eq!(nothing["handed_back"], false, "it is delivered at least once");

    scene.emit(3).await;
    let by_variables = [("OUTBOX_RELAY_DELIVERY", "exactly-once"), ("OUTBOX_RELAY_GROUPS", "4")];
    assert_eq!(scene.ok(&ONCE, &by_variables)["published"], 3);
    let status = scene.ok(&["status"], &[]);
    assert_eq!(status["delivery"], "exactly-once");
    let groups = status["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 4);
    assert!(groups.iter().all(|group| group["claim"].is_string() && group["relay"].is_null()));
    assert_eq!(groups[1]["lanes"], serde_json::json!([4, 5, 6, 7]));

    let said = scene.error(&ONCE, 78);
    assert!(said.contains("hand-back"), "{said}");
    let others = [&ONCE[..], &["--delivery", "exactly-once", "--groups", "8"]].concat();
    let said = scene.error(&others, 78);
    assert!(said.contains("in 4 groups"), "{said}");
    let found = doctor(&scene, &[]);
    // The tests' cluster has one broker.
    for (area, check) in [("topics", "progress"), ("kafka", "transactions")] {
        assert_eq!(verdict(&found, area, check), "warn", "{area} {check}");
    }
    // Their Postgres has no standby, and may have fsync off, which is faster.
    let fsync: String =
        sqlx::query_scalar("show fsync").fetch_one(scene.outbox.pool()).await.unwrap();
    let of_database = if fsync == "on" { "warn" } else { "fail" };
    assert_eq!(verdict(&found, "db", "exactly-once"), of_database);

    let said = scene.error(&["relay", "hand-back"], 2);
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(scene.ok(&["relay", "hand-back", "--dry-run"], &[])["handed_back"], false);
    assert_eq!(scene.ok(&["status"], &[])["delivery"], "exactly-once");
    assert_eq!(scene.ok(&HAND_BACK, &[])["handed_back"], true);
    assert_eq!(scene.ok(&["status"], &[])["delivery"], "at-least-once");
    scene.emit(2).await;
    assert_eq!(scene.ok(&ONCE, &[])["published"], 2);
    let found = doctor(&scene, &["--delivery", "exactly-once"]);
    assert_eq!(verdict(&found, "kafka", "transactions"), "warn", "before it is changed");
    let found = doctor(&scene, &[]);
    let asks_brokers = |f: &Value| f["area"] == "kafka" && f["check"] == "transactions";
    assert!(!found.iter().any(asks_brokers), "{found:#?}");
}

fn doctor(scene: &Scene, more: &[&str]) -> Vec<Value> {
    findings(&scene.run(&[&["doctor"], more].concat(), &[]))
}

fn findings(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verdict<'a>(findings: &'a [Value], area: &str, check: &str) -> &'a str {
    let of = |finding: &&Value| finding["area"] == area && finding["check"] == check;
    let found = findings.iter().find(of);
    let found = found.unwrap_or_else(|| panic!("no finding {area} {check}: {findings:#?}"));
    found["verdict"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_in_a_file_is_delivered_exactly_once_until_it_is_handed_back() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("outbox.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let outbox = Outbox::new(SqlitePool::connect_with(options).await.unwrap());
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_all((0..3).map(|parcel| ParcelSent { parcel })).unwrap();
    tx.commit().await.unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.env_clear().current_dir(directory.path());
        command.args(["-o", "json", "-D", "sqlite:outbox.db", "-b", &server("KAFKA_BROKERS")]);
        command.args(args).output().unwrap()
    };
    let ok = |args: &[&str]| -> Value {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let once = [&ONCE[..], &["--delivery", "exactly-once", "--groups", "4"]].concat();
    assert_eq!(ok(&once)["published"], 3);
    let status = ok(&["status"]);
    assert_eq!(status["delivery"], "exactly-once");
    assert_eq!(status["groups"].as_array().unwrap().len(), 4);
    let refused = run(&ONCE);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("hand-back"));
    let found = findings(&run(&["doctor"]));
    assert_eq!(verdict(&found, "db", "exactly-once"), "ok");
    assert_eq!(verdict(&found, "topics", "progress"), "warn", "the tests' cluster has one broker");

    assert_eq!(ok(&HAND_BACK)["handed_back"], true);
    assert_eq!(ok(&["status"])["delivery"], "at-least-once");
    assert_eq!(ok(&ONCE)["published"], 0);
}

#[test]
fn a_database_in_memory_is_refused_with_the_reason() {
    let output = Command::new(env!("CARGO_BIN_EXE_outbox"))
        .env_clear()
        .args([
            "-D",
            "sqlite::memory:",
            "-b",
            &server("KAFKA_BROKERS"),
            "relay",
            "run",
            "--migrate",
        ])
        .args(["--delivery", "exactly-once"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("journal_mode = memory") && said.contains("did not start"), "{said}");
}

#[test]
fn exactly_once_on_mysql_is_refused_with_the_reason() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.env_clear().env("PATH", server("PATH"));
    command.env("OUTBOX_DATABASE_URL", server("MYSQL_URL"));
    command.args(["--brokers", &server("KAFKA_BROKERS"), "relay", "run"]);
    let ran = command.args(["--delivery", "exactly-once"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(78), "{said}");
    assert!(said.contains("MySQL and MariaDB cannot deliver exactly once"), "{said}");
    assert!(said.contains("did not start"), "{said}");
}
