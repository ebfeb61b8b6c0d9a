//! Postgres: an append-only table, read in windows between snapshots.

mod doorbell;
mod lease;
mod migrate;
mod window;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Postgres, SqlStr};
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::record::{EventRecord, LANES, Lane};
use crate::store::sealed::Database;
use crate::store::{LaneBatch, Migration, Names, ReadLimits, Store};
use crate::tx::TxOptions;

use window::PgCursor;

impl Database for Postgres {
    type Store = PgStore;

    const MIGRATIONS: &'static [Migration] = migrate::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = migrate::MIGRATION_TABLE;

    fn begin_statement(options: TxOptions) -> Option<SqlStr> {
        write::begin_statement(options)
    }

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        migrate::check_names(names)
    }

    async fn insert_events(
        connection: &mut PgConnection,
        names: &Names,
        events: &[EventRecord],
    ) -> Result<(), sqlx::Error> {
        write::insert_events(connection, names, events).await
    }

    async fn insert_inbox(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> Result<bool, sqlx::Error> {
        write::insert_inbox(connection, names, group, event_id).await
    }

    async fn migrate(pool: &PgPool, names: &Names) -> Result<(), OutboxError> {
        migrate::migrate(pool, names).await
    }

    fn open_store(pool: &PgPool, names: &Arc<Names>, lease: Duration) -> PgStore {
        PgStore::new(pool, names, lease)
    }

    fn notify_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        doorbell::notify_others(own_pool(pool), names.identity(), doorbell)
    }

    fn listen_to_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        doorbell::listen_to_others(own_pool(pool), names.identity(), doorbell)
    }
}

/// After which a database is said to be away. sqlx's own 30 s would be a long silence.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Every statement of the relay reads a few rows by an index of a table that may have millions, and the planner, which
/// knows neither the snapshots nor how old the statistics are, must not think otherwise: a sequential scan at each poll
/// would cost more the more is retained.
const PLANNER_SETTINGS: &str = "\
set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; set enable_incremental_sort = off; \
set jit = off; set plan_cache_mode = force_generic_plan";

/// A connection beside the user's pool: a business that holds all of its connections must not stop its relay.
fn own_pool(pool: &PgPool) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(PLANNER_SETTINGS).execute(connection).await.map(drop) })
        })
        .connect_lazy_with((*pool.connect_options()).clone())
}

/// The read side of a Postgres outbox.
#[derive(Debug)]
pub struct PgStore {
    pool: PgPool,
    names: Arc<Names>,
    /// Who we are in the lane table's `owner`.
    owner: Uuid,
    lease: Duration,
    lanes: [Option<HeldLane>; LANES],
}

/// A lane that we lease.
#[derive(Debug, Clone)]
struct HeldLane {
    /// The fencing token: every write of the cursor names it.
    epoch: i64,
    saved: PgCursor,
    read: PgCursor,
}

impl PgStore {
    fn new(pool: &PgPool, names: &Arc<Names>, lease: Duration) -> Self {
        Self {
            pool: own_pool(pool),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            lease,
            lanes: [const { None }; LANES],
        }
    }

    fn held(&self) -> impl Iterator<Item = (Lane, &HeldLane)> {
        Lane::all().filter_map(|lane| self.lanes[lane.index()].as_ref().map(|held| (lane, held)))
    }
}

impl Store for PgStore {
    type Cursor = PgCursor;

    async fn claim(&mut self) -> Result<usize, OutboxError> {
        self.renew_leases().await?;
        if self.held().count() < LANES {
            self.take_free_lanes().await?;
        }
        Ok(self.held().count())
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
        self.open_windows().await?;
        self.read_windows(limits).await
    }

    fn cursor_after(&self, batch: &LaneBatch<PgCursor>, delivered: usize) -> PgCursor {
        match delivered.checked_sub(1).map(|last| &batch.events[last]) {
            _ if delivered == batch.events.len() => batch.end.clone(),
            Some(last) => batch.start.clone().advanced_to(last.seq),
            None => batch.start.clone(),
        }
    }

    async fn save(&mut self, cursors: Vec<(Lane, PgCursor)>) -> Result<(), OutboxError> {
        self.save_cursors(cursors).await
    }

    fn rewind(&mut self, lane: Lane) {
        if let Some(held) = &mut self.lanes[lane.index()] {
            held.read = held.saved.clone();
        }
    }

    async fn release(&mut self) -> Result<(), OutboxError> {
        self.release_lanes().await
    }
}
