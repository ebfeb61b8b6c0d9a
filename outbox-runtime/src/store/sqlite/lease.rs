//! Leases, as on Postgres: several processes may have the file open, each with a relay.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::Row;

use super::{HeldLane, SqliteStore};
use crate::error::OutboxError;
use crate::record::Lane;
use crate::store::sql;

const RENEW_LEASE: &str = "\
update {lane} set lease_until = $1 where lane = $2 and owner = $3 and epoch = $4";

const TAKE_FREE_LANES: &str = "\
update {lane} set owner = $1, epoch = epoch + 1, lease_until = $2
where owner is null or lease_until < $3
returning lane, epoch, last_seq";

const SAVE_CURSOR: &str = "update {lane} set last_seq = $1 where lane = $2 and owner = $3 and epoch = $4";

const RELEASE_LANE: &str = "\
update {lane} set owner = null, lease_until = null where lane = $1 and owner = $2 and epoch = $3";

impl SqliteStore {
    pub(super) async fn claim_lanes(&mut self) -> Result<(), OutboxError> {
        let now = unix_millis();
        let until = now + i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX / 2);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut lost = Vec::new();
        for (lane, held) in self.held() {
            let renewed = sqlx::query(sql(self.names.fill(RENEW_LEASE)))
                .bind(until)
                .bind(lane.number())
                .bind(self.owner)
                .bind(held.epoch)
                .execute(&mut *tx)
                .await?;
            if renewed.rows_affected() == 0 {
                lost.push(lane);
            }
        }
        let taken = sqlx::query(sql(self.names.fill(TAKE_FREE_LANES)))
            .bind(self.owner)
            .bind(until)
            .bind(now)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        self.forget_lost(&lost);
        for row in &taken {
            let lane = Lane::from_number(row.try_get("lane")?);
            let saved = row.try_get("last_seq")?;
            self.lanes[lane.index()] = Some(HeldLane { epoch: row.try_get("epoch")?, saved, read: saved });
        }
        Ok(())
    }

    pub(super) async fn save_cursors(&mut self, cursors: Vec<(Lane, i64)>) -> Result<(), OutboxError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut lost = Vec::new();
        for (lane, seq) in &cursors {
            let Some(held) = self.lanes[lane.index()] else { continue };
            let saved = sqlx::query(sql(self.names.fill(SAVE_CURSOR)))
                .bind(seq)
                .bind(lane.number())
                .bind(self.owner)
                .bind(held.epoch)
                .execute(&mut *tx)
                .await?;
            if saved.rows_affected() == 0 {
                lost.push(*lane);
            }
        }
        tx.commit().await?;
        self.forget_lost(&lost);
        for (lane, seq) in cursors {
            if let Some(held) = &mut self.lanes[lane.index()] {
                held.saved = seq;
            }
        }
        Ok(())
    }

    pub(super) async fn release_lanes(&mut self) -> Result<(), OutboxError> {
        let held: Vec<_> = self.held().collect();
        self.lanes.fill(None);
        for (lane, held) in held {
            sqlx::query(sql(self.names.fill(RELEASE_LANE)))
                .bind(lane.number())
                .bind(self.owner)
                .bind(held.epoch)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    fn forget_lost(&mut self, lost: &[Lane]) {
        for lane in lost {
            self.lanes[lane.index()] = None;
        }
        crate::store::warn_of_lost_lanes(lost);
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
