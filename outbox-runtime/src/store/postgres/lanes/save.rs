//! Saving how far lanes are delivered, with the events that are parked.

use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::{Connection, PgConnection, Postgres};

use super::cursor::{PgCursor, Snapshot};
use super::{PgLaneStore, park};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::Lane;
use crate::store::groups::Wave;
use crate::store::lanes::{Lease, Progress, Saved};
use crate::store::names::Names;
use crate::store::postgres::fragments::fill;

/// Only over the session over which the windows were opened: a pooler could hide a crash of the
/// server in between. The lanes are locked, so that they cannot change hands before the rows are
/// written. One that another transaction has locked counts as lost.
const SAVE_CURSORS: &str = "\
insert into {progress} (lane, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq, claim, wave)
select s.lane, s.prev, s.prev_floor, s.prev_h, s.cur, s.cur_floor, s.cur_h, s.last_seq, s.claim, s.wave
from unnest($2::smallint[], $3::bigint[], $4::text[]::pg_snapshot[], $5::bigint[], $6::text[]::xid8[],
            $7::text[]::pg_snapshot[], $8::bigint[], $9::text[]::xid8[], $10::bigint[], $12::uuid[], $13::bigint[])
  as s (lane, epoch, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq, claim, wave)
join {lane} l on l.lane = s.lane and l.epoch = s.epoch
where l.owner = $1 and pg_backend_pid() = $11
for share of l skip locked
returning lane";

/// In a transaction that has made sure of the lanes otherwise.
const INSERT_CURSORS: &str = "\
insert into {progress} (lane, prev, prev_floor, prev_h, cur, cur_floor, cur_h, last_seq)
select * from unnest($1::smallint[], $2::text[]::pg_snapshot[], $3::bigint[], $4::text[]::xid8[],
                     $5::text[]::pg_snapshot[], $6::bigint[], $7::text[]::xid8[], $8::bigint[])
returning lane";

impl PgLaneStore {
    pub(super) async fn save_over(
        &self,
        connection: &mut PgConnection,
        progress: &[Progress<PgCursor>],
    ) -> Result<Saved, OutboxError> {
        let (parking, plain): (Vec<_>, Vec<_>) =
            progress.iter().partition(|progress| !progress.parked.is_empty());
        let mut saved = Saved::default();
        if !plain.is_empty() {
            saved.lost = self.save_cursors(connection, &plain, &[]).await?;
        }
        for progress in parking {
            let mut tx = connection.begin_with(self.begin_for_one_lane()).await?;
            match self.save_and_park(&mut tx, progress).await {
                Ok(true) => tx.commit().await?,
                Ok(false) => {
                    tx.rollback().await?;
                    saved.lost.push(progress.lease.lane);
                }
                // The connection still accepts a statement, so the failure was the lane's own.
                Err(error) if error.is_of_one_statement() => {
                    tx.rollback().await?;
                    saved.failed.push((progress.lease.lane, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(saved)
    }

    /// Returns `false` if the lane is lost.
    async fn save_and_park(
        &self,
        connection: &mut PgConnection,
        progress: &Progress<PgCursor>,
    ) -> Result<bool, OutboxError> {
        let lost = self.save_cursors(connection, &[progress], &[]).await?;
        if lost.is_empty() {
            failpoint("before-parking");
            park::park(connection, &self.names, &progress.parked).await?;
            failpoint("after-parking");
        }
        Ok(lost.is_empty())
    }

    /// `after`: the waves after which they are saved, if there are any.
    pub(super) async fn save_cursors(
        &self,
        connection: &mut PgConnection,
        progress: &[&Progress<PgCursor>],
        after: &[Wave],
    ) -> Result<Vec<Lane>, OutboxError> {
        let held: Vec<Lease> = progress.iter().map(|progress| progress.lease).collect();
        let (lanes, epochs) = columns_of(&held);
        let after = |place: usize| after.get(place).copied();
        let waves = || (0..progress.len()).map(after);
        let cursors: Vec<&PgCursor> = progress.iter().map(|progress| &progress.cursor).collect();
        let save = sqlx::query_scalar(fill(&self.names, SAVE_CURSORS));
        let save = save.bind(self.owner).bind(&lanes).bind(&epochs);
        let saved: Vec<i16> = bind_cursors(save, &cursors)
            .bind(self.backend)
            .bind(waves().map(|wave| wave.map(|wave| wave.claim)).collect::<Vec<_>>())
            .bind(waves().map(|wave| wave.map(|wave| wave.number)).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
        Ok(missing_of(&held, &saved))
    }
}

/// Inserts progress that no wave of a claim has.
pub(in crate::store::postgres) async fn insert_cursors(
    connection: &mut PgConnection,
    names: &Names,
    lanes: &[(Lane, PgCursor)],
) -> Result<(), OutboxError> {
    let numbers: Vec<i16> = lanes.iter().map(|(lane, _)| lane.number()).collect();
    let cursors: Vec<&PgCursor> = lanes.iter().map(|(_, cursor)| cursor).collect();
    let insert = sqlx::query_scalar(fill(names, INSERT_CURSORS)).bind(&numbers);
    bind_cursors(insert, &cursors).fetch_all(connection).await?;
    Ok(())
}

/// Lanes that were saved.
type SaveQuery<'q> = QueryScalar<'q, Postgres, i16, PgArguments>;

/// The columns of cursors, as the next seven parameters.
fn bind_cursors<'q>(query: SaveQuery<'q>, cursors: &[&'q PgCursor]) -> SaveQuery<'q> {
    let of = || cursors.iter().copied();
    let cur = |field: fn(&Snapshot) -> &str| -> Vec<Option<&'q str>> {
        of().map(|cursor| cursor.cur.as_deref().map(field)).collect()
    };
    query
        .bind(of().map(|c| c.prev.snapshot.as_str()).collect::<Vec<_>>())
        .bind(of().map(|c| c.prev.floor).collect::<Vec<_>>())
        .bind(of().map(|c| c.prev.horizon.as_str()).collect::<Vec<_>>())
        .bind(cur(|snapshot| &snapshot.snapshot))
        .bind(of().map(|c| c.cur.as_ref().map(|cur| cur.floor)).collect::<Vec<_>>())
        .bind(cur(|snapshot| &snapshot.horizon))
        .bind(of().map(|c| c.last_seq).collect::<Vec<_>>())
}

pub(in crate::store::postgres) fn columns_of(held: &[Lease]) -> (Vec<i16>, Vec<i64>) {
    held.iter().map(|lease| (lease.lane.number(), lease.epoch)).unzip()
}

pub(super) fn missing_of(held: &[Lease], ours: &[i16]) -> Vec<Lane> {
    held.iter().map(|lease| lease.lane).filter(|lane| !ours.contains(&lane.number())).collect()
}
