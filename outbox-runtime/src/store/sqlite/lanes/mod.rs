//! The lanes of a SQLite outbox: leased, and read by a plain cursor.

mod chunk;
mod lease;
mod park;
mod save;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool};
use uuid::Uuid;

use crate::error::OutboxError;
use crate::record::{KeyDigest, Lane};
use crate::store::lanes::{Claimed, LaneBatch, LaneRead, LaneStore, Lease, Progress, Saved, Share};
use crate::store::liveness::Liveness;
use crate::store::names::Names;
use crate::store::parked::{Released, Retry, RetryResult};
use crate::store::relays::RelayProcess;
use crate::store::sealed::Database;

/// The read side of a SQLite outbox.
#[derive(Debug)]
pub struct SqliteLaneStore {
    /// The user's own pool: an in-memory database cannot be reached in another way.
    pool: SqlitePool,
    names: Arc<Names>,
    owner: Uuid,
    process: RelayProcess,
    lease: Duration,
    liveness: Liveness,
}

impl Database for Sqlite {
    type LaneStore = SqliteLaneStore;

    fn open_lanes(pool: &SqlitePool, names: &Arc<Names>, lease: Duration) -> SqliteLaneStore {
        SqliteLaneStore {
            pool: pool.clone(),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            process: RelayProcess::this(),
            lease,
            liveness: Liveness::default(),
        }
    }
}

impl LaneStore for SqliteLaneStore {
    /// The `seq` up to which, inclusive, all is delivered or read.
    type Cursor = i64;

    async fn claim(&mut self, held: &[Lease], share: Share) -> Result<Claimed<i64>, OutboxError> {
        Ok(self.claim_lanes(held, share).await?)
    }

    async fn read(&mut self, lanes: &[LaneRead<i64>]) -> Result<Vec<LaneBatch<i64>>, OutboxError> {
        Ok(self.read_lanes(lanes).await?)
    }

    fn cursor_before(_: &i64, seq: i64) -> i64 {
        seq - 1
    }

    async fn save(&mut self, progress: &[Progress<i64>]) -> Result<Saved, OutboxError> {
        Ok(self.save_cursors(progress).await?)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        Ok(self.keys_among(lane, &keys).await?)
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        Ok(self.released_events(held, &retry).await?)
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        Ok(self.save_retry_result(lease, result).await?)
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        Ok(self.release_lanes(held, leaving).await?)
    }
}
