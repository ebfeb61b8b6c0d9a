//! Saving how far lanes are delivered, with the events that are parked.

use sqlx::SqliteConnection;

use super::session::writing;
use super::{SqliteCursor, SqliteLaneStore, park};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::Lane;
use crate::store::error::StoreError;
use crate::store::groups::Wave;
use crate::store::lanes::{Lease, Progress, Saved};
use crate::store::names::{Names, sql};

const SAVE_CURSOR: &str = "\
update {lane} set last_seq = $1, claim = $5, wave = $6 where lane = $2 and owner = $3 and epoch = $4";

/// In a transaction that has made sure of the lanes otherwise.
const SET_CURSOR: &str =
    "update {lane} set last_seq = $1, claim = null, wave = null where lane = $2";

impl SqliteLaneStore {
    pub(super) async fn save_cursors(
        &self,
        connection: &mut SqliteConnection,
        progress: &[Progress<SqliteCursor>],
    ) -> Result<Saved, StoreError> {
        let (parking, plain): (Vec<_>, Vec<_>) =
            progress.iter().partition(|progress| !progress.parked.is_empty());
        let mut saved = Saved::default();
        if !plain.is_empty() {
            let mut tx = writing(connection).await?;
            for progress in plain {
                if !self.save_cursor(&mut tx, progress.lease, progress.cursor, None).await? {
                    saved.lost.push(progress.lease.lane);
                }
            }
            tx.commit().await?;
        }
        for progress in parking {
            match self.save_and_park(connection, progress).await.map_err(OutboxError::from) {
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
    async fn save_and_park(
        &self,
        connection: &mut SqliteConnection,
        progress: &Progress<SqliteCursor>,
    ) -> Result<bool, StoreError> {
        let mut tx = writing(connection).await?;
        let ours = self.save_cursor(&mut tx, progress.lease, progress.cursor, None).await?;
        if ours {
            failpoint("before-parking");
            park::park(&mut tx, &self.names, &progress.parked).await?;
            failpoint("after-parking");
        }
        tx.commit().await?;
        Ok(ours)
    }

    /// `after`: the wave after which it is saved, if there is one. Returns `false` if the lane is
    /// lost.
    pub(super) async fn save_cursor(
        &self,
        connection: &mut SqliteConnection,
        lease: Lease,
        cursor: SqliteCursor,
        after: Option<Wave>,
    ) -> Result<bool, sqlx::Error> {
        let saved = sqlx::query(sql(self.names.fill(SAVE_CURSOR)))
            .bind(cursor.0)
            .bind(lease.lane.number())
            .bind(self.owner)
            .bind(lease.epoch)
            .bind(after.map(|wave| wave.claim))
            .bind(after.map(|wave| wave.number))
            .execute(connection)
            .await?;
        Ok(saved.rows_affected() > 0)
    }
}

/// Saves progress that no wave of a claim has.
pub(in crate::store::sqlite) async fn set_cursors(
    connection: &mut SqliteConnection,
    names: &Names,
    lanes: &[(Lane, SqliteCursor)],
) -> Result<(), sqlx::Error> {
    for (lane, cursor) in lanes {
        sqlx::query(sql(names.fill(SET_CURSOR)))
            .bind(cursor.0)
            .bind(lane.number())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
