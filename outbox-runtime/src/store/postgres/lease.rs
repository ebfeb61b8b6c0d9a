//! Leases: rows with an owner, an epoch and an expiry by the database's clock. Not session advisory locks, which
//! break behind a transaction pooler. Every write of a cursor names the epoch, so that a relay which was paused
//! past its lease cannot move the cursor of its successor; and the window that it moves in, so that a cursor which the
//! database did not keep (a crash, a failover) is not built upon.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::window::Snapshot;
use super::{HeldLane, PgCursor, PgStore};
use crate::error::OutboxError;
use crate::record::Lane;
use crate::store::sql;

const TAKE_FREE_LANES: &str = "\
with free as (
  select lane from {lane}
  where (owner is null or owner = $1 or lease_until < clock_timestamp()) and lane <> all ($3::smallint[])
  order by lane
  for update skip locked)
update {lane} l
set owner = $1, epoch = epoch + 1, lease_until = clock_timestamp() + $2 * interval '1 millisecond'
from free where l.lane = free.lane
returning l.lane, l.epoch, l.prev::text, l.prev_floor, l.prev_h::text, l.cur::text, l.cur_floor, l.cur_h::text,
          l.last_seq";

const RENEW_LEASES: &str = "\
update {lane} l set lease_until = clock_timestamp() + $2 * interval '1 millisecond'
from unnest($3::smallint[], $4::bigint[]) as held (lane, epoch)
where l.lane = held.lane and l.epoch = held.epoch and l.owner = $1
returning l.lane";

const SAVE_CURSORS: &str = "\
update {lane} l
set prev = s.prev, prev_floor = s.prev_floor, prev_h = s.prev_h,
    cur = s.cur, cur_floor = s.cur_floor, cur_h = s.cur_h, last_seq = s.last_seq
from unnest($2::smallint[], $3::bigint[], $4::text[]::pg_snapshot[], $5::bigint[], $6::text[]::xid8[],
            $7::text[]::pg_snapshot[], $8::bigint[], $9::text[]::xid8[], $10::bigint[], $11::text[])
  as s (lane, epoch, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq, open_window)
where l.lane = s.lane and l.epoch = s.epoch and l.owner = $1 and l.cur::text = s.open_window
returning l.lane";

const RELEASE_LANES: &str = "\
update {lane} l set owner = null, lease_until = null
from unnest($2::smallint[], $3::bigint[]) as held (lane, epoch)
where l.lane = held.lane and l.epoch = held.epoch and l.owner = $1";

impl PgStore {
    pub(super) async fn take_free_lanes(&mut self) -> Result<(), OutboxError> {
        let rows = sqlx::query(sql(self.names.fill(TAKE_FREE_LANES)))
            .bind(self.owner)
            .bind(self.lease.as_millis() as f64)
            .bind(self.held_epochs().0)
            .fetch_all(&self.pool)
            .await?;
        for row in &rows {
            let lane = Lane::from_number(row.try_get("lane")?);
            let saved = saved_cursor(row)?;
            self.lanes[lane.index()] =
                Some(HeldLane { epoch: row.try_get("epoch")?, read: saved.clone(), saved });
        }
        Ok(())
    }

    pub(super) async fn renew_leases(&mut self) -> Result<(), OutboxError> {
        let (lanes, epochs) = self.held_epochs();
        if lanes.is_empty() {
            return Ok(());
        }
        let renewed = sqlx::query_scalar(sql(self.names.fill(RENEW_LEASES)))
            .bind(self.owner)
            .bind(self.lease.as_millis() as f64)
            .bind(&lanes)
            .bind(&epochs)
            .fetch_all(&self.pool)
            .await?;
        self.forget_lost(&lanes, &renewed);
        Ok(())
    }

    pub(super) async fn save_cursors(&mut self, cursors: Vec<(Lane, PgCursor)>) -> Result<(), OutboxError> {
        let cursors: Vec<(Lane, i64, PgCursor)> = cursors
            .into_iter()
            .filter_map(|(lane, cursor)| Some((lane, self.lanes[lane.index()].as_ref()?.epoch, cursor)))
            .collect();
        if cursors.is_empty() {
            return Ok(());
        }
        let lanes: Vec<i16> = cursors.iter().map(|(lane, ..)| lane.number()).collect();
        let cur = |field: fn(&Snapshot) -> &str| -> Vec<Option<&str>> {
            cursors.iter().map(|(.., cursor)| cursor.cur.as_ref().map(field)).collect()
        };
        let saved = sqlx::query_scalar(sql(self.names.fill(SAVE_CURSORS)))
            .bind(self.owner)
            .bind(&lanes)
            .bind(cursors.iter().map(|(_, epoch, _)| *epoch).collect::<Vec<_>>())
            .bind(cursors.iter().map(|(.., c)| c.prev.snapshot.as_str()).collect::<Vec<_>>())
            .bind(cursors.iter().map(|(.., c)| c.prev.floor).collect::<Vec<_>>())
            .bind(cursors.iter().map(|(.., c)| c.prev.horizon.as_str()).collect::<Vec<_>>())
            .bind(cur(|snapshot| &snapshot.snapshot))
            .bind(cursors.iter().map(|(.., c)| c.cur.as_ref().map(|cur| cur.floor)).collect::<Vec<_>>())
            .bind(cur(|snapshot| &snapshot.horizon))
            .bind(cursors.iter().map(|(.., c)| c.last_seq).collect::<Vec<_>>())
            .bind(cursors.iter().map(|(.., c)| c.window().snapshot.as_str()).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        self.forget_lost(&lanes, &saved);
        for (lane, _, cursor) in cursors {
            if let Some(held) = &mut self.lanes[lane.index()] {
                held.saved = cursor;
            }
        }
        Ok(())
    }

    pub(super) async fn release_lanes(&mut self) -> Result<(), OutboxError> {
        let (lanes, epochs) = self.held_epochs();
        self.lanes.fill(None);
        if !lanes.is_empty() {
            sqlx::query(sql(self.names.fill(RELEASE_LANES)))
                .bind(self.owner)
                .bind(&lanes)
                .bind(&epochs)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    fn held_epochs(&self) -> (Vec<i16>, Vec<i64>) {
        self.held().map(|(lane, held)| (lane.number(), held.epoch)).unzip()
    }

    /// Of the lanes `asked` for, keeps those that the database still knew as ours.
    pub(super) fn forget_lost(&mut self, asked: &[i16], ours: &[i16]) {
        let lost: Vec<Lane> =
            asked.iter().filter(|lane| !ours.contains(lane)).map(|lane| Lane::from_number(*lane)).collect();
        for lane in &lost {
            self.lanes[lane.index()] = None;
        }
        crate::store::warn_of_lost_lanes(&lost);
    }
}

fn saved_cursor(row: &PgRow) -> Result<PgCursor, sqlx::Error> {
    let cur: Option<String> = row.try_get("cur")?;
    Ok(PgCursor {
        prev: Snapshot {
            snapshot: row.try_get("prev")?,
            floor: row.try_get("prev_floor")?,
            horizon: row.try_get("prev_h")?,
        },
        cur: match cur {
            Some(snapshot) => {
                Some(Snapshot { snapshot, floor: row.try_get("cur_floor")?, horizon: row.try_get("cur_h")? })
            }
            None => None,
        },
        last_seq: row.try_get("last_seq")?,
    })
}
