//! Leases, as on Postgres: several processes may have the file open, each with a relay.

use sqlx::{Row, SqliteConnection};

use super::{SqliteStore, millis, park, unix_millis};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::{LANES, Lane};
use crate::store::{Claimed, Lease, Progress, Share, sql};

const SAY_ALIVE: &str = "\
insert into {relay} (owner, alive_until) values ($1, $2)
on conflict (owner) do update set alive_until = excluded.alive_until";

const COUNT_OTHERS: &str = "select count(*) from {relay} where owner <> $1 and alive_until > $2";

const RENEW_LEASE: &str = "\
update {lane} set lease_until = $1 where lane = $2 and owner = $3 and epoch = $4";

const FREE_LANES: &str = "\
select lane, epoch, last_seq from {lane}
where owner is null or owner = $1 or lease_until < $2
order by lane";

const TAKE_LANE: &str = "update {lane} set owner = $1, epoch = epoch + 1, lease_until = $2 where lane = $3";

const SAVE_CURSOR: &str = "update {lane} set last_seq = $1 where lane = $2 and owner = $3 and epoch = $4";

const RELEASE_LANE: &str = "\
update {lane} set owner = null, lease_until = null where lane = $1 and owner = $2 and epoch = $3";

impl SqliteStore {
    pub(super) async fn claim_lanes(
        &self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<i64>, OutboxError> {
        let now = unix_millis();
        let until = now + millis(self.lease);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let share = match share {
            Share::All => LANES,
            Share::Fair => {
                sqlx::query(sql(self.names.fill(SAY_ALIVE)))
                    .bind(self.owner)
                    .bind(until)
                    .execute(&mut *tx)
                    .await?;
                let others: u32 = sqlx::query_scalar(sql(self.names.fill(COUNT_OTHERS)))
                    .bind(self.owner)
                    .bind(now)
                    .fetch_one(&mut *tx)
                    .await?;
                LANES.div_ceil(others as usize + 1)
            }
        };
        let mut lost = Vec::new();
        let mut ours = Vec::new();
        for lease in held {
            let renewed = sqlx::query(sql(self.names.fill(RENEW_LEASE)))
                .bind(until)
                .bind(lease.lane.number())
                .bind(self.owner)
                .bind(lease.epoch)
                .execute(&mut *tx)
                .await?;
            if renewed.rows_affected() == 0 { &mut lost } else { &mut ours }.push(lease.lane);
        }
        let free = sqlx::query(sql(self.names.fill(FREE_LANES)))
            .bind(self.owner)
            .bind(now)
            .fetch_all(&mut *tx)
            .await?;
        let mut taken = Vec::new();
        for row in &free {
            let lane = Lane::from_number(row.try_get("lane")?);
            if ours.contains(&lane) || ours.len() + taken.len() >= share {
                continue;
            }
            sqlx::query(sql(self.names.fill(TAKE_LANE)))
                .bind(self.owner)
                .bind(until)
                .bind(lane.number())
                .execute(&mut *tx)
                .await?;
            let lease = Lease { lane, epoch: row.try_get::<i64, _>("epoch")? + 1 };
            let parked = park::keys(&mut tx, &self.names, lane).await?;
            taken.push((lease, row.try_get("last_seq")?, parked));
        }
        tx.commit().await?;
        if !taken.is_empty() {
            failpoint("after-taking-lanes");
        }
        Ok(Claimed { lost, taken, share })
    }

    pub(super) async fn save_cursors(&self, progress: &[Progress<i64>]) -> Result<Vec<Lane>, OutboxError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut lost = Vec::new();
        for Progress { lease, cursor, parked } in progress {
            if !self.save_cursor(&mut tx, *lease, *cursor).await? {
                lost.push(lease.lane);
            } else if !parked.is_empty() {
                failpoint("before-parking");
                park::park(&mut tx, &self.names, parked).await?;
                failpoint("after-parking");
            }
        }
        tx.commit().await?;
        Ok(lost)
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

    pub(super) async fn release_lanes(&self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for lease in held {
            sqlx::query(sql(self.names.fill(RELEASE_LANE)))
                .bind(lease.lane.number())
                .bind(self.owner)
                .bind(lease.epoch)
                .execute(&mut *tx)
                .await?;
        }
        if leaving {
            sqlx::query(sql(self.names.fill("delete from {relay} where owner = $1")))
                .bind(self.owner)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
