//! What the tests share: the servers they run against, and an order service to run on them.

#![allow(dead_code, unused_macros)] // each test program uses a part of it

#[macro_use]
pub mod consumers;
pub mod doomed;
pub mod log;
pub mod mysql_writers;
pub mod oracle;
pub mod parked;
pub mod processes;
pub mod proxy;
pub mod random;
pub mod relays;
pub mod requests;
pub mod secured;
pub mod throttle;
pub mod topics;
pub mod traces;
pub mod wait;
pub mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbox::event::EventRecord;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{DomainEvent, Outbox, OutboxDatabase};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor, MySqlPool, PgPool, SqlitePool};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use wait::{eventually, eventually_some, within_a_minute};

/// Runs each test on SQLite, on MariaDB and on two versions of Postgres.
macro_rules! on_every_store {
    ($($promise:ident)*) => {
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let pool = crate::support::mysql(4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
        on_postgres_and_sqlite! { $($promise)* }
    };
}

/// The same without MySQL, which does not deliver exactly once.
macro_rules! on_postgres_and_sqlite {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let (pool, _directory) = crate::support::sqlite(4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let pool = crate::support::postgres(crate::support::POSTGRES, 4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
        mod other_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let pool = crate::support::postgres(crate::support::OTHER_POSTGRES, 4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
    };
}

/// The URL of the main Postgres.
pub const POSTGRES: &str = "DATABASE_URL";
/// The URL of a MariaDB or MySQL.
pub const MYSQL: &str = "MYSQL_URL";
/// The URL of a Postgres of another version.
pub const OTHER_POSTGRES: &str = "DATABASE_URL_ALT";

pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set, and this test needs a real server: run `cargo xtask test`, which starts the \
             servers, or set the variable to one of yours"
        )
    })
}

pub fn kafka() -> String {
    server("KAFKA_BROKERS")
}

/// Defaults that an administrator may have chosen. Code that does not state what it needs may
/// depend on one of them. All databases on [`OTHER_POSTGRES`] have them.
pub const HOSTILE: &[(&str, &str)] = &[
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("synchronous_commit", "off"),
    ("statement_timeout", "20s"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "1min"),
    ("search_path", "elsewhere"),
    ("row_security", "on"),
    ("enable_indexscan", "off"),
    ("enable_nestloop", "off"),
    ("plan_cache_mode", "force_custom_plan"),
    ("standard_conforming_strings", "off"),
    ("bytea_output", "escape"),
    ("intervalstyle", "sql_standard"),
    ("datestyle", "SQL, DMY"),
    ("timezone", "Pacific/Apia"),
    ("extra_float_digits", "-15"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
];

/// A new, empty database on the server in `variable`, and a pool of `connections` to it.
pub async fn postgres(variable: &str, connections: u32) -> PgPool {
    if variable == OTHER_POSTGRES {
        return postgres_with(variable, HOSTILE, connections).await;
    }
    postgres_with(variable, &[], connections).await
}

/// The same with these defaults. The pool's own connections may write, and find their tables, by
/// settings of each connection. Other connections to the database have the defaults.
pub async fn postgres_with(variable: &str, defaults: &[(&str, &str)], connections: u32) -> PgPool {
    let url = server(variable);
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a Postgres URL");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let admin = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options.clone())
        .await
        .expect("a Postgres that answers");
    admin
        .execute(sqlx::AssertSqlSafe(format!("create database {name}")))
        .await
        .expect("the right to create databases");
    for (setting, value) in defaults {
        let set = format!("alter database {name} set {setting} = '{value}'");
        admin.execute(sqlx::AssertSqlSafe(set)).await.expect("a setting of a database");
    }
    admin.close().await;
    let is = |name: &str| defaults.iter().any(|(setting, _)| *setting == name);
    let mut told = String::new();
    if is("default_transaction_read_only") {
        told.push_str("set default_transaction_read_only = off;");
    }
    if is("search_path") {
        told.push_str("set search_path = public;");
    }
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(20))
        .after_connect(move |connection, _| {
            let told = sqlx::raw_sql(sqlx::AssertSqlSafe(told.clone()));
            Box::pin(async move { told.execute(connection).await.map(drop) })
        })
        .connect_with(options.database(&name))
        .await
        .expect("the new database")
}

/// Another pool to the same database, with a setting of its own.
pub async fn postgres_again(pool: &PgPool, setting: &'static str, value: &'static str) -> PgPool {
    let options = (*pool.connect_options()).clone().options([(setting, value)]);
    PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("the same database")
}

/// As [`postgres`], reached through a task of the current thread, which cannot run while a future
/// of that thread is polled. So each answer of the server is one that must be waited for, however
/// fast the server is.
pub async fn postgres_that_is_waited_for(variable: &str, connections: u32) -> PgPool {
    let direct = postgres(variable, 1).await;
    let server = (*direct.connect_options()).clone();
    let port = through_a_task((server.get_host().to_owned(), server.get_port())).await;
    let through = server
        .host("127.0.0.1")
        .port(port)
        .options([("default_transaction_read_only", "off"), ("search_path", "public")]);
    let pool = PgPoolOptions::new().max_connections(connections);
    pool.connect_with(through).await.expect("a Postgres that answers")
}

/// The same with a MySQL.
pub async fn mysql_that_is_waited_for(connections: u32) -> MySqlPool {
    let direct = mysql(1).await;
    let server = (*direct.connect_options()).clone();
    let port = through_a_task((server.get_host().to_owned(), server.get_port())).await;
    let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(connections);
    pool.connect_with(server.host("127.0.0.1").port(port)).await.expect("a MySQL that answers")
}

/// A port whose connections a task of the current thread passes on.
async fn through_a_task(upstream: (String, u16)) -> u16 {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = proxy.local_addr().expect("a port").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            let Ok(mut server) = TcpStream::connect(upstream.clone()).await else { return };
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    port
}

/// A new, empty database on the MariaDB or MySQL in [`MYSQL`], and a pool of `connections` to it.
pub async fn mysql(connections: u32) -> MySqlPool {
    let options: sqlx::mysql::MySqlConnectOptions = server(MYSQL).parse().expect("a MySQL URL");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut admin = options.connect().await.expect("a MySQL that answers");
    let create = format!("create database {name}");
    admin.execute(sqlx::AssertSqlSafe(create)).await.expect("the right to create databases");
    admin.close().await.expect("the end of a connection");
    sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(20))
        .connect_with(options.database(&name))
        .await
        .expect("the new database")
}

/// A new SQLite file. It is deleted with the directory returned with it.
pub async fn sqlite(connections: u32) -> (SqlitePool, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(directory.path().join("orders.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(20));
    let pool = sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(connections)
        .connect_with(options)
        .await
        .expect("a new SQLite file");
    (pool, directory)
}

pub async fn migrated<DB: OutboxDatabase>(outbox: Outbox<DB>) -> Outbox<DB> {
    outbox.migrate().await.expect("new tables");
    outbox
}

/// Waits until the statement is true.
pub async fn until_true(pool: &PgPool, statement: &'static str) {
    let is = async || sqlx::query_scalar::<_, bool>(statement).fetch_one(pool).await.unwrap();
    eventually(statement, is).await;
}

/// The event of most tests: the `n`th of its customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created", version = 1)]
pub struct OrderCreated {
    #[event(key)]
    pub customer: String,
    #[event(header)]
    pub tenant: Option<String>,
    pub n: i64,
}

impl OrderCreated {
    pub fn new(customer: impl Into<String>, n: i64) -> Self {
        Self { customer: customer.into(), tenant: None, n }
    }
}

/// One transaction with these events.
pub async fn commit<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    events: impl IntoIterator<Item = OrderCreated>,
) {
    let mut tx = outbox.begin().await.unwrap();
    for event in events {
        tx.emit(event).unwrap();
    }
    tx.commit().await.unwrap();
}

pub fn order(record: &EventRecord) -> OrderCreated {
    serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap()
}

/// The events of each customer, in the order of their publication.
pub fn by_customer(published: &[EventRecord]) -> BTreeMap<String, Vec<i64>> {
    let mut by_customer = BTreeMap::<_, Vec<_>>::new();
    for order in published.iter().map(order) {
        by_customer.entry(order.customer).or_default().push(order.n);
    }
    by_customer
}

/// Uses up the rest of the block: the next number is in the next leaf of the ring.
pub async fn next_leaf(outbox: &Outbox<sqlx::Postgres>) {
    let next = "select setval('outbox_seq', ((last_value >> 20) + 1) << 20) from outbox_seq";
    outbox.pool().execute(next).await.expect("a sequence");
}

/// A publisher that answers only when the test says so.
#[derive(Clone)]
pub struct HeldPublisher {
    got: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Default for HeldPublisher {
    fn default() -> Self {
        Self { got: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }
}

impl HeldPublisher {
    /// Waits until it was given `count` events.
    pub async fn got(&self, count: usize) {
        let has = async || self.got.load(Ordering::SeqCst) >= count;
        eventually(&format!("the publisher has got {count} events"), has).await;
    }

    /// Reports what it has, or gets next, as delivered.
    pub fn answer(&self) {
        self.answers.add_permits(1);
    }
}

impl Publisher for HeldPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        self.got.fetch_add(batch.events.len(), Ordering::SeqCst);
        self.answers.acquire().await.expect("never closed").forget();
        batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
    }
}
