//! `outbox doctor` against real servers: what is wrong is found, and the exit code says so.

use std::process::{Command, Output};

use outbox::Outbox;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{MySql, MySqlPool, PgPool};
use uuid::Uuid;

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

fn doctor(database: &str, schema: &str, brokers: &str, more: &[&str]) -> (Vec<Value>, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.args(["doctor", "-o", "json", "--schema", schema, "--brokers", brokers]).args(more);
    command.env_clear().env("OUTBOX_DATABASE_URL", database).env("PATH", server("PATH"));
    let output = command.output().unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), output)
}

fn verdict<'a>(findings: &'a [Value], area: &str, check: &str) -> &'a str {
    let of = |finding: &&Value| finding["area"] == area && finding["check"] == check;
    let found = findings.iter().find(of);
    let found = found.unwrap_or_else(|| panic!("no finding {area} {check}: {findings:#?}"));
    found["verdict"].as_str().unwrap()
}

async fn new_schema() -> (Outbox<sqlx::Postgres>, String) {
    let url = server("DATABASE_URL");
    let pool = PgPool::connect_with(url.parse::<PgConnectOptions>().unwrap()).await.unwrap();
    let schema = format!("doctor_{}", Uuid::now_v7().simple());
    sqlx::query(sqlx::AssertSqlSafe(format!("create schema {schema}")))
        .execute(&pool)
        .await
        .unwrap();
    (Outbox::builder(pool).schema(&schema).build().unwrap(), schema)
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_and_topics_fail_and_say_what_to_do() {
    let (outbox, schema) = new_schema().await;
    let (url, brokers) = (server("DATABASE_URL"), server("KAFKA_BROKERS"));
    let no_topic = format!("doctor-{schema}");
    let (found, output) = doctor(&url, &schema, &brokers, &["--topic", &no_topic]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(verdict(&found, "schema", "version"), "fail");
    assert_eq!(verdict(&found, "topics", "topic"), "fail");
    let version = found.iter().find(|finding| finding["check"] == "version").unwrap();
    assert!(version["fix"].as_str().unwrap().contains("outbox migrate up"), "{version}");

    outbox.migrate().await.unwrap();
    let (found, output) = doctor(&url, &schema, &brokers, &["--only", "db,schema,clock"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (area, check, expected) in [
        ("schema", "version", "ok"),
        ("schema", "rights", "ok"),
        ("schema", "cluster", "ok"),
        // Nobody publishes, and nothing waits yet.
        ("schema", "relays", "warn"),
        ("db", "writable", "ok"),
        ("clock", "skew", "ok"),
    ] {
        assert_eq!(verdict(&found, area, check), expected, "{area} {check}");
    }
    assert!(!found.iter().any(|finding| finding["area"] == "kafka"), "{found:#?}");
    let (_, output) = doctor(&url, &schema, &brokers, &["--only", "schema", "--deny-warnings"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn servers_that_do_not_answer_are_told_apart_from_wrong_settings_and_no_password_is_shown() {
    let database = "postgres://me:hunter2@127.0.0.1:1/orders";
    let (found, output) = doctor(database, "orders", "127.0.0.1:1", &["--statement-timeout", "1s"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert_eq!(verdict(&found, "db", "server"), "fail");
    assert_eq!(verdict(&found, "kafka", "brokers"), "fail");
    assert!(!format!("{output:?} {found:?}").contains("hunter2"), "{output:?}");
    assert!(output.stderr.ends_with(b"checks failed, 0 warnings\n"), "{output:?}");

    let (_, output) = doctor("oracle://me@db/orders", "orders", "127.0.0.1:1", &["--only", "db"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_is_examined_with_its_settings() {
    let (url, brokers) = (server("MYSQL_URL"), server("KAFKA_BROKERS"));
    let pool = MySqlPool::connect(&url).await.unwrap();
    let schema = format!("doctor_{}", Uuid::now_v7().simple());
    let outbox: Outbox<MySql> = Outbox::builder(pool).schema(&schema).build().unwrap();
    outbox.migrate().await.unwrap();
    let (found, output) = doctor(&url, &schema, &brokers, &["--only", "db,schema,clock"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (area, check, expected) in [
        ("schema", "version", "ok"),
        ("schema", "relays", "warn"),
        ("db", "writable", "ok"),
        ("db", "packet", "ok"),
        ("clock", "skew", "ok"),
    ] {
        assert_eq!(verdict(&found, area, check), expected, "{area} {check}");
    }
    let drop = format!("drop schema {schema}");
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(outbox.pool()).await.unwrap();
}
