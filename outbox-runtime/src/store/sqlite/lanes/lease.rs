//! Leases, as on Postgres: several processes may open the file, each with a relay.

use std::time::Instant;

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::{SqliteLaneStore, park};
use crate::error::{ErrorKind, OutboxError};
use crate::failpoint::failpoint;
use crate::record::{LANES, Lane};
use crate::store::error::StoreError;
use crate::store::lanes::{Claimed, HeldElsewhere, KnownParked, Lease, Progress, Saved, Share};
use crate::store::liveness::Sign;
use crate::store::names::{Names, sql};
use crate::store::sqlite::clock::{millis, unix_millis};

const SAY_ALIVE: &str = "\
insert into {relay} (owner, shares, sign, alive_until, lease_millis) values ($1, $2, 1, $3, $4)
on conflict (owner) do update set sign = sign + 1, alive_until = excluded.alive_until";

const SIGNS: &str =
    "select owner, sign, lease_millis, alive_until > $2, shares from {relay} where owner <> $1";

/// Removes relays that are long dead and hold no lanes.
const BURY: &str = "\
delete from {relay}
where owner = $1 and alive_until < $2 - 60000 and not exists (select 1 from {lane} where owner = $1)";

const LANES_AND_HOLDERS: &str = "\
select l.lane, l.epoch, l.last_seq, l.owner, r.alive_until
from {lane} l left join {relay} r on r.owner = l.owner
order by l.lane";

const TAKE_LANE: &str = "update {lane} set owner = $1, epoch = epoch + 1 where lane = $2";

const SAVE_CURSOR: &str =
    "update {lane} set last_seq = $1 where lane = $2 and owner = $3 and epoch = $4";

const RELEASE_LANE: &str =
    "update {lane} set owner = null where lane = $1 and owner = $2 and epoch = $3";

type LaneColumns = (i16, i64, i64, Option<Uuid>, Option<i64>);

/// A row of [`LANES_AND_HOLDERS`].
struct LaneRow {
    lane: Lane,
    epoch: i64,
    cursor: i64,
    owner: Option<Uuid>,
    alive_until: Option<i64>,
}

impl LaneRow {
    /// The relay that holds the lane, if it is alive and not `us`.
    fn holder(&self, us: Uuid, dead: &[(Uuid, i64)]) -> Option<Uuid> {
        let is_dead = |owner: &Uuid| dead.iter().any(|(dead, _)| dead == owner);
        // A relay that is long dead has no row any more.
        self.owner.filter(|owner| *owner != us && self.alive_until.is_some() && !is_dead(owner))
    }
}

impl SqliteLaneStore {
    /// Mostly in single statements: a process that is suspended within a transaction blocks all
    /// writers.
    pub(super) async fn claim_lanes(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<i64>, StoreError> {
        let now = unix_millis();
        let fair = share == Share::Fair;
        let mut connection = self.pool.acquire().await?;
        sqlx::query(sql(self.names.fill(SAY_ALIVE)))
            .bind(self.owner)
            .bind(fair)
            .bind(now.saturating_add(millis(self.lease)))
            .bind(millis(self.lease))
            .execute(&mut *connection)
            .await?;
        let signs = self.signs(&mut connection, now).await?;
        let dead: Vec<(Uuid, i64)> = self
            .liveness
            .dead(&signs, Instant::now())
            .iter()
            .map(|sign| (sign.owner, sign.number))
            .collect();
        let is_dead = |owner| dead.iter().any(|(dead, _)| *dead == owner);
        let others = signs.iter().filter(|sign| sign.shares && !is_dead(sign.owner)).count();
        let share = if fair { LANES.div_ceil(others + 1) } else { LANES };
        let rows = self.lane_rows(&mut connection).await?;
        let is_ours = |lease: &&Lease| {
            rows.iter().any(|row| {
                (row.lane, row.epoch, row.owner) == (lease.lane, lease.epoch, Some(self.owner))
            })
        };
        let (ours, lost): (Vec<&Lease>, Vec<&Lease>) = held.iter().partition(is_ours);
        let ours: Vec<Lane> = ours.into_iter().map(|lease| lease.lane).collect();
        let lost = lost.into_iter().map(|lease| lease.lane).collect();
        let is_free =
            |row: &&LaneRow| !ours.contains(&row.lane) && row.holder(self.owner, &dead).is_none();
        let wanted = share.saturating_sub(ours.len());
        let mut taken = Vec::new();
        if wanted > 0 && rows.iter().any(|row| is_free(&row)) {
            taken = self.take(&mut connection, &dead, &ours, wanted).await?;
        }
        for (owner, _) in &dead {
            let bury = sqlx::query(sql(self.names.fill(BURY))).bind(owner).bind(now);
            bury.execute(&mut *connection).await?;
        }
        let mut elsewhere = Vec::new();
        if !fair && ours.len() + taken.len() < LANES {
            elsewhere = rows
                .iter()
                .filter_map(|row| {
                    let owner = row.holder(self.owner, &dead)?;
                    let for_millis = row.alive_until.unwrap_or(now).saturating_sub(now);
                    Some(HeldElsewhere { lane: row.lane, owner, for_millis })
                })
                .collect();
        }
        Ok(Claimed { lost, taken, share, elsewhere })
    }

    /// Takes up to `wanted` free lanes. `dead`: relays, and their last signs of life.
    async fn take(
        &self,
        connection: &mut SqliteConnection,
        dead: &[(Uuid, i64)],
        ours: &[Lane],
        wanted: usize,
    ) -> Result<Vec<(Lease, i64, KnownParked)>, StoreError> {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        // Only relays that have given no sign of life since.
        let signs = self.signs(&mut tx, unix_millis()).await?;
        let is_dead = |(owner, number): &(Uuid, i64)| {
            !signs.iter().any(|sign| sign.owner == *owner && sign.number != *number)
        };
        let dead: Vec<(Uuid, i64)> = dead.iter().copied().filter(is_dead).collect();
        let mut rows = self.lane_rows(&mut tx).await?;
        rows.retain(|row| !ours.contains(&row.lane) && row.holder(self.owner, &dead).is_none());
        let mut taken = Vec::new();
        for LaneRow { lane, epoch, cursor, .. } in rows.into_iter().take(wanted) {
            sqlx::query(sql(self.names.fill(TAKE_LANE)))
                .bind(self.owner)
                .bind(lane.number())
                .execute(&mut *tx)
                .await?;
            let parked = park::keys(&mut tx, &self.names, lane).await?;
            taken.push((Lease { lane, epoch: epoch + 1 }, cursor, parked));
        }
        tx.commit().await?;
        failpoint("after-taking-lanes");
        Ok(taken)
    }

    async fn lane_rows(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<LaneRow>, StoreError> {
        let rows: Vec<LaneColumns> =
            sqlx::query_as(sql(self.names.fill(LANES_AND_HOLDERS))).fetch_all(connection).await?;
        if rows.len() < LANES {
            return Err(rows_are_missing(&self.names, LANES - rows.len()).into());
        }
        let row = |(lane, epoch, cursor, owner, alive_until)| LaneRow {
            lane: Lane::from_number(lane),
            epoch,
            cursor,
            owner,
            alive_until,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The latest sign of life of each of the others.
    async fn signs(
        &self,
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<Vec<Sign>, StoreError> {
        let signs: Vec<(Uuid, i64, i64, bool, bool)> = sqlx::query_as(sql(self.names.fill(SIGNS)))
            .bind(self.owner)
            .bind(now)
            .fetch_all(connection)
            .await?;
        let sign = |(owner, number, lease_millis, in_time, shares)| Sign {
            owner,
            number,
            lease_millis,
            in_time,
            shares,
        };
        Ok(signs.into_iter().map(sign).collect())
    }

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

    pub(super) async fn release_lanes(
        &self,
        held: &[Lease],
        leaving: bool,
    ) -> Result<(), StoreError> {
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

fn rows_are_missing(names: &Names, missing: usize) -> OutboxError {
    let table = names.qualified("lane");
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "the table {table} lacks {missing} of its {LANES} rows, one for each lane: they were deleted. The relay stopped, \
             for it cannot know what is published of these lanes; all retained events are still in the outbox. \
             `insert or ignore into {table} (lane) values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), \
             (13), (14), (15)` has the retained events of \
             the missing lanes published again, and idempotent consumers skip those they know"
        ),
    )
}
