//! The claim of a group, and what is noted of it.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{SqliteCursor, SqliteGroup};
use crate::error::OutboxError;
use crate::record::Lane;
use crate::store::error::StoreError;
use crate::store::groups::claims::{
    ClaimRow, EARLIER, GroupsRow, Holder, delivered_exactly_once, has_begun, not_given_back,
};
use crate::store::groups::{GroupClaim, Groups, SavedLane, Wave};
use crate::store::lanes::Lease;
use crate::store::names::{Names, sql};
use crate::store::row::row;
use crate::store::sqlite::lanes::session::{State, writing};

const HELD: &str = "\
select l.lane, r.host, r.pid from {lane} l left join {relay} r on r.owner = l.owner
where l.owner is not null and l.owner <> $1
order by l.lane limit 1";

const CREATE_GROUP: &str = "insert into {group} (grp, groups, outbox) values ($1, $2, $3)";

const BEGIN_AGAIN: &str = "update {group} set handed_back = 0";

/// Without rows, nothing is delivered exactly once either.
const GROUPS: &str = "\
select max(groups) as groups, count(*) as rows, coalesce(min(handed_back), 1) as handed_back from {group}";

const SAVED: &str = "\
select last_seq, claim, wave from {lane} where lane = $1 and owner = $2 and epoch = $3";

const CLAIM: &str = "\
update {group} set claim = $2 where grp = $1 and not handed_back returning outbox, adopted, ended";

/// The former claims, each with its witness, if they were ever confirmed.
const WITNESSES: &str = "select claim, seq from {witness} where grp = $1 order by id";

const FORGET_THE_OLDEST: &str = "\
delete from {witness} where grp = $1 and id not in (
  select id from {witness} where grp = $1 order by id desc limit $2)";

const ADOPTED: &str = "update {group} set adopted = 1 where grp = $1 and claim = $2";

const FORGET_EARLIER: &str = "delete from {witness} where grp = $1 and claim <> $2";

const DELETE: &str = "delete from {parked} where seq = $1 returning lane, key_digest";

const FORGET_KEY: &str = "\
delete from {parked_key} where lane = $1 and key_digest = $2
and not exists (select 1 from {parked} where lane = $1 and key_digest = $2)";

row! {
    struct SavedRow {
        last_seq: i64,
        claim: Option<Uuid>,
        wave: Option<i64>,
    }

    struct WitnessRow {
        claim: Uuid,
        seq: i64,
    }

    struct DeletedRow {
        lane: i16,
        key_digest: Uuid,
    }
}

async fn there(connection: &mut SqliteConnection, names: &Names) -> Result<GroupsRow, sqlx::Error> {
    sqlx::query_as(sql(names.fill(GROUPS))).fetch_one(connection).await
}

/// Makes the rows of the groups when an outbox is delivered exactly once for the first time, or
/// again.
pub(in crate::store::sqlite) async fn create(
    connection: &mut SqliteConnection,
    names: &Names,
    owner: Uuid,
    groups: Groups,
) -> Result<(), StoreError> {
    if there(connection, names).await?.handed_back {
        begin(connection, names, owner, groups).await?;
    }
    Ok(groups.ensure_same(&there(connection, names).await?)?)
}

/// What a relay sends that delivers at least once would be a duplicate.
pub(in crate::store::sqlite) async fn refuse(
    connection: &mut SqliteConnection,
    names: &Names,
) -> Result<(), StoreError> {
    let there = there(connection, names).await?;
    if there.handed_back { Ok(()) } else { Err(delivered_exactly_once().into()) }
}

/// Another number of groups makes other producers, which fence nobody: they get names of their own.
async fn begin(
    connection: &mut SqliteConnection,
    names: &Names,
    owner: Uuid,
    groups: Groups,
) -> Result<(), StoreError> {
    let number = groups.number();
    // As the writer: relays that deliver at least once take no lanes meanwhile.
    let mut tx = writing(connection).await?;
    let there = there(&mut tx, names).await?;
    if !there.handed_back {
        // Another relay was faster.
        tx.rollback().await?;
        return Ok(());
    }
    let held: Option<Holder> =
        sqlx::query_as(sql(names.fill(HELD))).bind(owner).fetch_optional(&mut *tx).await?;
    if let Some(held) = held {
        return Err(not_given_back(&held).into());
    }
    if there.groups == Some(number.cast_signed()) {
        sqlx::query(sql(names.fill(BEGIN_AGAIN))).execute(&mut *tx).await?;
    } else {
        sqlx::query(sql(names.fill("delete from {group}"))).execute(&mut *tx).await?;
        let outbox = Uuid::now_v7();
        for group in groups.all() {
            let create = sqlx::query(sql(names.fill(CREATE_GROUP))).bind(group).bind(number);
            create.bind(outbox).execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    has_begun(number);
    Ok(())
}

/// Step 1 of a take-over.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    of: &SqliteGroup,
    leases: &[Lease],
) -> Result<Option<GroupClaim<SqliteCursor>>, OutboxError> {
    let names = &of.names;
    let mut tx = writing(connection).await?;
    let mut saved = Vec::with_capacity(leases.len());
    for Lease { lane, epoch } in leases {
        let found: Option<SavedRow> = sqlx::query_as(sql(names.fill(SAVED)))
            .bind(lane.number())
            .bind(of.owner)
            .bind(epoch)
            .fetch_optional(&mut *tx)
            .await?;
        saved.extend(found.map(|found| saved_lane(*lane, &found)));
    }
    let claimed: Option<ClaimRow> = sqlx::query_as(sql(names.fill(CLAIM)))
        .bind(of.group)
        .bind(of.claim)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(ClaimRow { outbox, adopted, ended }) = claimed.filter(|_| saved.len() == leases.len())
    else {
        tx.rollback().await?;
        return Ok(None);
    };
    let forget = sqlx::query(sql(names.fill(FORGET_THE_OLDEST))).bind(of.group);
    forget.bind(EARLIER as i64).execute(&mut *tx).await?;
    let earlier: Vec<WitnessRow> =
        sqlx::query_as(sql(names.fill(WITNESSES))).bind(of.group).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let earlier = earlier.into_iter().map(|row| (row.claim, row.seq.unsigned_abs())).collect();
    Ok(Some(GroupClaim { outbox, claim: of.claim, earlier, adopted, ended, saved }))
}

fn saved_lane(lane: Lane, row: &SavedRow) -> SavedLane<SqliteCursor> {
    let after = row.claim.zip(row.wave).map(|(claim, number)| Wave { claim, number });
    SavedLane { lane, cursor: SqliteCursor(row.last_seq), after }
}

/// Step 7. What is settled was published: it must not be sent again.
pub(super) async fn adopted(
    connection: &mut SqliteConnection,
    state: &State,
    of: &SqliteGroup,
    settled: &[i64],
) -> Result<Option<u64>, OutboxError> {
    let names = &of.names;
    // Progress that forgets what is settled rests on this.
    let Some(witness) = super::record::witness(connection, state, of, 0).await? else {
        return Ok(None);
    };
    for note in [ADOPTED, FORGET_EARLIER] {
        let note = sqlx::query(sql(names.fill(note))).bind(of.group).bind(of.claim);
        note.execute(&mut *connection).await?;
    }
    delete_parked(connection, names, settled).await?;
    Ok(Some(witness))
}

/// Deletes parked events, and forgets the keys of which none is left.
pub(super) async fn delete_parked(
    connection: &mut SqliteConnection,
    names: &Names,
    seqs: &[i64],
) -> Result<(), OutboxError> {
    for seq in seqs {
        let gone: Option<DeletedRow> = sqlx::query_as(sql(names.fill(DELETE)))
            .bind(seq)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(DeletedRow { lane, key_digest }) = gone else { continue };
        let forget = sqlx::query(sql(names.fill(FORGET_KEY))).bind(lane).bind(key_digest);
        forget.execute(&mut *connection).await?;
    }
    Ok(())
}
