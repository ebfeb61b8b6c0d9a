//! The databases that a soak runs on, and the table of the effects.

use std::any::Any;
use std::path::Path;
use std::time::Duration;

use outbox::{OutboxDatabase, OutboxTx};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, MySql, Pool, Postgres};
use uuid::Uuid;
use xtask::servers::{self, MySqlOptions, PgOptions, PgVersion};

/// A server, which ends when this is dropped.
pub(crate) type Server = Box<dyn Any + Send>;

/// What a handler did: group, topic, customer, number, and the event's id.
pub(crate) type Effect<'e> = (&'e str, &'e str, &'e str, i64, Uuid);

pub(crate) trait Soaked: OutboxDatabase {
    /// The test of this database, which is the program of its members, too.
    const TEST: &'static str;

    /// Starts one of its own, and returns its URL.
    fn start(dir: &Path) -> (Server, String);

    fn pool(url: &str) -> impl Future<Output = Pool<Self>> + Send;

    fn create_effects(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;

    fn insert_effect(
        tx: &mut OutboxTx<'_, Self>,
        effect: Effect<'_>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The effects of a topic's events in a group, in their order: id, customer, number.
    fn effects(
        pool: &Pool<Self>,
        of: (&str, &str),
    ) -> impl Future<Output = Vec<(Uuid, String, i64)>> + Send;

    /// Partition and offset of the events that wait behind one in a retry topic.
    fn kept(pool: &Pool<Self>, of: (&str, &str)) -> impl Future<Output = Vec<(i32, i64)>> + Send;
}

macro_rules! soaked {
    (
        $DB:ty, $test:literal, $start:expr, $pool:expr, $create:literal, $insert:literal, $effects:literal, $kept:literal
    ) => {
        impl Soaked for $DB {
            const TEST: &'static str = $test;

            fn start(dir: &Path) -> (Server, String) {
                $start(dir)
            }

            async fn pool(url: &str) -> Pool<Self> {
                let pool = $pool.max_connections(30).acquire_timeout(Duration::from_secs(30));
                pool.connect(url).await.unwrap()
            }

            async fn create_effects(pool: &Pool<Self>) {
                for create in [$create, "create index of_topic on effect (consumer, topic)"] {
                    pool.execute(create).await.unwrap();
                }
            }

            async fn insert_effect(
                tx: &mut OutboxTx<'_, Self>,
                (group, topic, customer, n, id): Effect<'_>,
            ) -> Result<(), sqlx::Error> {
                let insert = sqlx::query($insert).bind(group).bind(topic).bind(customer);
                insert.bind(n).bind(id).execute(tx).await.map(drop)
            }

            async fn effects(
                pool: &Pool<Self>,
                (group, topic): (&str, &str),
            ) -> Vec<(Uuid, String, i64)> {
                let effects = sqlx::query_as($effects).bind(group).bind(topic);
                effects.fetch_all(pool).await.unwrap()
            }

            async fn kept(pool: &Pool<Self>, (group, topic): (&str, &str)) -> Vec<(i32, i64)> {
                let kept = sqlx::query_as($kept).bind(group).bind(topic);
                kept.fetch_all(pool).await.unwrap()
            }
        }
    };
}

soaked!(
    Postgres,
    "postgres::every_event_takes_effect_once_in_each_group_or_is_its_dead_letter",
    |dir: &Path| {
        let server =
            servers::Postgres::start(PgVersion::V15, &dir.join("postgres"), PgOptions::default())
                .unwrap();
        let url = server.url().to_owned();
        (Box::new(server) as Server, url)
    },
    PgPoolOptions::new(),
    "create table effect (place bigserial, consumer text, topic text, customer text, n bigint, id uuid)",
    "insert into effect (consumer, topic, customer, n, id) values ($1, $2, $3, $4, $5)",
    "select id, customer, n from effect where consumer = $1 and topic = $2 order by place",
    "select source_partition, source_offset from outbox_key_queue where consumer_group = $1 and topic = $2"
);

/// The server that `cargo xtask soak --mysql` names.
fn mysql_options() -> MySqlOptions {
    let asked = std::env::var("OUTBOX_SOAK_MYSQL").ok();
    let server = asked.map(|name| name.parse().expect("OUTBOX_SOAK_MYSQL names a server"));
    MySqlOptions { server: server.unwrap_or_default(), ..MySqlOptions::default() }
}

soaked!(
    MySql,
    "mysql::every_event_takes_effect_once_in_each_group_or_is_its_dead_letter",
    |dir: &Path| {
        let server = servers::MySql::start(&dir.join("mysql"), mysql_options()).unwrap();
        let url = server.url().to_owned();
        (Box::new(server) as Server, url)
    },
    MySqlPoolOptions::new(),
    "create table effect (place bigint auto_increment primary key, consumer varchar(99), topic varchar(99), customer text, n bigint, id binary(16))",
    "insert into effect (consumer, topic, customer, n, id) values (?, ?, ?, ?, ?)",
    "select id, customer, n from effect where consumer = ? and topic = ? order by place",
    "select source_partition, source_offset from outbox_key_queue where consumer_group = ? and topic = ?"
);
