//! SQLite, the embedded default. One writer at a time: the order of `seq` is the order of the
//! commits, and a plain cursor is exact.

mod admin;
mod inbox;
mod lanes;
mod schema;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Executor, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::outbox::admin::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::record::{EventRecord, KeyDigest, Lane};
use crate::store::sealed::Database;
use crate::store::tx_options::TxOptions;
use crate::store::{
    Content, Discard, FirstWaiting, GroupKey, Migration, Names, Others, Release, Waiting,
};
use crate::tx::Doubt;

use lanes::SqliteStore;

impl Database for Sqlite {
    const CAN_GO_SILENT: bool = false;

    type Store = SqliteStore;

    const MIGRATIONS: &'static [Migration] = schema::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = schema::MIGRATION_TABLE;

    /// A transaction that reads first and writes later fails when another wrote meanwhile, and
    /// waiting does not help it. One that takes the writer's place at once waits for it (sqlx's
    /// `busy_timeout`).
    fn begin_statement(_: TxOptions) -> Option<SqlStr> {
        Some("BEGIN IMMEDIATE".into_sql_str())
    }

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        schema::check_names(names)
    }

    async fn insert_events(
        connection: &mut SqliteConnection,
        names: &Names,
        events: &[EventRecord],
    ) -> Result<(), sqlx::Error> {
        write::insert_events(connection, names, events).await
    }

    async fn insert_inbox(
        connection: &mut SqliteConnection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> Result<bool, sqlx::Error> {
        inbox::insert(connection, names, group, event_id).await
    }

    async fn forget_inbox(
        connection: &mut SqliteConnection,
        names: &Names,
        group: &str,
        retention: Duration,
        most: u32,
    ) -> Result<u64, sqlx::Error> {
        inbox::forget(connection, names, group, retention, most).await
    }

    async fn begin_waiting(
        connection: &mut SqliteConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<bool, sqlx::Error> {
        inbox::begin_waiting(connection, names, waiting).await
    }

    async fn sent_waiting(
        connection: &mut SqliteConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<(), sqlx::Error> {
        inbox::sent_waiting(connection, names, waiting).await
    }

    async fn end_waiting(
        connection: &mut SqliteConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<Others, sqlx::Error> {
        inbox::end_waiting(connection, names, waiting).await
    }

    async fn park_waiting(
        connection: &mut SqliteConnection,
        names: &Names,
        waiting: &Waiting<'_>,
        content: &Content,
    ) -> Result<bool, sqlx::Error> {
        inbox::park_waiting(connection, names, waiting, content).await
    }

    async fn left_behind(
        connection: &mut SqliteConnection,
        names: &Names,
        group: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
        inbox::left_behind(connection, names, group).await
    }

    async fn first_waiting(
        connection: &mut SqliteConnection,
        names: &Names,
        of: &GroupKey<'_>,
    ) -> Result<Option<FirstWaiting>, sqlx::Error> {
        inbox::first_waiting(connection, names, of).await
    }

    /// What fails in SQLite fails alone, unless it says `or rollback`, or the disk is full: then
    /// the transaction is over, and what follows would commit by itself, statement for statement.
    fn asks_before_commit(doubt: Doubt, _: bool) -> bool {
        doubt.ever
    }

    /// Inside of a transaction, no other can begin.
    async fn confirm(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        match connection.execute("begin").await {
            Err(sqlx::Error::Database(error)) if error.message().contains("within a transaction") => Ok(()),
            Err(error) => Err(error),
            // It is left open: sqlx, which counts one, is about to roll it back.
            Ok(_) => Err(sqlx::Error::InvalidArgument(
                "an earlier statement failed, and SQLite rolled the transaction back (`or rollback`, or a full disk): \
                 return the error of each statement"
                    .to_owned(),
            )),
        }
    }

    /// A savepoint that was dropped is counted until the connection's thread has rolled it back.
    const COUNTS_ROLLBACKS_AT_ONCE: bool = false;

    async fn migrate(pool: &SqlitePool, names: &Names) -> Result<(), OutboxError> {
        schema::migrate(pool, names).await
    }

    fn open_store(pool: &SqlitePool, names: &Arc<Names>, lease: Duration) -> SqliteStore {
        SqliteStore::new(pool, names, lease)
    }

    /// The user's own: an in-memory database has no other way in.
    fn own_pool(pool: &SqlitePool) -> SqlitePool {
        pool.clone()
    }

    fn follow(_: &SqlitePool, _: &SqlitePool) {}

    async fn located(_: &SqlitePool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(names.clone()))
    }

    async fn others_if_unused(
        pool: &SqlitePool,
        names: &Names,
    ) -> Result<Vec<String>, OutboxError> {
        admin::others_if_unused(pool, names).await
    }

    async fn reclaim(
        pool: &SqlitePool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        admin::reclaim(pool, names, retention).await
    }

    async fn status(pool: &SqlitePool, names: &Names) -> Result<Status, OutboxError> {
        admin::status(pool, names).await
    }

    async fn parked(
        pool: &SqlitePool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        admin::parked(pool, names, after, limit).await
    }

    async fn release_parked(
        pool: &SqlitePool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, OutboxError> {
        admin::release_parked(pool, names, which).await
    }

    async fn discard_parked(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, OutboxError> {
        admin::discard_parked(pool, names, id, insist).await
    }

    async fn discarded(
        pool: &SqlitePool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, OutboxError> {
        admin::discarded(pool, names, limit).await
    }

    async fn replay(pool: &SqlitePool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
        admin::replay(pool, names, which).await
    }

    /// SQLite has no channel between processes: their relays poll.
    fn notify_others(
        _: &SqlitePool,
        _: &Arc<Names>,
        _: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    fn listen_to_others(
        _: &SqlitePool,
        _: &Arc<Names>,
        _: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
