//! Leases: rows with an owner, an epoch and an expiry by the database's clock. Not session advisory locks, which
//! break behind a transaction pooler. Every write of a cursor names the epoch, so that a relay which was paused
//! past its lease cannot move the cursor of its successor.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::fragments::fill;
use super::window::Snapshot;
use super::{PgCursor, PgStore, doorbell, park, window};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::{LANES, Lane};
use crate::store::{Claimed, Lease, Progress, Share};

/// Says that we are alive, renews what we hold, and counts the others.
const RENEW_LEASES: &str = "\
with alive as (
  insert into {relay} (owner, alive_until)
  select $1, clock_timestamp() + $2 * interval '1 millisecond' where $5
  on conflict (owner) do update set alive_until = excluded.alive_until
  returning owner),
buried as (
  delete from {relay} where alive_until < clock_timestamp() - interval '1 minute' and owner <> $1
  returning owner),
renewed as (
  update {lane} l set lease_until = clock_timestamp() + $2 * interval '1 millisecond'
  from unnest($3::smallint[], $4::bigint[]) as held (lane, epoch)
  where l.lane = held.lane and l.epoch = held.epoch and l.owner = $1
  returning l.lane)
select array(select lane from renewed),
       (select count(*) from {relay} where owner <> $1 and alive_until > clock_timestamp()),
       exists (select from {relay} where owner = $1)";

const TAKE_FREE_LANES: &str = "\
with free as (
  select lane from {lane}
  where (owner is null or owner = $1 or lease_until < clock_timestamp()) and lane <> all ($3::smallint[])
    and (sysid is null or sysid = (select system_identifier from pg_control_system()))
  order by lane
  limit $4
  for update skip locked)
update {lane} l
set owner = $1, epoch = epoch + 1, lease_until = clock_timestamp() + $2 * interval '1 millisecond',
    sysid = coalesce(l.sysid, cluster.system_identifier)
from free, pg_control_system() cluster where l.lane = free.lane
returning l.lane, l.epoch, l.prev::text, l.prev_floor, l.prev_h::text, l.cur::text, l.cur_floor, l.cur_h::text,
          l.last_seq";

const OF_ANOTHER_CLUSTER: &str =
    "select exists (select from {lane} where sysid <> (select system_identifier from pg_control_system()))";

/// Only over the session that the windows were opened over: a pooler could hide a crash of the server in between.
const SAVE_CURSORS: &str = "\
update {lane} l
set prev = s.prev, prev_floor = s.prev_floor, prev_h = s.prev_h,
    cur = s.cur, cur_floor = s.cur_floor, cur_h = s.cur_h, last_seq = s.last_seq
from unnest($2::smallint[], $3::bigint[], $4::text[]::pg_snapshot[], $5::bigint[], $6::text[]::xid8[],
            $7::text[]::pg_snapshot[], $8::bigint[], $9::text[]::xid8[], $10::bigint[])
  as s (lane, epoch, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq)
where l.lane = s.lane and l.epoch = s.epoch and l.owner = $1 and pg_backend_pid() = $11
returning l.lane";

const RELEASE_LANES: &str = "\
update {lane} l set owner = null, lease_until = null
from unnest($2::smallint[], $3::bigint[]) as held (lane, epoch)
where l.lane = held.lane and l.epoch = held.epoch and l.owner = $1";

fn columns(held: &[Lease]) -> (Vec<i16>, Vec<i64>) {
    held.iter().map(|lease| (lease.lane.number(), lease.epoch)).unzip()
}

fn missing_of(held: &[Lease], ours: &[i16]) -> Vec<Lane> {
    held.iter().map(|lease| lease.lane).filter(|lane| !ours.contains(&lane.number())).collect()
}

impl PgStore {
    pub(super) async fn claim_over(
        &self,
        connection: &mut PgConnection,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<PgCursor>, OutboxError> {
        let fair = share == Share::Fair;
        let (lanes, epochs) = columns(held);
        let (renewed, others, known): (Vec<i16>, i64, bool) = sqlx::query_as(fill(&self.names, RENEW_LEASES))
            .bind(self.owner)
            .bind(self.lease_millis())
            .bind(&lanes)
            .bind(&epochs)
            .bind(fair)
            .fetch_one(&mut *connection)
            .await?;
        let share = if fair { LANES.div_ceil(usize::try_from(others).unwrap_or(0) + 1) } else { LANES };
        let lost = missing_of(held, &renewed);
        let mut taken = Vec::new();
        if renewed.len() < share {
            let rows = sqlx::query(fill(&self.names, TAKE_FREE_LANES))
                .bind(self.owner)
                .bind(self.lease_millis())
                .bind(&renewed)
                .bind((share - renewed.len()) as i64)
                .fetch_all(&mut *connection)
                .await?;
            if rows.is_empty()
                && sqlx::query_scalar(fill(&self.names, OF_ANOTHER_CLUSTER))
                    .fetch_one(&mut *connection)
                    .await?
            {
                return Err(window::of_another_cluster());
            }
            for row in &rows {
                let lane = Lane::from_number(row.try_get("lane")?);
                let lease = Lease { lane, epoch: row.try_get("epoch")? };
                taken.push((lease, saved_cursor(row)?, Vec::new()));
            }
            if !taken.is_empty() {
                failpoint("after-taking-lanes");
                park::keys(connection, &self.names, &mut taken).await?;
            }
        }
        if fair && !known && others > 0 {
            // The others have lanes too many now.
            doorbell::call_relays(connection, &self.names).await?;
        }
        Ok(Claimed { lost, taken, share })
    }

    pub(super) async fn save_over(
        &self,
        connection: &mut PgConnection,
        progress: &[Progress<PgCursor>],
    ) -> Result<Vec<Lane>, OutboxError> {
        let (parking, plain): (Vec<_>, Vec<_>) =
            progress.iter().partition(|progress| !progress.parked.is_empty());
        let mut lost = Vec::new();
        if !plain.is_empty() {
            lost = self.save_cursors(connection, &plain).await?;
        }
        for progress in parking {
            let mut tx = connection.begin().await?;
            let lost_now = self.save_cursors(&mut tx, &[progress]).await?;
            if lost_now.is_empty() {
                failpoint("before-parking");
                park::park(&mut tx, &self.names, &progress.parked).await?;
                failpoint("after-parking");
                tx.commit().await?;
            } else {
                tx.rollback().await?;
                lost.extend(lost_now);
            }
        }
        Ok(lost)
    }

    async fn save_cursors(
        &self,
        connection: &mut PgConnection,
        progress: &[&Progress<PgCursor>],
    ) -> Result<Vec<Lane>, OutboxError> {
        let held: Vec<Lease> = progress.iter().map(|progress| progress.lease).collect();
        let (lanes, epochs) = columns(&held);
        let cursors = || progress.iter().map(|progress| &progress.cursor);
        let cur = |field: fn(&Snapshot) -> &str| -> Vec<Option<&str>> {
            cursors().map(|cursor| cursor.cur.as_deref().map(field)).collect()
        };
        let saved: Vec<i16> = sqlx::query_scalar(fill(&self.names, SAVE_CURSORS))
            .bind(self.owner)
            .bind(&lanes)
            .bind(&epochs)
            .bind(cursors().map(|c| c.prev.snapshot.as_str()).collect::<Vec<_>>())
            .bind(cursors().map(|c| c.prev.floor).collect::<Vec<_>>())
            .bind(cursors().map(|c| c.prev.horizon.as_str()).collect::<Vec<_>>())
            .bind(cur(|snapshot| &snapshot.snapshot))
            .bind(cursors().map(|c| c.cur.as_ref().map(|cur| cur.floor)).collect::<Vec<_>>())
            .bind(cur(|snapshot| &snapshot.horizon))
            .bind(cursors().map(|c| c.last_seq).collect::<Vec<_>>())
            .bind(self.backend)
            .fetch_all(&mut *connection)
            .await?;
        Ok(missing_of(&held, &saved))
    }

    pub(super) async fn release_over(
        &self,
        connection: &mut PgConnection,
        held: &[Lease],
        leaving: bool,
    ) -> Result<(), OutboxError> {
        let (lanes, epochs) = columns(held);
        sqlx::query(fill(&self.names, RELEASE_LANES))
            .bind(self.owner)
            .bind(&lanes)
            .bind(&epochs)
            .execute(&mut *connection)
            .await?;
        if leaving {
            sqlx::query(fill(&self.names, "delete from {relay} where owner = $1"))
                .bind(self.owner)
                .execute(&mut *connection)
                .await?;
        }
        doorbell::call_relays(connection, &self.names).await?;
        Ok(())
    }
}

fn saved_cursor(row: &PgRow) -> Result<PgCursor, sqlx::Error> {
    let cur: Option<String> = row.try_get("cur")?;
    Ok(PgCursor {
        prev: Arc::new(Snapshot {
            snapshot: row.try_get("prev")?,
            floor: row.try_get("prev_floor")?,
            horizon: row.try_get("prev_h")?,
        }),
        cur: match cur {
            Some(snapshot) => Some(Arc::new(Snapshot {
                snapshot,
                floor: row.try_get("cur_floor")?,
                horizon: row.try_get("cur_h")?,
            })),
            None => None,
        },
        last_seq: row.try_get("last_seq")?,
    })
}
