//! The lanes of a SQLite outbox: leased, and read by a plain cursor.

mod chunk;
mod cursor;
mod lease;
pub(super) mod park;
mod save;
pub(super) mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Connection, Sqlite, SqlitePool};
use uuid::Uuid;

use super::groups::SqliteClaimer;
use crate::error::OutboxError;
use crate::record::{KeyDigest, Lane};
use crate::store::groups::{ExactlyOnceStore, Groups, Row, Wave};
use crate::store::lanes::{Claimed, LaneBatch, LaneRead, LaneStore, Lease, Progress, Saved, Share};
use crate::store::liveness::Liveness;
use crate::store::names::Names;
use crate::store::parked::{Released, Retry, RetryResult};
use crate::store::relays::RelayProcess;
use crate::store::sealed::Database;
pub(super) use cursor::SqliteCursor;
pub(super) use save::set_cursors;
use session::{Session, in_time, writing};

/// The read side of a SQLite outbox.
#[derive(Debug)]
pub struct SqliteLaneStore {
    /// The user's own pool: an in-memory database cannot be reached in another way.
    pool: SqlitePool,
    /// Over which all goes instead if events are delivered exactly once, and whole groups of lanes
    /// are leased.
    session: Option<Session>,
    /// The highest number that was read.
    seen: Arc<AtomicU64>,
    names: Arc<Names>,
    owner: Uuid,
    process: RelayProcess,
    lease: Duration,
    liveness: Liveness,
}

impl Database for Sqlite {
    type LaneStore = SqliteLaneStore;

    fn open_lanes(
        pool: &SqlitePool,
        names: &Arc<Names>,
        lease: Duration,
        _: Duration,
    ) -> SqliteLaneStore {
        SqliteLaneStore {
            pool: pool.clone(),
            session: None,
            seen: Arc::default(),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            process: RelayProcess::this(),
            lease,
            liveness: Liveness::default(),
        }
    }
}

impl ExactlyOnceStore for SqliteLaneStore {
    type Claimer = SqliteClaimer;

    fn in_groups(&mut self, groups: Groups) -> SqliteClaimer {
        let session = self.session.insert(Session::new(groups)).clone();
        SqliteClaimer { session, names: Arc::clone(&self.names), owner: self.owner }
    }

    fn seen(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    async fn save_after(
        &mut self,
        progress: &[(Progress<SqliteCursor>, Wave)],
    ) -> Result<Saved, OutboxError> {
        let Some(session) = &self.session else { return Ok(Saved::default()) };
        let mut state = session.lock().await;
        let lanes = progress.iter().map(|(progress, _)| progress.lease.lane);
        state.ensure_claimed(session.groups, lanes)?;
        let mut connection = state.take()?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            state.ensure_same_file(&mut tx, &self.names).await?;
            let mut saved = Saved::default();
            for (Progress { lease, cursor, .. }, wave) in progress {
                if !self.save_cursor(&mut tx, *lease, *cursor, Some(*wave)).await? {
                    saved.lost.push(lease.lane);
                }
            }
            tx.commit().await?;
            Ok(saved)
        };
        let saved = in_time(call).await?;
        state.put_back(connection);
        Ok(saved)
    }

    fn has_passed(cursor: &SqliteCursor, row: Row) -> bool {
        cursor.has_passed(row)
    }
}

impl LaneStore for SqliteLaneStore {
    type Cursor = SqliteCursor;

    async fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<SqliteCursor>, OutboxError> {
        let Some(session) = self.session.clone() else {
            let mut connection = self.pool.acquire().await?;
            return Ok(self.claim_lanes(&mut connection, held, share).await?);
        };
        let mut state = session.lock().await;
        // What is held was read over the former connection, perhaps of another file.
        let (held, lost) =
            if state.open(&self.pool).await? { (&[][..], held) } else { (held, &[][..]) };
        let mut connection = state.take()?;
        let call = async { Ok(self.claim_lanes(&mut connection, held, share).await?) };
        let mut claimed = in_time(call).await?;
        state.put_back(connection);
        claimed.lost.extend(lost.iter().map(|lease| lease.lane));
        claimed.lost.iter().for_each(|lane| state.given_up(session.groups.of(*lane)));
        Ok(claimed)
    }

    async fn read(
        &mut self,
        lanes: &[LaneRead<SqliteCursor>],
    ) -> Result<Vec<LaneBatch<SqliteCursor>>, OutboxError> {
        let Some(session) = &self.session else {
            let mut connection = self.pool.acquire().await?;
            return Ok(self.read_lanes(&mut connection, lanes).await?);
        };
        let mut state = session.lock().await;
        state.ensure_claimed(session.groups, lanes.iter().map(|read| read.lane))?;
        let mut connection = state.take()?;
        let call = async {
            let mut tx = connection.begin().await?;
            state.ensure_same_file(&mut tx, &self.names).await?;
            let batches = self.read_lanes(&mut tx, lanes).await?;
            tx.rollback().await?;
            Ok(batches)
        };
        let batches = in_time(call).await?;
        for event in batches.iter().filter_map(|batch| batch.events.last()) {
            state.has_read(session.groups.of(event.lane), event.seq, event.record.id);
            self.seen.fetch_max(event.seq.unsigned_abs(), Ordering::Relaxed);
        }
        state.put_back(connection);
        Ok(batches)
    }

    fn cursor_before(_: &SqliteCursor, seq: i64) -> SqliteCursor {
        SqliteCursor(seq - 1)
    }

    async fn save(&mut self, progress: &[Progress<SqliteCursor>]) -> Result<Saved, OutboxError> {
        let mut connection = self.pool.acquire().await?;
        Ok(self.save_cursors(&mut connection, progress).await?)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        let Some(session) = &self.session else {
            let mut connection = self.pool.acquire().await?;
            return Ok(park::keys_among(&mut connection, &self.names, lane, &keys).await?);
        };
        let mut state = session.lock().await;
        let mut connection = state.take()?;
        let call = async {
            let mut tx = connection.begin().await?;
            state.ensure_same_file(&mut tx, &self.names).await?;
            let parked = park::keys_among(&mut tx, &self.names, lane, &keys).await?;
            tx.rollback().await?;
            Ok(parked)
        };
        let parked = in_time(call).await?;
        state.put_back(connection);
        Ok(parked)
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        let Some(session) = &self.session else {
            let mut connection = self.pool.acquire().await?;
            return Ok(park::released(&mut connection, &self.names, held, &retry).await?);
        };
        let mut state = session.lock().await;
        let mut connection = state.take()?;
        let call = async {
            // Some are released by it.
            let mut tx = writing(&mut connection).await?;
            state.ensure_same_file(&mut tx, &self.names).await?;
            let released = park::released(&mut tx, &self.names, held, &retry).await?;
            tx.commit().await?;
            Ok(released)
        };
        let released = in_time(call).await?;
        state.put_back(connection);
        Ok(released)
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = writing(&mut connection).await?;
        let left = park::save_retry(&mut tx, &self.names, self.owner, lease, result).await?;
        tx.commit().await?;
        Ok(left)
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        if let Some(session) = &self.session {
            let mut state = session.lock().await;
            held.iter().for_each(|lease| state.given_up(session.groups.of(lease.lane)));
        }
        Ok(self.release_lanes(held, leaving).await?)
    }
}
