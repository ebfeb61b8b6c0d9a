//! A running `outbox tail`, and outboxes to follow.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use outbox::event::EventRecord;
use outbox::{DomainEvent, Outbox, OutboxDatabase};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use uuid::Uuid;

/// Time after which a test fails rather than hangs.
pub const BOUND: Duration = Duration::from_secs(60);

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2)]
pub struct OrderPlaced {
    #[event(key)]
    customer: String,
    email: String,
}

pub fn placed(customer: &str) -> OrderPlaced {
    OrderPlaced { customer: customer.to_owned(), email: format!("{customer}@shop") }
}

pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set, and this test needs a real server: run `cargo xtask test`")
    })
}

/// A running `outbox tail`.
pub struct Tail {
    child: Child,
    pub lines: Receiver<String>,
    said: Receiver<String>,
}

pub fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.args(["tail", "--color", "never"]).args(arguments).env_clear();
    command
}

impl Tail {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child =
            command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { lines: lines(out), said: lines(err), child }
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(BOUND).expect("a line")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits until it says this, and returns what it said before.
    pub fn until_said(&self, words: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(BOUND) {
                Ok(line) if line.contains(words) => return before,
                Ok(line) => before.push(line),
                Err(_) => panic!("it never said `{words}`: {before:?}"),
            }
        }
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct File {
    pub outbox: Outbox<Sqlite>,
    pub url: String,
    _directory: tempfile::TempDir,
}

impl File {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let outbox = Outbox::new(SqlitePool::connect_with(options).await.unwrap());
        outbox.migrate().await.unwrap();
        Self { outbox, url: format!("sqlite:{}", path.display()), _directory: directory }
    }

    /// Follows it, once it does.
    pub fn tail(&self, arguments: &[&str]) -> Tail {
        let tail = Tail::start(&[&["-D", &self.url], arguments].concat());
        tail.until_said("following the outbox");
        tail
    }
}

pub async fn emit<DB: OutboxDatabase>(outbox: &Outbox<DB>, event: OrderPlaced) -> Uuid {
    let mut tx = outbox.begin().await.unwrap();
    let id = tx.emit(event).unwrap();
    tx.commit().await.unwrap();
    id
}

pub async fn emit_bytes<DB: OutboxDatabase>(outbox: &Outbox<DB>, payload: Option<&[u8]>) {
    let mut record = EventRecord::from_event(&placed("raw")).unwrap();
    record.payload = payload.map(<[u8]>::to_vec);
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_record(record).unwrap();
    tx.commit().await.unwrap();
}

/// An outbox in a schema of its own. It is dropped at the end of a test that succeeds.
pub async fn in_postgres() -> (PgPool, Outbox<Postgres>, String) {
    let pool = PgPool::connect(&server("DATABASE_URL")).await.unwrap();
    let schema = format!("tail_{}", Uuid::now_v7().simple());
    run(&pool, &format!("create schema {schema}")).await;
    let outbox = Outbox::builder(pool.clone()).schema(&schema).build().unwrap();
    outbox.migrate().await.unwrap();
    (pool, outbox, schema)
}

pub async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

/// What differs between runs.
pub fn stable() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[-------time-------]");
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]");
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f-]{27}", "[----------------id----------------]");
    settings
}
