//! Leases: a lane has an owner and an epoch, and the owner gives signs of life. Session advisory
//! locks would break behind a transaction pooler. Every write of a cursor names the epoch, so that
//! a relay that was suspended past its lease cannot move the cursor of its successor.
//!
//! What is written frequently (cursors, signs of life) is inserted, never updated. As long as a
//! snapshot is held open (by a dump, an idle transaction, a replica), Postgres keeps every version
//! of a row, and reading the row goes through all of them. The latest of any number of inserted
//! rows is found at the end of an index.

use std::sync::Arc;
use std::time::Instant;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::cursor::{PgCursor, Snapshot, of_another_cluster, progress_is_missing};
use super::save::{columns_of, missing_of};
use super::{PgLaneStore, park};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::record::{LANES, Lane};
use crate::store::groups::claims::delivered_exactly_once;
use crate::store::lanes::{Claimed, HeldElsewhere, KnownParked, Lease, Share, lanes_to_take};
use crate::store::liveness::Peers;
use crate::store::names::Names;
use crate::store::postgres::fragments::fill;
use crate::store::postgres::{groups, pause, wakeup};
use crate::store::row::row;

/// Gives a sign of life, and returns which lanes are still ours. These are locked: a relay that
/// takes lanes over looks for the sign after it has locked them. A lane that another transaction
/// has locked counts as lost, so that the others need not wait for it.
const RENEW_LEASES: &str = "\
with registered as (
  insert into {relay} (owner, shares, host, pid, version) values ($1, $5, $6, $7, $8) on conflict (owner) do nothing),
alive as (
  insert into {heartbeat} (owner, alive_until, lease_millis)
  values ($1, clock_timestamp() + $2::bigint * interval '1 millisecond', $2)),
ours as (
  select l.lane from unnest($3::smallint[], $4::bigint[]) as held (lane, epoch)
  join {lane} l on l.lane = held.lane and l.epoch = held.epoch
  where l.owner = $1
  for share of l skip locked)
select array(select lane from ours) as ours, (select count(*) from {lane}) as lanes,
       (select count(*) from {lane} where owner = $1) as owned,
       exists (select from {relay} where owner = $1) as known";

/// The latest sign of life of each of the others.
const SIGNS: &str = "\
select r.owner, coalesce(h.id, 0) as number, coalesce(h.lease_millis, 0) as lease_millis,
       coalesce(h.alive_until > clock_timestamp(), false) as in_time, r.shares
from {relay} r
left join lateral (
  select h.* from {heartbeat} h where h.owner = r.owner order by h.id desc limit 1) h on true
where r.owner <> $1";

/// Removes relays that are long dead and hold no lanes.
const REMOVE_DEAD: &str = "\
delete from {relay} r
where r.owner = any ($1) and not exists (select from {lane} l where l.owner = r.owner)
  and not exists (
    select from {heartbeat} h where h.owner = r.owner and h.alive_until > clock_timestamp() - interval '1 minute')";

/// Whether a lane is free: no relay holds it, or this one does (and has forgotten it), or a dead
/// relay (`$2`, `$3`: its latest sign) that has given no later sign.
const FREE: &str = "\
(l.owner is null or l.owner = $1 or not exists (select from {relay} r where r.owner = l.owner)
 or exists (
   select from unnest($2::uuid[], $3::bigint[]) as dead (owner, id)
   where dead.owner = l.owner
     and dead.id = coalesce((select h.id from {heartbeat} h where h.owner = l.owner order by h.id desc limit 1), 0)))";

const LOCK_FREE_LANES: &str = "\
select l.lane, l.owner is not null and l.owner <> $1 as of_another from {lane} l
where {free} and l.lane <> all ($4::smallint[])
  and (l.sysid is null or l.sysid = (select system_identifier from pg_control_system()))
order by l.owner is distinct from $1, l.lane
limit $5
for update skip locked";

/// A statement of its own: it sees what was committed before the lanes were locked.
const TAKE_LANES: &str = "\
update {lane} l
set owner = $1, epoch = epoch + 1, sysid = coalesce(l.sysid, cluster.system_identifier)
from pg_control_system() cluster
where l.lane = any ($4) and {free}
returning l.lane, l.epoch";

/// This one as well: after the lanes were locked, their former holder saves nothing any more.
const SAVED_CURSORS: &str = "\
select taken.lane, l.prev::text as prev, l.prev_floor, l.prev_h::text as prev_h, l.cur::text as cur,
       l.cur_floor, l.cur_h::text as cur_h, l.last_seq
from unnest($1::smallint[]) as taken (lane) left join {cursors} l on l.lane = taken.lane";

const OF_ANOTHER_CLUSTER: &str = "select exists (select from {lane} where sysid <> (select system_identifier from pg_control_system()))";

/// Which relays hold the lanes that are not ours, and for how long.
const HELD_ELSEWHERE: &str = "\
select l.lane, l.owner, coalesce((
         select extract(epoch from h.alive_until - clock_timestamp()) * 1000
         from {heartbeat} h where h.owner = l.owner order by h.id desc limit 1), 0)::bigint as for_millis
from {lane} l
where l.owner <> $1
order by l.lane";

const PUT_LANES_BACK: &str = "\
insert into {lane} (lane) select generate_series(0, 15) on conflict (lane) do nothing returning lane";

const RELEASE_LANES: &str = "\
update {lane} l set owner = null
from unnest($2::smallint[], $3::bigint[]) as held (lane, epoch)
where l.lane = held.lane and l.epoch = held.epoch and l.owner = $1";

row! {
    /// What [`RENEW_LEASES`] returns.
    struct Renewed {
        /// The lanes that are still ours.
        ours: Vec<i16>,
        /// Number of rows in the table of the lanes.
        lanes: i64,
        /// Number of lanes of which this relay is the owner, as far as the table knows.
        owned: i64,
        /// Whether this relay had given a sign of life before.
        known: bool,
    }

    /// A lane that may be taken.
    struct FreeRow {
        lane: i16,
        /// Whether another relay held it to its end.
        of_another: bool,
    }

    /// A lane that was taken.
    struct LeaseRow {
        lane: i16,
        epoch: i64,
    }

    /// A lane that another relay holds.
    struct HeldRow {
        lane: i16,
        owner: Uuid,
        for_millis: i64,
    }
}

/// Dead relays, and the numbers of their last signs of life.
struct Dead {
    owners: Vec<Uuid>,
    numbers: Vec<i64>,
}

impl Dead {
    fn of(peers: &Peers) -> Self {
        let (owners, numbers) = peers.dead.iter().map(|sign| (sign.owner, sign.number)).unzip();
        Self { owners, numbers }
    }
}

impl PgLaneStore {
    pub(super) async fn claim_over(
        &mut self,
        connection: &mut PgConnection,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<PgCursor>, OutboxError> {
        let fair = share == Share::Fair;
        let (lanes, epochs) = columns_of(held);
        let Renewed { ours, lanes, owned, known } = sqlx::query_as(fill(&self.names, RENEW_LEASES))
            .bind(self.owner)
            .bind(self.lease_millis())
            .bind(&lanes)
            .bind(&epochs)
            .bind(fair)
            .bind(&self.process.host)
            .bind(self.process.pid)
            .bind(self.process.version)
            .fetch_one(&mut *connection)
            .await?;
        if usize::try_from(lanes) != Ok(LANES) {
            put_lanes_back(connection, &self.names).await?;
        }
        let signs = sqlx::query_as(fill(&self.names, SIGNS)).bind(self.owner);
        let peers = self.liveness.of(signs.fetch_all(&mut *connection).await?, Instant::now());
        let lost = missing_of(held, &ours);
        let share = self.in_whole_groups(peers.share(share));
        let (reopened, taken, taken_over, held_elsewhere, pauses) = Default::default();
        let mut claimed =
            Claimed { lost, reopened, taken, taken_over, share, elsewhere: held_elsewhere, pauses };
        let dead = Dead::of(&peers);
        let wanted = lanes_to_take(share, ours.len(), usize::try_from(owned).unwrap_or(0));
        let wanted = self.in_whole_groups(wanted);
        if wanted > 0 {
            (claimed.taken, claimed.taken_over) =
                self.take(connection, &dead, &ours, wanted).await?;
        }
        if !dead.owners.is_empty() {
            let remove = sqlx::query(fill(&self.names, REMOVE_DEAD)).bind(&dead.owners);
            remove.execute(&mut *connection).await?;
        }
        if fair && !known && peers.sharing > 0 {
            // The others hold too many lanes now.
            wakeup::call_relays(&mut *connection, &self.names).await?;
        }
        if !fair && ours.len() + claimed.taken.len() < LANES {
            claimed.elsewhere = elsewhere(connection, &self.names, self.owner).await?;
        }
        // After the lanes were taken: nothing of them is sent that was paused before.
        claimed.pauses = pause::pauses(connection, &self.names).await?;
        Ok(claimed)
    }

    /// Takes up to `wanted` free lanes, first those that this relay has forgotten. Returns how many
    /// of them a dead relay held, too.
    async fn take(
        &self,
        connection: &mut PgConnection,
        dead: &Dead,
        ours: &[i16],
        wanted: usize,
    ) -> Result<(Vec<(Lease, PgCursor, KnownParked)>, usize), OutboxError> {
        if let Some(groups) = self.groups {
            groups::create(connection, &self.names, self.owner, groups).await?;
        }
        // Of a group, all lanes must be free.
        let most = if self.groups.is_some() { LANES } else { wanted };
        let mut tx =
            connection.begin_with("begin isolation level read committed read write").await?;
        let free: Vec<FreeRow> =
            sqlx::query_as(fill(&self.names, &LOCK_FREE_LANES.replace("{free}", FREE)))
                .bind(self.owner)
                .bind(&dead.owners)
                .bind(&dead.numbers)
                .bind(ours)
                .bind(most as i64)
                .fetch_all(&mut *tx)
                .await?;
        if self.groups.is_none() {
            refuse_groups(&mut tx, &self.names).await?;
        }
        let free = match self.groups {
            Some(groups) => groups.whole_of(free, wanted, |row| row.lane),
            None => free,
        };
        if free.is_empty() {
            let query = sqlx::query_scalar(fill(&self.names, OF_ANOTHER_CLUSTER));
            let is_another_cluster: bool = query.fetch_one(&mut *tx).await?;
            tx.rollback().await?;
            return if is_another_cluster {
                Err(of_another_cluster())
            } else {
                Ok(Default::default())
            };
        }
        let of_others: Vec<i16> =
            free.iter().filter(|row| row.of_another).map(|row| row.lane).collect();
        let free: Vec<i16> = free.into_iter().map(|row| row.lane).collect();
        let leases: Vec<LeaseRow> =
            sqlx::query_as(fill(&self.names, &TAKE_LANES.replace("{free}", FREE)))
                .bind(self.owner)
                .bind(&dead.owners)
                .bind(&dead.numbers)
                .bind(&free)
                .fetch_all(&mut *tx)
                .await?;
        let mut taken = with_cursors(&mut tx, &self.names, &leases).await?;
        tx.commit().await?;
        if !taken.is_empty() {
            failpoint("after-taking-lanes");
            park::keys(connection, &self.names, &mut taken).await?;
        }
        let taken_over = leases.iter().filter(|lease| of_others.contains(&lease.lane)).count();
        Ok((taken, taken_over))
    }

    /// A number of lanes that is one of whole groups.
    fn in_whole_groups(&self, lanes: usize) -> usize {
        self.groups.map_or(lanes, |groups| groups.whole(lanes))
    }

    pub(super) async fn release_over(
        &self,
        connection: &mut PgConnection,
        held: &[Lease],
        leaving: bool,
    ) -> Result<(), OutboxError> {
        let (lanes, epochs) = columns_of(held);
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
        wakeup::call_relays(connection, &self.names).await?;
        Ok(())
    }
}

/// The leases with the cursors that are saved of their lanes. Which keys are parked is not known
/// yet.
async fn with_cursors(
    connection: &mut PgConnection,
    names: &Names,
    leases: &[LeaseRow],
) -> Result<Vec<(Lease, PgCursor, KnownParked)>, OutboxError> {
    let lanes: Vec<i16> = leases.iter().map(|lease| lease.lane).collect();
    let rows = sqlx::query(fill(names, SAVED_CURSORS)).bind(&lanes).fetch_all(connection).await?;
    let mut taken = Vec::with_capacity(leases.len());
    for LeaseRow { lane, epoch } in leases {
        let is_of_lane = |row: &&PgRow| row.try_get::<i16, _>("lane").is_ok_and(|of| of == *lane);
        let cursor = rows.iter().find(is_of_lane).map(saved_cursor).transpose()?.flatten();
        let cursor = cursor.ok_or_else(|| progress_is_missing(names, *lane))?;
        let lease = Lease { lane: Lane::from_number(*lane), epoch: *epoch };
        taken.push((lease, cursor, None));
    }
    Ok(taken)
}

async fn elsewhere(
    connection: &mut PgConnection,
    names: &Names,
    owner: Uuid,
) -> Result<Vec<HeldElsewhere>, OutboxError> {
    let held: Vec<HeldRow> =
        sqlx::query_as(fill(names, HELD_ELSEWHERE)).bind(owner).fetch_all(connection).await?;
    let held_elsewhere = |HeldRow { lane, owner, for_millis }| HeldElsewhere {
        lane: Lane::from_number(lane),
        owner,
        for_millis,
    };
    Ok(held.into_iter().map(held_elsewhere).collect())
}

async fn refuse_groups(connection: &mut PgConnection, names: &Names) -> Result<(), OutboxError> {
    let query = sqlx::query_scalar(fill(
        names,
        "select exists (select from {group} where not handed_back)",
    ));
    if query.fetch_one(connection).await? { Err(delivered_exactly_once()) } else { Ok(()) }
}

/// Puts back rows that were deleted. They say who holds a lane; how far it is published is in
/// another table. So nothing is lost with them, but no relay would publish these lanes.
async fn put_lanes_back(connection: &mut PgConnection, names: &Names) -> Result<(), OutboxError> {
    let lanes: Vec<i16> =
        sqlx::query_scalar(fill(names, PUT_LANES_BACK)).fetch_all(connection).await?;
    if !lanes.is_empty() {
        tracing::warn!(
            target: target::STORE,
            ?lanes,
            "rows of these lanes were missing from the table {}, and the relay has put them back: their events are \
             published again from where they were",
            names.qualified("lane")
        );
    }
    Ok(())
}

pub(in crate::store::postgres) fn saved_cursor(
    row: &PgRow,
) -> Result<Option<PgCursor>, sqlx::Error> {
    let Some(prev) = row.try_get("prev")? else { return Ok(None) };
    let cur: Option<String> = row.try_get("cur")?;
    Ok(Some(PgCursor {
        prev: Arc::new(Snapshot {
            snapshot: prev,
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
    }))
}
