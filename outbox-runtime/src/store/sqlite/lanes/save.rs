//! Saving how far lanes are delivered, with the events that are parked.

use sqlx::SqliteConnection;

use super::{SqliteLaneStore, park};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::store::error::StoreError;
use crate::store::lanes::{Lease, Progress, Saved};
use crate::store::names::sql;

const SAVE_CURSOR: &str =
    "update {lane} set last_seq = $1 where lane = $2 and owner = $3 and epoch = $4";

impl SqliteLaneStore {
    pub(super) async fn save_cursors(
        &self,
        progress: &[Progress<i64>],
    ) -> Result<Saved, StoreError> {
        let (parking, plain): (Vec<_>, Vec<_>) =
            progress.iter().partition(|progress| !progress.parked.is_empty());
        let mut saved = Saved::default();
        if !plain.is_empty() {
            let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for progress in plain {
                if !self.save_cursor(&mut tx, progress.lease, progress.cursor).await? {
                    saved.lost.push(progress.lease.lane);
                }
            }
            tx.commit().await?;
        }
        for progress in parking {
            match self.save_and_park(progress).await.map_err(OutboxError::from) {
                Ok(true) => {}
                Ok(false) => saved.lost.push(progress.lease.lane),
                Err(error) if error.is_of_one_statement() => {
                    saved.failed.push((progress.lease.lane, error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(saved)
    }

    /// Returns `false` if the lane is lost.
    async fn save_and_park(&self, progress: &Progress<i64>) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let ours = self.save_cursor(&mut tx, progress.lease, progress.cursor).await?;
        if ours {
            failpoint("before-parking");
            park::park(&mut tx, &self.names, &progress.parked).await?;
            failpoint("after-parking");
        }
        tx.commit().await?;
        Ok(ours)
    }

    async fn save_cursor(
        &self,
        connection: &mut SqliteConnection,
        lease: Lease,
        cursor: i64,
    ) -> Result<bool, sqlx::Error> {
        let saved = sqlx::query(sql(self.names.fill(SAVE_CURSOR)))
            .bind(cursor)
            .bind(lease.lane.number())
            .bind(self.owner)
            .bind(lease.epoch)
            .execute(connection)
            .await?;
        Ok(saved.rows_affected() > 0)
    }
}
