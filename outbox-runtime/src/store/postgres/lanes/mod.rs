//! The lanes of a Postgres outbox: leased, and read in windows between snapshots.

mod chunk;
mod cursor;
mod floors;
#[cfg(test)]
mod held_snapshot;
pub(super) mod invariants;
mod lease;
mod open;
pub(super) mod park;
mod save;
mod session;
mod window;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool, Postgres, SqlStr};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::connection::{self, CONNECT_TIMEOUT, STATEMENT_TIMEOUT};
use super::groups::PgClaimer;
use super::server;
use crate::error::{ErrorKind, OutboxError};
use crate::record::{KeyDigest, Lane};
use crate::store::error::{StoreError, no_answer};
use crate::store::fault::Fault;
use crate::store::groups::{ExactlyOnceStore, Groups, Row, Wave};
use crate::store::lanes::{Claimed, LaneBatch, LaneRead, LaneStore, Lease, Progress, Saved, Share};
use crate::store::liveness::Liveness;
use crate::store::names::{Names, sql};
use crate::store::parked::{Released, Retry, RetryResult};
use crate::store::relays::RelayProcess;
use crate::store::sealed::{Database, Schema as _};

pub(super) use cursor::{PgCursor, progress_is_missing};
use floors::FloorIndex;
pub(super) use floors::{BLOCK_BITS, LEAVES, RingRange};
pub(super) use lease::saved_cursor;
pub(super) use save::{columns_of, insert_cursors};
use session::{Session, through_a_pooler};

/// The read side of a Postgres outbox: one connection, separate from the user's pool. A business
/// that uses all connections of its pool must not stop its relay; and a window is valid only over
/// the connection that opened it (see [`window`]).
#[derive(Debug)]
pub struct PgLaneStore {
    /// The user's pool, which knows where to connect and with which `search_path`.
    pool: PgPool,
    /// Whether `names` already has the schema.
    located: bool,
    /// Whether the server was found to be one on which reading can rest.
    supported: bool,
    /// `None` during a call, and after one that failed.
    connection: Option<PgConnection>,
    /// Id of the server's process at its other end: always the same, unless a transaction pooler is
    /// in between.
    backend: i32,
    floors: FloorIndex,
    /// The highest transaction id that a window has seen.
    seen: Arc<AtomicU64>,
    /// `None`: events are delivered at least once, and lanes are leased one by one.
    groups: Option<Groups>,
    names: Arc<Names>,
    /// This relay's id in the lane table's `owner`.
    owner: Uuid,
    process: RelayProcess,
    lease: Duration,
    liveness: Liveness,
}

impl Database for Postgres {
    type LaneStore = PgLaneStore;

    fn open_lanes(pool: &PgPool, names: &Arc<Names>, lease: Duration, _: Duration) -> PgLaneStore {
        PgLaneStore {
            pool: pool.clone(),
            located: false,
            supported: false,
            connection: None,
            backend: 0,
            floors: FloorIndex::default(),
            seen: Arc::default(),
            groups: None,
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            process: RelayProcess::this(),
            lease,
            liveness: Liveness::default(),
        }
    }
}

impl PgLaneStore {
    async fn connection(&mut self) -> Result<PgConnection, OutboxError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.floors = FloorIndex::default();
        if !self.located {
            self.names =
                in_time(CONNECT_TIMEOUT, Postgres::located(&self.pool, &self.names)).await?;
            self.located = true;
        }
        let connect = async {
            let mut connection = connection::connect(&self.pool).await?;
            let mut another = connection::connect(&self.pool).await?;
            if !self.supported {
                server::check(&mut connection, &mut another).await?;
            }
            // Checked before anything is left in a session that is not ours alone.
            let session = connection::session_of_its_own(&mut connection, &mut another).await?;
            let Some(backend) = session else { return Err(through_a_pooler()) };
            another.close().await?;
            connection::set_up(&mut connection).await?;
            Ok((connection, backend))
        };
        let (connection, backend) = in_time(CONNECT_TIMEOUT, connect).await?;
        self.backend = backend;
        self.supported = true;
        Ok(connection)
    }

    /// The connection over which the windows were opened (see [`window`]).
    fn reading_connection(&mut self) -> Result<PgConnection, OutboxError> {
        self.connection.take().ok_or_else(|| {
            OutboxError::new(
                ErrorKind::Database,
                "the connection was lost over which these events were read",
            )
        })
    }

    /// Begins a transaction for one lane: a lock on the parked events must not keep the other lanes
    /// waiting.
    fn begin_for_one_lane(&self) -> SqlStr {
        let millis = (self.lease / 8).as_millis().clamp(10, 1_000);
        sql(format!("begin; set local lock_timeout = {millis}"))
    }

    fn lease_millis(&self) -> i64 {
        i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The result of a call, or an error if it takes too long.
pub(super) async fn in_time<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, OutboxError>>,
) -> Result<T, OutboxError> {
    let result = timeout(bound, call).await.unwrap_or_else(|_| Err(no_answer()));
    result.map_err(|error| match error.fault() {
        Fault::OtherSession => through_a_pooler(),
        _ => StoreError::from(error).into(),
    })
}

impl ExactlyOnceStore for PgLaneStore {
    type Claimer = PgClaimer;

    fn in_groups(&mut self, groups: Groups) -> PgClaimer {
        self.groups = Some(groups);
        let (pool, names) = (self.pool.clone(), Arc::clone(&self.names));
        PgClaimer { pool, names, owner: self.owner, groups }
    }

    fn seen(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    async fn save_after(
        &mut self,
        progress: &[(Progress<PgCursor>, Wave)],
    ) -> Result<Saved, OutboxError> {
        let mut connection = self.reading_connection()?;
        let (cursors, waves): (Vec<_>, Vec<_>) =
            progress.iter().map(|(progress, wave)| (progress, *wave)).unzip();
        let call = self.save_cursors(&mut connection, &cursors, &waves);
        let lost = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(Saved { lost, failed: Vec::new() })
    }

    fn has_passed(cursor: &PgCursor, row: Row) -> bool {
        cursor.has_passed(row)
    }
}

impl LaneStore for PgLaneStore {
    type Cursor = PgCursor;

    async fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<PgCursor>, OutboxError> {
        let mut connection = self.connection().await?;
        let claimed =
            in_time(STATEMENT_TIMEOUT, self.claim_over(&mut connection, held, share)).await?;
        let windows = claimed.taken.iter().flat_map(|(_, at, _)| at.cur.iter().chain([&at.prev]));
        self.floors.note_saved(windows.map(|snapshot| &**snapshot));
        self.connection = Some(connection);
        Ok(claimed)
    }

    async fn read(
        &mut self,
        lanes: &[LaneRead<PgCursor>],
    ) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
        let mut connection = self.connection().await?;
        let mut session = Session {
            connection: &mut connection,
            backend: self.backend,
            names: &self.names,
            floors: &mut self.floors,
            seen: &self.seen,
            until: Instant::now() + self.lease / 8,
        };
        let batches = in_time(STATEMENT_TIMEOUT, window::read(&mut session, lanes)).await?;
        self.connection = Some(connection);
        Ok(batches)
    }

    fn cursor_before(start: &PgCursor, seq: i64) -> PgCursor {
        start.clone().advanced_to(seq - 1)
    }

    /// Only over the connection over which the windows were opened (see [`window`]).
    async fn save(&mut self, progress: &[Progress<PgCursor>]) -> Result<Saved, OutboxError> {
        let mut connection = self.reading_connection()?;
        let saved = in_time(STATEMENT_TIMEOUT, self.save_over(&mut connection, progress)).await?;
        self.connection = Some(connection);
        Ok(saved)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = park::keys_among(&mut connection, &self.names, lane, &keys);
        let parked = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(parked)
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = park::released(&mut connection, &self.names, held, &retry);
        let released = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(released)
    }

    /// A connection that refused a statement and then ended its transaction is still usable.
    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = async {
            let tx = connection.begin_with(self.begin_for_one_lane()).await?;
            park::save_retry(tx, &self.names, self.owner, lease, result).await
        };
        let left = in_time(STATEMENT_TIMEOUT, call).await;
        match left {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => {}
        }
        self.connection = Some(connection);
        left
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        let mut connection = self.connection().await?;
        in_time(STATEMENT_TIMEOUT, self.release_over(&mut connection, held, leaving)).await?;
        self.connection = Some(connection);
        Ok(())
    }
}
