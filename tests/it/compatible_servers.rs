//! Databases that speak the protocol of Postgres and lack what reading rests on are refused before
//! anything is created, and before a relay reads.
//!
//! They are played by real Postgres servers, whose functions are taken away or made to answer as
//! those of such a database do.

use crate::support::relays::{new_relay, run_error};
use crate::support::{
    self, OTHER_POSTGRES, OrderCreated, POSTGRES, commit, migrated, within_a_minute,
};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxError};
use sqlx::{Executor, PgPool};

/// No such function, as in CockroachDB, and before Postgres 13.
const MISSING: &str =
    "alter function pg_catalog.pg_current_snapshot() rename to pg_current_snapshot_of_another_name";
/// The function is there, and its answer says nothing, as where transactions have no ids.
const WITHOUT_MEANING: &str = "\
alter function pg_catalog.pg_current_snapshot() rename to pg_current_snapshot_of_another_name;
create function pg_catalog.pg_current_snapshot() returns pg_snapshot language sql
as 'select ''9000000000000:9000000000000:''::pg_snapshot'";
/// The server says that it does not support it.
const REFUSED: &str = "\
alter function pg_catalog.pg_current_xact_id() rename to pg_current_xact_id_of_another_name;
create function pg_catalog.pg_current_xact_id() returns xid8 language plpgsql
as 'begin raise feature_not_supported using message = ''not supported yet''; end'";

fn assert_refused(error: &OutboxError, words: &str) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let error = error.to_string();
    let says = ["this database cannot hold an outbox: PostgreSQL 1", words, "Use PostgreSQL 14"];
    assert!(says.iter().all(|says| error.contains(says)), "{error}");
}

async fn tables(pool: &PgPool) -> i64 {
    let tables = "select count(*) from pg_class where relname like 'outbox%'";
    sqlx::query_scalar(tables).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn tables_are_not_created_where_snapshots_are_missing_or_mean_nothing() {
    for (server, change, words) in [
        (POSTGRES, MISSING, "pg_current_snapshot"),
        (OTHER_POSTGRES, WITHOUT_MEANING, "do not say which transactions are open"),
        (POSTGRES, REFUSED, "not supported yet"),
    ] {
        let pool = support::postgres(server, 2).await;
        pool.execute(change).await.unwrap();
        let error = within_a_minute(Outbox::new(pool.clone()).migrate()).await.unwrap_err();
        assert_refused(&error, words);
        assert_eq!(tables(&pool).await, 0, "nothing was created");
    }
}

/// The tables are there: by a script of migrations, or a copy of another database.
#[tokio::test]
async fn a_relay_does_not_begin_to_read_where_snapshots_are_missing_or_mean_nothing() {
    for (server, change, words) in [
        (OTHER_POSTGRES, MISSING, "pg_current_snapshot"),
        (POSTGRES, WITHOUT_MEANING, "do not say which transactions are open"),
        (OTHER_POSTGRES, REFUSED, "not supported yet"),
    ] {
        let outbox = migrated(Outbox::new(support::postgres(server, 2).await)).await;
        commit(&outbox, [OrderCreated::new("a", 1)]).await;
        outbox.pool().execute(change).await.unwrap();
        let kafka = MemoryPublisher::new();
        assert_refused(&run_error(new_relay(&outbox, kafka.clone())).await, words);
        assert_eq!(kafka.published().len(), 0);
    }
}
