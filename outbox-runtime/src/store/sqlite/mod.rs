//! SQLite, the embedded default. One writer at a time: the order of `seq` is the order of the
//! commits, and a plain cursor is exact.

mod inbox;
mod lease;
mod migrate;
mod operate;
mod park;
mod read;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Executor, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::operate::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::record::{EventRecord, KeyDigest, Lane};
use crate::store::liveness::Liveness;
use crate::store::sealed::Database;
use crate::store::{
    Claimed, Content, Discard, FirstWaiting, GroupKey, LaneBatch, LaneRead, Lease, Migration,
    Names, Others, Progress, Release, Released, Retry, Saved, Settled, Share, Store, Waiting,
};
use crate::tx::{Doubt, TxOptions};

impl Database for Sqlite {
    const CAN_GO_SILENT: bool = false;

    type Store = SqliteStore;

    const MIGRATIONS: &'static [Migration] = migrate::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = migrate::MIGRATION_TABLE;

    /// A transaction that reads first and writes later fails when another wrote meanwhile, and
    /// waiting does not help it. One that takes the writer's place at once waits for it (sqlx's
    /// `busy_timeout`).
    fn begin_statement(_: TxOptions) -> Option<SqlStr> {
        Some("BEGIN IMMEDIATE".into_sql_str())
    }

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        migrate::check_names(names)
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
        migrate::migrate(pool, names).await
    }

    fn open_store(pool: &SqlitePool, names: &Arc<Names>, lease: Duration) -> SqliteStore {
        SqliteStore {
            pool: pool.clone(),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            lease,
            liveness: Liveness::default(),
        }
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
        operate::others_if_unused(pool, names).await
    }

    async fn reclaim(
        pool: &SqlitePool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        operate::reclaim(pool, names, retention).await
    }

    async fn status(pool: &SqlitePool, names: &Names) -> Result<Status, OutboxError> {
        operate::status(pool, names).await
    }

    async fn parked(
        pool: &SqlitePool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        operate::parked(pool, names, after, limit).await
    }

    async fn release_parked(
        pool: &SqlitePool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, OutboxError> {
        operate::release_parked(pool, names, which).await
    }

    async fn discard_parked(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, OutboxError> {
        operate::discard_parked(pool, names, id, insist).await
    }

    async fn discarded(
        pool: &SqlitePool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, OutboxError> {
        operate::discarded(pool, names, limit).await
    }

    async fn replay(pool: &SqlitePool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
        operate::replay(pool, names, which).await
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

/// The read side of a SQLite outbox.
#[derive(Debug)]
pub struct SqliteStore {
    /// The user's own pool: an in-memory database has no other way in.
    pool: SqlitePool,
    names: Arc<Names>,
    owner: Uuid,
    lease: Duration,
    liveness: Liveness,
}

impl Store for SqliteStore {
    /// The `seq` up to which, inclusive, all is delivered or read.
    type Cursor = i64;

    async fn claim(&mut self, held: &[Lease], share: Share) -> Result<Claimed<i64>, OutboxError> {
        self.claim_lanes(held, share).await
    }

    async fn read(&mut self, lanes: &[LaneRead<i64>]) -> Result<Vec<LaneBatch<i64>>, OutboxError> {
        self.read_lanes(lanes).await
    }

    fn cursor_before(_: &i64, seq: i64) -> i64 {
        seq - 1
    }

    async fn save(&mut self, progress: &[Progress<i64>]) -> Result<Saved, OutboxError> {
        self.save_cursors(progress).await
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        self.keys_among(lane, &keys).await
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        self.released_events(held, &retry).await
    }

    async fn settle_released(
        &mut self,
        lease: Lease,
        settled: &Settled,
    ) -> Result<Option<bool>, OutboxError> {
        self.settle(lease, settled).await
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        self.release_lanes(held, leaving).await
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
