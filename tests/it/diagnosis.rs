//! What `Outbox::diagnose` and `ClusterDescription` say is so.

use std::time::Duration;

use outbox::consume::ClusterDescription;
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{PgBouncer, PgOptions, PgVersion, Postgres};

use crate::support::relays::{new_relay, run_error};
use crate::support::topics::create_topic;
use crate::support::{self, OrderCreated, POSTGRES, commit, eventually_some, kafka, migrated};

#[tokio::test]
async fn a_database_without_tables_is_diagnosed_all_the_same() {
    let outbox = Outbox::new(support::postgres(POSTGRES, 2).await);
    let found = outbox.diagnose().await.unwrap();
    assert!(found.server.starts_with("PostgreSQL "), "{found:?}");
    assert_eq!(found.lacking_rights, Some(Vec::new()));
    assert!(found.topics.is_empty(), "{found:?}");
    let connections = found.connections.unwrap();
    assert!(connections.open >= 1 && connections.most > connections.open, "{found:?}");
    assert!(!found.is_pooled && !found.is_read_only, "{found:?}");

    let (sqlite, _file) = support::sqlite(1).await;
    let outbox = Outbox::new(sqlite);
    let found = outbox.diagnose().await.unwrap();
    assert!(found.server.starts_with("SQLite 3"), "{found:?}");
}

#[tokio::test]
async fn the_topics_of_the_latest_events_are_found_on_every_store() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 2).await)).await;
    commit(&outbox, [OrderCreated::new("ada", 1)]).await;
    let of_postgres = outbox.diagnose().await.unwrap().topics;
    let (sqlite, _file) = support::sqlite(1).await;
    let outbox = migrated(Outbox::new(sqlite)).await;
    commit(&outbox, [OrderCreated::new("ada", 1)]).await;
    let of_sqlite = outbox.diagnose().await.unwrap().topics;
    let outbox = migrated(Outbox::new(support::mysql(2).await)).await;
    commit(&outbox, [OrderCreated::new("ada", 1)]).await;
    let of_mysql = outbox.diagnose().await.unwrap().topics;
    assert_eq!((of_postgres.len(), &of_postgres), (1, &of_sqlite));
    assert_eq!(of_postgres, of_mysql);
}

/// Of a table without transactions, what a relay reads may never have been committed.
#[tokio::test]
async fn a_mysql_whose_tables_have_no_transactions_is_found_unfit_and_no_relay_starts() {
    let outbox = migrated(Outbox::new(support::mysql(2).await)).await;
    let found = outbox.diagnose().await.unwrap();
    assert!(found.server.starts_with("MariaDB ") || found.server.starts_with("MySQL "));
    assert_eq!((found.unfit, found.is_read_only), (None, false));
    let connections = found.connections.unwrap();
    assert!(connections.open >= 1 && connections.most > connections.open);
    assert!(found.longest_statement.unwrap() > 1_000_000);

    outbox.pool().execute("alter table outbox_event engine = MyISAM").await.unwrap();
    let unfit = outbox.diagnose().await.unwrap().unfit.expect("no outbox can be on it");
    assert!(unfit.why.contains("outbox_event has the engine MyISAM"), "{unfit:?}");
    let error = run_error(new_relay(&outbox, MemoryPublisher::new())).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(&unfit.why), "{error}");
}

#[tokio::test]
async fn a_mysql_without_tables_is_diagnosed_all_the_same() {
    let found = Outbox::new(support::mysql(2).await).diagnose().await.unwrap();
    assert!(found.topics.is_empty() && found.unfit.is_none(), "{found:?}");
}

#[tokio::test]
async fn an_open_transaction_of_mysql_is_found_with_the_statement_that_ends_it() {
    let outbox = migrated(Outbox::new(support::mysql(4).await)).await;
    let mut open = outbox.pool().begin().await.unwrap();
    open.execute("insert into outbox_pause values ('all', '', 'r', 'b', 0)").await.unwrap();
    // The server's own list is a moment old. On a shared server, another test's may be older.
    let longest = eventually_some("one is open", async || {
        let found = outbox.diagnose().await.unwrap();
        assert!(found.sees_transactions);
        found.longest_transaction
    })
    .await;
    assert!(longest.age < Duration::from_secs(3_600), "{longest:?}");
    assert_eq!(longest.ended_by, format!("kill {}", longest.pid));
}

#[tokio::test]
async fn an_open_transaction_is_found_with_its_program() {
    // Of a server of its own: on a shared one, another test's may be older.
    let directory = ScratchDir::new("diagnosis").unwrap();
    let server = Postgres::start(PgVersion::V15, directory.path(), PgOptions::default()).unwrap();
    let pool = PgPool::connect(server.url()).await.unwrap();
    let mut open = pool.begin().await.unwrap();
    open.execute("set local application_name = 'report'").await.unwrap();
    let found = Outbox::new(pool.clone()).diagnose().await.unwrap();
    let longest = found.longest_transaction.expect("one is open");
    assert_eq!(
        (&*longest.application, &*longest.state),
        ("report", "idle in transaction"),
        "{longest:?}"
    );

    let pooler = PgBouncer::start(directory.path(), &server).unwrap();
    let options = pooler.url().parse::<PgConnectOptions>().unwrap().statement_cache_capacity(0);
    let pooled = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    assert!(Outbox::new(pooled).diagnose().await.unwrap().is_pooled);
}

#[tokio::test]
async fn a_right_that_is_lacking_is_named() {
    let admin = support::postgres(POSTGRES, 2).await;
    let owner = migrated(Outbox::new(admin.clone())).await;
    assert_eq!(owner.diagnose().await.unwrap().lacking_rights, Some(Vec::new()));

    let name = format!("diagnosed_{}", Uuid::now_v7().simple());
    for statement in [
        format!("create role {name} login"),
        format!("grant select, insert, update, delete on all tables in schema public to {name}"),
        format!("grant usage on all sequences in schema public to {name}"),
    ] {
        admin.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let options = (*admin.connect_options()).clone().username(&name);
    let outbox = Outbox::new(PgPool::connect_with(options).await.unwrap());
    let lacking = outbox.diagnose().await.unwrap().lacking_rights.unwrap();
    // Sixteen leaves, and the tables whose space a relay takes back: the witnesses among them.
    let of = |who: &str| lacking.iter().filter(|lacking| lacking.who == who).count();
    assert_eq!((of("relay"), of("exactly_once"), lacking.len()), (19, 1, 20), "{lacking:?}");
    assert!(lacking.iter().all(|lacking| lacking.right == "TRUNCATE"), "{lacking:?}");
}

#[tokio::test]
async fn a_cluster_is_described_with_the_settings_of_the_topics_that_are_asked_for() {
    let (wanted, other) = ("diagnosis-wanted", "diagnosis-other");
    create_topic(wanted, 3, &[]).await;
    create_topic(other, 1, &[]).await;
    let cluster = ClusterDescription::ask(kafka(), |topic| topic == wanted).await.unwrap();
    let topic = &cluster.topics[wanted];
    assert_eq!((topic.partitions, topic.replicas, topic.in_sync, topic.leaderless), (3, 1, 1, 0));
    assert!(topic.may_describe && topic.settings.contains_key("max.message.bytes"), "{topic:?}");
    assert!(cluster.topics[other].settings.is_empty());
    assert!(cluster.brokers >= 1);

    let error = ClusterDescription::ask("127.0.0.1:1", |_| true).await.unwrap_err().to_string();
    assert!(error.contains("no broker said"), "{error}");
}
