//! Leases of lanes, by the clock of the database.

use std::time::Instant;

use sqlx::MySqlConnection;
use uuid::Uuid;

use super::{MySqlCursor, MySqlLaneStore, park};
use crate::error::{ErrorKind, OutboxError};
use crate::failpoint::failpoint;
use crate::record::{LANES, Lane};
use crate::store::error::StoreError;
use crate::store::lanes::{Claimed, HeldElsewhere, KnownParked, Lease, Share, lanes_to_take};
use crate::store::liveness::Sign;
use crate::store::mysql::clock::micros;
use crate::store::mysql::{connection, pause, statement};
use crate::store::names::Names;
use crate::store::row::row;

const SAY_ALIVE: &str = "\
insert into {relay} (owner, shares, sign, alive_until, lease_millis, host, pid, version, started_at)
values (?, ?, 1, {now} + ?, ?, ?, ?, ?, {now})
on duplicate key update sign = sign + 1, alive_until = values(alive_until)";

const SIGNS: &str = "\
select owner, sign as number, lease_millis, alive_until > {now} as in_time, shares from {relay} where owner <> ?";

/// Removes relays that are long dead and hold no lanes.
const REMOVE_DEAD: &str = "\
delete from {relay}
where owner = ? and alive_until < {now} - 60000000 and not exists (select 1 from {lane} l where l.owner = ?)";

const LANES_AND_HOLDERS: &str = "select lane, epoch, owner from {lane} order by lane";

const LEASES: &str = "\
select l.lane, l.owner, cast((r.alive_until - {now}) div 1000 as signed) as for_millis
from {lane} l join {relay} r on r.owner = l.owner order by l.lane";

const TAKE_LANE: &str = "update {lane} set owner = ?, epoch = epoch + 1 where lane = ?";

const RELEASE_LANE: &str =
    "update {lane} set owner = null where lane = ? and owner = ? and epoch = ?";

const STILL_OURS: &str =
    "select 1 from {lane} where lane = ? and owner = ? and epoch = ? for update";

row! {
    /// A row of [`LANES_AND_HOLDERS`].
    struct LaneRow {
        lane: i16,
        epoch: i64,
        owner: Option<Uuid>,
    }

    /// A row of [`LEASES`].
    struct LeaseRow {
        lane: i16,
        owner: Uuid,
        for_millis: i64,
    }
}

/// The other relays that have a row.
struct Others<'o> {
    signs: &'o [Sign],
    dead: &'o [Sign],
}

impl Others<'_> {
    /// Whether the relay is alive. One that is long dead has no row any more.
    fn is_alive(&self, owner: Uuid) -> bool {
        let is_it = |sign: &Sign| sign.owner == owner;
        self.signs.iter().any(is_it) && !self.dead.iter().any(is_it)
    }
}

impl LaneRow {
    fn is_leased(&self, us: Uuid, lease: &Lease) -> bool {
        self.lane == lease.lane.number() && self.epoch == lease.epoch && self.owner == Some(us)
    }

    fn is_one_of(&self, lanes: &[Lane]) -> bool {
        lanes.iter().any(|lane| lane.number() == self.lane)
    }

    /// Whether no other relay that is alive holds it.
    fn is_free(&self, us: Uuid, others: &Others<'_>) -> bool {
        self.owner.is_none_or(|owner| owner == us || !others.is_alive(owner))
    }
}

impl MySqlLaneStore {
    /// Mostly in single statements: a process that is suspended within a transaction keeps all
    /// others from the lanes.
    pub(super) async fn claim_lanes(
        &mut self,
        connection: &mut MySqlConnection,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<MySqlCursor>, StoreError> {
        let fair = share == Share::Fair;
        let lease_millis = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX / 2_000);
        sqlx::query(statement(&self.names, SAY_ALIVE))
            .bind(self.owner)
            .bind(fair)
            .bind(micros(self.lease))
            .bind(lease_millis)
            .bind(&self.process.host)
            .bind(self.process.pid)
            .bind(self.process.version)
            .execute(&mut *connection)
            .await?;
        let signs = self.signs(connection).await?;
        let peers = self.liveness.of(signs.clone(), Instant::now());
        let others = Others { signs: &signs, dead: &peers.dead };
        let rows = self.lane_rows(connection, false).await?;
        let is_ours = |lease: &Lease| rows.iter().any(|row| row.is_leased(self.owner, lease));
        let (ours, lost): (Vec<Lease>, Vec<Lease>) = held.iter().copied().partition(is_ours);
        let ours: Vec<Lane> = ours.into_iter().map(|lease| lease.lane).collect();
        let lost: Vec<Lane> = lost.into_iter().map(|lease| lease.lane).collect();
        let is_free = |row: &LaneRow| !row.is_one_of(&ours) && row.is_free(self.owner, &others);
        let share = peers.share(share);
        let owned = rows.iter().filter(|row| row.owner == Some(self.owner)).count();
        let wanted = lanes_to_take(share, ours.len(), owned);
        let (mut taken, mut taken_over) = (Vec::new(), 0);
        if wanted > 0 && rows.iter().any(is_free) {
            (taken, taken_over) = self.take(connection, &peers.dead, &ours, wanted).await?;
        }
        for sign in &peers.dead {
            let remove = sqlx::query(statement(&self.names, REMOVE_DEAD));
            remove.bind(sign.owner).bind(sign.owner).execute(&mut *connection).await?;
        }
        let mut elsewhere = Vec::new();
        if !fair && ours.len() + taken.len() < LANES {
            elsewhere = self.elsewhere(connection, &peers.dead).await?;
        }
        // After the lanes were taken: nothing of them is sent that was paused before.
        let pauses = pause::pauses(connection, &self.names).await?;
        for lane in lost.iter().copied().chain(taken.iter().map(|(lease, ..)| lease.lane)) {
            self.read.remove(&lane);
        }
        let reopened = Vec::new();
        Ok(Claimed { lost, reopened, taken, taken_over, share, elsewhere, pauses })
    }

    /// The lanes that other relays hold.
    async fn elsewhere(
        &self,
        connection: &mut MySqlConnection,
        dead: &[Sign],
    ) -> Result<Vec<HeldElsewhere>, StoreError> {
        let rows: Vec<LeaseRow> =
            sqlx::query_as(statement(&self.names, LEASES)).fetch_all(connection).await?;
        let of_others = rows.into_iter().filter(|row| {
            row.owner != self.owner && !dead.iter().any(|sign| sign.owner == row.owner)
        });
        let held = |LeaseRow { lane, owner, for_millis }| HeldElsewhere {
            lane: Lane::from_number(lane),
            owner,
            for_millis,
        };
        Ok(of_others.map(held).collect())
    }

    /// Takes up to `wanted` free lanes, first those that this relay has forgotten. `dead`: the last
    /// signs of life of dead relays. Returns how many of them one of those held, too.
    async fn take(
        &self,
        connection: &mut MySqlConnection,
        dead: &[Sign],
        ours: &[Lane],
        wanted: usize,
    ) -> Result<(Vec<(Lease, MySqlCursor, KnownParked)>, usize), StoreError> {
        let mut tx = connection::begin_on(connection).await?;
        // All of them in their order: two relays wait for each other in one direction only.
        let mut rows = self.lane_rows(&mut tx, true).await?;
        // Only relays that have given no sign of life since.
        let signs = self.signs(&mut tx).await?;
        let is_dead = |dead: &&Sign| {
            !signs.iter().any(|sign| sign.owner == dead.owner && sign.number != dead.number)
        };
        let dead: Vec<Sign> = dead.iter().filter(is_dead).cloned().collect();
        let others = Others { signs: &signs, dead: &dead };
        rows.retain(|row| !row.is_one_of(ours) && row.is_free(self.owner, &others));
        rows.sort_by_key(|row| row.owner != Some(self.owner));
        rows.truncate(wanted);
        let of_another = |row: &&LaneRow| row.owner.is_some_and(|owner| owner != self.owner);
        let taken_over = rows.iter().filter(of_another).count();
        let mut taken = Vec::new();
        for LaneRow { lane, epoch, .. } in rows {
            let take = sqlx::query(statement(&self.names, TAKE_LANE));
            take.bind(self.owner).bind(lane).execute(&mut *tx).await?;
            let lane = Lane::from_number(lane);
            let parked = park::keys(&mut tx, &self.names, lane).await?;
            taken.push((Lease { lane, epoch: epoch + 1 }, MySqlCursor::start(), parked));
        }
        tx.commit().await?;
        failpoint("after-taking-lanes");
        Ok((taken, taken_over))
    }

    async fn lane_rows(
        &self,
        connection: &mut MySqlConnection,
        lock: bool,
    ) -> Result<Vec<LaneRow>, StoreError> {
        let lanes = if lock {
            format!("{LANES_AND_HOLDERS} for update")
        } else {
            LANES_AND_HOLDERS.to_owned()
        };
        let rows: Vec<LaneRow> =
            sqlx::query_as(statement(&self.names, &lanes)).fetch_all(connection).await?;
        if rows.len() < LANES {
            return Err(rows_are_missing(&self.names, LANES - rows.len()).into());
        }
        Ok(rows)
    }

    /// The latest sign of life of each of the others.
    async fn signs(&self, connection: &mut MySqlConnection) -> Result<Vec<Sign>, StoreError> {
        let signs = sqlx::query_as(statement(&self.names, SIGNS));
        Ok(signs.bind(self.owner).fetch_all(connection).await?)
    }

    pub(super) async fn release_lanes(
        &self,
        connection: &mut MySqlConnection,
        held: &[Lease],
        leaving: bool,
    ) -> Result<(), StoreError> {
        let mut tx = connection::begin_on(connection).await?;
        for lease in held {
            sqlx::query(statement(&self.names, RELEASE_LANE))
                .bind(lease.lane.number())
                .bind(self.owner)
                .bind(lease.epoch)
                .execute(&mut *tx)
                .await?;
        }
        if leaving {
            let leave = sqlx::query(statement(&self.names, "delete from {relay} where owner = ?"));
            leave.bind(self.owner).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Whether this relay still holds the lane. Until the transaction ends, no other one takes it.
pub(super) async fn is_ours(
    connection: &mut MySqlConnection,
    names: &Names,
    owner: Uuid,
    lease: Lease,
) -> Result<bool, sqlx::Error> {
    let ours = sqlx::query(statement(names, STILL_OURS));
    let ours = ours.bind(lease.lane.number()).bind(owner).bind(lease.epoch);
    Ok(ours.fetch_optional(connection).await?.is_some())
}

fn rows_are_missing(names: &Names, missing: usize) -> OutboxError {
    let table = names.qualified("lane");
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "the table {table} lacks {missing} of its {LANES} rows, one for each lane: they were deleted. The relay stopped, \
             for without them it cannot tell which lanes another one holds; all events are still in the outbox. `insert ignore \
             into {table} (lane) values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15)` \
             brings them back, and nothing is published twice by it"
        ),
    )
}
