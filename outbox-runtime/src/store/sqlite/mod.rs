//! SQLite, the embedded default. One writer at a time: the order of `seq` is the order of the commits, and a plain
//! cursor is exact.

mod lease;
mod migrate;
mod read;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::record::{EventRecord, LANES, Lane};
use crate::store::sealed::Database;
use crate::store::{LaneBatch, Migration, Names, ReadLimits, Store};
use crate::tx::TxOptions;

impl Database for Sqlite {
    type Store = SqliteStore;

    const MIGRATIONS: &'static [Migration] = migrate::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = migrate::MIGRATION_TABLE;

    /// A transaction that reads first and writes later fails when another wrote meanwhile, and waiting does not
    /// help it. One that takes the writer's place at once waits for it (sqlx's `busy_timeout`).
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
        write::insert_inbox(connection, names, group, event_id).await
    }

    async fn migrate(pool: &SqlitePool, names: &Names) -> Result<(), OutboxError> {
        migrate::migrate(pool, names).await
    }

    fn open_store(pool: &SqlitePool, names: &Arc<Names>, lease: Duration) -> SqliteStore {
        SqliteStore {
            pool: pool.clone(),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            lease,
            lanes: [None; LANES],
        }
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
    lanes: [Option<HeldLane>; LANES],
}

/// A lane that we lease. Positions are the `seq` up to which, inclusive, all is delivered or read.
#[derive(Debug, Clone, Copy)]
struct HeldLane {
    epoch: i64,
    saved: i64,
    read: i64,
}

impl SqliteStore {
    fn held(&self) -> impl Iterator<Item = (Lane, HeldLane)> {
        Lane::all().filter_map(|lane| Some((lane, self.lanes[lane.index()]?)))
    }
}

impl Store for SqliteStore {
    type Cursor = i64;

    async fn claim(&mut self) -> Result<usize, OutboxError> {
        self.claim_lanes().await?;
        Ok(self.held().count())
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Vec<LaneBatch<i64>>, OutboxError> {
        self.read_lanes(limits).await
    }

    fn cursor_after(&self, batch: &LaneBatch<i64>, delivered: usize) -> i64 {
        delivered.checked_sub(1).map_or(batch.start, |last| batch.events[last].seq)
    }

    async fn save(&mut self, cursors: Vec<(Lane, i64)>) -> Result<(), OutboxError> {
        self.save_cursors(cursors).await
    }

    fn rewind(&mut self, lane: Lane) {
        if let Some(held) = &mut self.lanes[lane.index()] {
            held.read = held.saved;
        }
    }

    async fn release(&mut self) -> Result<(), OutboxError> {
        self.release_lanes().await
    }
}
