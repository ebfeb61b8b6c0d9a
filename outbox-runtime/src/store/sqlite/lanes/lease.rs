//! Leases, as on Postgres: several processes may open the file, each with a relay.

use std::time::Instant;

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::session::writing;
use super::{SqliteCursor, SqliteLaneStore, park};
use crate::error::{ErrorKind, OutboxError};
use crate::failpoint::failpoint;
use crate::record::{LANES, Lane};
use crate::store::error::StoreError;
use crate::store::lanes::{Claimed, HeldElsewhere, KnownParked, Lease, Share, lanes_to_take};
use crate::store::liveness::Sign;
use crate::store::names::{Names, sql};
use crate::store::row::row;
use crate::store::sqlite::clock::{millis, unix_millis};
use crate::store::sqlite::{groups, pause};

const SAY_ALIVE: &str = "\
insert into {relay} (owner, shares, sign, alive_until, lease_millis, host, pid, version, started_at)
values ($1, $2, 1, $3, $4, $5, $6, $7, $8)
on conflict (owner) do update set sign = sign + 1, alive_until = excluded.alive_until";

const SIGNS: &str = "\
select owner, sign as number, lease_millis, alive_until > $2 as in_time, shares
from {relay} where owner <> $1";

/// Removes relays that are long dead and hold no lanes.
const REMOVE_DEAD: &str = "\
delete from {relay}
where owner = $1 and alive_until < $2 - 60000 and not exists (select 1 from {lane} where owner = $1)";

const LANES_AND_HOLDERS: &str = "\
select l.lane, l.epoch, l.last_seq, l.owner, r.alive_until
from {lane} l left join {relay} r on r.owner = l.owner
order by l.lane";

const TAKE_LANE: &str = "update {lane} set owner = $1, epoch = epoch + 1 where lane = $2";

const RELEASE_LANE: &str =
    "update {lane} set owner = null where lane = $1 and owner = $2 and epoch = $3";

row! {
    /// A row of [`LANES_AND_HOLDERS`].
    struct LaneRow {
        lane: i16,
        epoch: i64,
        last_seq: i64,
        owner: Option<Uuid>,
        alive_until: Option<i64>,
    }
}

impl LaneRow {
    /// The relay that holds the lane, if it is alive and not `us`.
    fn holder(&self, us: Uuid, dead: &[Sign]) -> Option<Uuid> {
        let is_dead = |owner: &Uuid| dead.iter().any(|dead| dead.owner == *owner);
        // A relay that is long dead has no row any more.
        self.owner.filter(|owner| *owner != us && self.alive_until.is_some() && !is_dead(owner))
    }

    fn is_leased(&self, us: Uuid, lease: &Lease) -> bool {
        self.lane == lease.lane.number() && self.epoch == lease.epoch && self.owner == Some(us)
    }

    fn is_one_of(&self, lanes: &[Lane]) -> bool {
        lanes.iter().any(|lane| lane.number() == self.lane)
    }
}

impl SqliteLaneStore {
    /// Mostly in single statements: a process that is suspended within a transaction blocks all
    /// writers.
    pub(super) async fn claim_lanes(
        &mut self,
        connection: &mut SqliteConnection,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<SqliteCursor>, StoreError> {
        let now = unix_millis();
        let fair = share == Share::Fair;
        sqlx::query(sql(self.names.fill(SAY_ALIVE)))
            .bind(self.owner)
            .bind(fair)
            .bind(now.saturating_add(millis(self.lease)))
            .bind(millis(self.lease))
            .bind(&self.process.host)
            .bind(self.process.pid)
            .bind(self.process.version)
            .bind(now)
            .execute(&mut *connection)
            .await?;
        let signs = self.signs(connection, now).await?;
        let peers = self.liveness.of(signs, Instant::now());
        let rows = self.lane_rows(connection).await?;
        let is_ours = |lease: &Lease| rows.iter().any(|row| row.is_leased(self.owner, lease));
        let (ours, lost): (Vec<Lease>, Vec<Lease>) = held.iter().copied().partition(is_ours);
        let ours: Vec<Lane> = ours.into_iter().map(|lease| lease.lane).collect();
        let lost = lost.into_iter().map(|lease| lease.lane).collect();
        let is_free =
            |row: &LaneRow| !row.is_one_of(&ours) && row.holder(self.owner, &peers.dead).is_none();
        let share = self.in_whole_groups(peers.share(share));
        let owned = rows.iter().filter(|row| row.owner == Some(self.owner)).count();
        let wanted = self.in_whole_groups(lanes_to_take(share, ours.len(), owned));
        let (mut taken, mut taken_over) = (Vec::new(), 0);
        if wanted > 0 {
            self.ensure_delivery(connection).await?;
        }
        if wanted > 0 && rows.iter().any(is_free) {
            (taken, taken_over) = self.take(connection, &peers.dead, &ours, wanted).await?;
        }
        for sign in &peers.dead {
            let remove = sqlx::query(sql(self.names.fill(REMOVE_DEAD))).bind(sign.owner).bind(now);
            remove.execute(&mut *connection).await?;
        }
        let mut elsewhere = Vec::new();
        if !fair && ours.len() + taken.len() < LANES {
            elsewhere = self.elsewhere(&rows, &peers.dead, now);
        }
        // After the lanes were taken: nothing of them is sent that was paused before.
        let pauses = pause::pauses(connection, &self.names).await?;
        let reopened = Vec::new();
        Ok(Claimed { lost, reopened, taken, taken_over, share, elsewhere, pauses })
    }

    /// The lanes that other relays hold.
    fn elsewhere(&self, rows: &[LaneRow], dead: &[Sign], now: i64) -> Vec<HeldElsewhere> {
        rows.iter()
            .filter_map(|row| {
                let owner = row.holder(self.owner, dead)?;
                let for_millis = row.alive_until.unwrap_or(now).saturating_sub(now);
                Some(HeldElsewhere { lane: Lane::from_number(row.lane), owner, for_millis })
            })
            .collect()
    }

    /// Takes up to `wanted` free lanes, first those that this relay has forgotten. `dead`: the last
    /// signs of life of dead relays. Returns how many of them one of those held, too.
    async fn take(
        &self,
        connection: &mut SqliteConnection,
        dead: &[Sign],
        ours: &[Lane],
        wanted: usize,
    ) -> Result<(Vec<(Lease, SqliteCursor, KnownParked)>, usize), StoreError> {
        let mut tx = writing(connection).await?;
        if self.session.is_none() {
            groups::refuse(&mut tx, &self.names).await?;
        }
        // Only relays that have given no sign of life since.
        let signs = self.signs(&mut tx, unix_millis()).await?;
        let is_dead = |dead: &&Sign| {
            !signs.iter().any(|sign| sign.owner == dead.owner && sign.number != dead.number)
        };
        let dead: Vec<Sign> = dead.iter().filter(is_dead).cloned().collect();
        let mut rows = self.lane_rows(&mut tx).await?;
        rows.retain(|row| !row.is_one_of(ours) && row.holder(self.owner, &dead).is_none());
        rows.sort_by_key(|row| row.owner != Some(self.owner));
        match &self.session {
            Some(session) => rows = session.groups.whole_of(rows, wanted, |row| row.lane),
            None => rows.truncate(wanted),
        }
        let of_another = |row: &&LaneRow| row.owner.is_some_and(|owner| owner != self.owner);
        let taken_over = rows.iter().filter(of_another).count();
        let mut taken = Vec::new();
        for LaneRow { lane, epoch, last_seq, .. } in rows {
            sqlx::query(sql(self.names.fill(TAKE_LANE)))
                .bind(self.owner)
                .bind(lane)
                .execute(&mut *tx)
                .await?;
            let lane = Lane::from_number(lane);
            let parked = park::keys(&mut tx, &self.names, lane).await?;
            taken.push((Lease { lane, epoch: epoch + 1 }, SqliteCursor(last_seq), parked));
        }
        tx.commit().await?;
        failpoint("after-taking-lanes");
        Ok((taken, taken_over))
    }

    /// A number of lanes that is one of whole groups.
    fn in_whole_groups(&self, lanes: usize) -> usize {
        self.session.as_ref().map_or(lanes, |session| session.groups.whole(lanes))
    }

    /// Whether the events of this outbox are delivered as this relay does. The first one that
    /// delivers exactly once decides.
    async fn ensure_delivery(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        match &self.session {
            Some(session) => {
                groups::create(connection, &self.names, self.owner, session.groups).await
            }
            None => groups::refuse(connection, &self.names).await,
        }
    }

    async fn lane_rows(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<LaneRow>, StoreError> {
        let rows: Vec<LaneRow> =
            sqlx::query_as(sql(self.names.fill(LANES_AND_HOLDERS))).fetch_all(connection).await?;
        if rows.len() < LANES {
            return Err(rows_are_missing(&self.names, LANES - rows.len()).into());
        }
        Ok(rows)
    }

    /// The latest sign of life of each of the others.
    async fn signs(
        &self,
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<Vec<Sign>, StoreError> {
        let signs = sqlx::query_as(sql(self.names.fill(SIGNS)));
        Ok(signs.bind(self.owner).bind(now).fetch_all(connection).await?)
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
