//! The claim of a group, and what is noted of it.

use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow as _, PgConnection, Row as _};
use uuid::Uuid;

use super::PgGroup;
use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;
use crate::store::groups::claims::{
    ClaimRow, EARLIER, GroupsRow, Holder, has_begun, not_given_back,
};
use crate::store::groups::{GroupClaim, Groups, SavedLane, Wave};
use crate::store::lanes::Lease;
use crate::store::names::Names;
use crate::store::postgres::fragments::fill;
use crate::store::postgres::lanes::{columns_of, progress_is_missing, saved_cursor};
use crate::store::row::row;

/// Relays that deliver at least once are kept away while this is decided: what they send cannot be
/// fenced, so each must have given its lanes back.
const KEEP_LANES: &str = "lock table {lane} in share row exclusive mode";

const HELD: &str = "\
select l.lane, r.host, r.pid from {lane} l left join {relay} r on r.owner = l.owner
where l.owner is not null and l.owner <> $1
order by l.lane limit 1";

const CREATE_GROUPS: &str = "\
insert into {group} (grp, groups, outbox) select grp, $1, $2 from generate_series(0, $1 - 1) as grp";

const BEGIN_AGAIN: &str = "update {group} set handed_back = false";

/// Without rows, nothing is delivered exactly once either.
const GROUPS: &str = "\
select max(groups) as groups, count(*) as rows, coalesce(bool_and(handed_back), true) as handed_back from {group}";

/// The former claim joins the earlier ones if it was ever confirmed, which left a witness.
const CLAIM: &str = "\
update {group} g
set claim = $2,
    earlier = case
      when exists (select from {witness} w where w.claim = g.claim)
      then (g.earlier || g.claim)[greatest(1, cardinality(g.earlier) + 2 - $5) :]
      else g.earlier end
where g.grp = $1 and not g.handed_back
  and (select count(*) from {lane} l
       join unnest($3::smallint[], $4::bigint[]) as held (lane, epoch) on held.lane = l.lane and held.epoch = l.epoch
       where l.owner = $6) = cardinality($3)
returning g.outbox, g.adopted, g.ended, g.earlier";

const WITNESSES: &str = "\
select c.claim, latest.xid::text as xid from unnest($1::uuid[]) as c (claim)
cross join lateral (select w.xid from {witness} w where w.claim = c.claim order by w.id desc limit 1) latest";

const SAVED: &str = "\
select c.lane, c.prev::text as prev, c.prev_floor, c.prev_h::text as prev_h, c.cur::text as cur, c.cur_floor,
       c.cur_h::text as cur_h, c.last_seq, c.claim, c.wave
from {cursors} c where c.lane = any ($1)";

const ADOPTED: &str =
    "update {group} set adopted = true, earlier = array[]::uuid[] where grp = $1 and claim = $2";

const DELETE: &str = "delete from {parked} where seq = any ($1) returning lane, key_digest";

const FORGET_KEYS: &str = "\
delete from {parked_key} k using unnest($1::smallint[], $2::uuid[]) as gone (lane, key_digest)
where k.lane = gone.lane and k.key_digest = gone.key_digest
  and not exists (select from {parked} p where p.lane = k.lane and p.key_digest = k.key_digest)";

row! {
    /// The claims whose progress may be adopted, the oldest first.
    struct EarlierRow {
        earlier: Vec<Uuid>,
    }

    struct WitnessRow {
        claim: Uuid,
        xid: String,
    }

    struct DeletedRow {
        lane: i16,
        key_digest: Uuid,
    }
}

/// Makes the rows of the groups when an outbox is delivered exactly once for the first time, or
/// again.
pub(in crate::store::postgres) async fn create(
    connection: &mut PgConnection,
    names: &Names,
    owner: Uuid,
    groups: Groups,
) -> Result<(), OutboxError> {
    let number = groups.number().cast_signed();
    let there: GroupsRow = sqlx::query_as(fill(names, GROUPS)).fetch_one(&mut *connection).await?;
    if there.handed_back {
        begin(connection, names, owner, number).await?;
    }
    let there: GroupsRow = sqlx::query_as(fill(names, GROUPS)).fetch_one(&mut *connection).await?;
    groups.ensure_same(&there)
}

/// Another number of groups makes other producers, which fence nobody: they get names of their own.
async fn begin(
    connection: &mut PgConnection,
    names: &Names,
    owner: Uuid,
    number: i16,
) -> Result<(), OutboxError> {
    let mut tx = connection.begin_with("begin isolation level read committed read write").await?;
    sqlx::query(fill(names, "set local synchronous_commit = on")).execute(&mut *tx).await?;
    sqlx::query(fill(names, "set local lock_timeout = '5s'")).execute(&mut *tx).await?;
    sqlx::query(fill(names, KEEP_LANES)).execute(&mut *tx).await?;
    let there: GroupsRow = sqlx::query_as(fill(names, GROUPS)).fetch_one(&mut *tx).await?;
    if !there.handed_back {
        // Another relay was faster.
        tx.rollback().await?;
        return Ok(());
    }
    let held: Option<Holder> =
        sqlx::query_as(fill(names, HELD)).bind(owner).fetch_optional(&mut *tx).await?;
    if let Some(held) = held {
        return Err(not_given_back(&held));
    }
    if there.groups == Some(number) {
        sqlx::query(fill(names, BEGIN_AGAIN)).execute(&mut *tx).await?;
    } else {
        sqlx::query(fill(names, "delete from {group}")).execute(&mut *tx).await?;
        sqlx::query(fill(names, CREATE_GROUPS))
            .bind(number)
            .bind(Uuid::now_v7())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    has_begun(number.cast_unsigned());
    Ok(())
}

/// Step 1 of a take-over.
pub(super) async fn claim(
    connection: &mut PgConnection,
    of: &PgGroup,
    groups: Groups,
    leases: &[Lease],
) -> Result<Option<GroupClaim<super::PgCursor>>, OutboxError> {
    debug_assert_eq!(leases.len(), groups.lanes_each(), "a whole group");
    let (lanes, epochs) = columns_of(leases);
    let names = &of.names;
    let mut tx = connection.begin_with("begin isolation level read committed read write").await?;
    let claimed = sqlx::query(fill(names, CLAIM))
        .bind(of.group)
        .bind(of.claim)
        .bind(&lanes)
        .bind(&epochs)
        .bind(EARLIER as i32)
        .bind(of.owner)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = claimed else {
        tx.rollback().await?;
        return Ok(None);
    };
    let ClaimRow { outbox, adopted, ended } = ClaimRow::from_row(&row)?;
    let EarlierRow { earlier } = EarlierRow::from_row(&row)?;
    tx.commit().await?;
    // In new statements: whoever held the claim writes nothing of the group any more.
    let witnesses: Vec<WitnessRow> =
        sqlx::query_as(fill(names, WITNESSES)).bind(&earlier).fetch_all(&mut *connection).await?;
    let earlier = witnesses.into_iter().map(|row| (row.claim, row.xid.parse().unwrap_or(0)));
    let earlier = earlier.collect();
    let rows = sqlx::query(fill(names, SAVED)).bind(&lanes).fetch_all(connection).await?;
    let saved = rows.iter().map(saved_lane).collect::<Result<Vec<_>, _>>()?;
    if let Some(missing) = lanes.iter().find(|lane| saved.iter().all(|s| s.lane.number() != **lane))
    {
        return Err(progress_is_missing(names, *missing));
    }
    Ok(Some(GroupClaim { outbox, claim: of.claim, earlier, adopted, ended, saved }))
}

fn saved_lane(row: &PgRow) -> Result<SavedLane<super::PgCursor>, OutboxError> {
    let lane = Lane::from_number(row.try_get("lane")?);
    let cursor = saved_cursor(row)?.ok_or_else(|| {
        OutboxError::new(ErrorKind::Database, "a row of progress has no snapshot")
    })?;
    let claim: Option<Uuid> = row.try_get("claim")?;
    let number: Option<i64> = row.try_get("wave")?;
    let after = claim.zip(number).map(|(claim, number)| Wave { claim, number });
    Ok(SavedLane { lane, cursor, after })
}

/// Step 7. What is settled was published: it must not be sent again.
pub(super) async fn adopted(
    connection: &mut PgConnection,
    of: &PgGroup,
    settled: &[i64],
) -> Result<Option<u64>, OutboxError> {
    let names = &of.names;
    let mut tx = connection.begin_with("begin isolation level read committed read write").await?;
    // Progress that forgets what is settled rests on this.
    let Some(witness) = super::record::witness(&mut tx, of).await? else {
        tx.rollback().await?;
        return Ok(None);
    };
    sqlx::query(fill(names, ADOPTED)).bind(of.group).bind(of.claim).execute(&mut *tx).await?;
    delete_parked(&mut tx, names, settled).await?;
    tx.commit().await?;
    Ok(Some(witness))
}

/// Deletes parked events, and forgets the keys of which none is left.
pub(super) async fn delete_parked(
    connection: &mut PgConnection,
    names: &Names,
    seqs: &[i64],
) -> Result<(), OutboxError> {
    let gone: Vec<DeletedRow> =
        sqlx::query_as(fill(names, DELETE)).bind(seqs).fetch_all(&mut *connection).await?;
    sqlx::query(fill(names, FORGET_KEYS))
        .bind(gone.iter().map(|row| row.lane).collect::<Vec<_>>())
        .bind(gone.iter().map(|row| row.key_digest).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
