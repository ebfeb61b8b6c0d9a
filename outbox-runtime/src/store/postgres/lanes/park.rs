//! Parked events: copies, written in one transaction with the cursor that passes over them.

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, Postgres, SqlStr, Transaction};
use uuid::Uuid;

use super::cursor::PgCursor;
use crate::error::OutboxError;
use crate::record::{KeyDigest, Lane};
use crate::store::headers;
use crate::store::lanes::{KnownParked, Lease};
use crate::store::names::Names;
use crate::store::parked::{
    Candidate, CandidateRow, KEYS, MOST_KNOWN, NextEvent, OF_A_KEY, Parking, Released, Retry,
    RetryResult, keys_of, storable, with_events, within,
};
use crate::store::postgres::event_row::stored_events;
use crate::store::postgres::fragments::fill;
use crate::store::row::row;

const PARK: &str = "\
insert into {parked} (seq, lane, key_digest, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                      bytes, reason, attempts, kafka_partition)
select * from unnest($1::bigint[], $2::smallint[], $3::uuid[], $4::uuid[], $5::text[], $6::bytea[], $7::text[],
                     $8::integer[], $9::text[], $10::text[]::json[], $11::bytea[], $12::timestamptz[], $13::integer[],
                     $14::text[], $15::integer[], $16::integer[])
on conflict (seq) do nothing";

/// For an event that cannot be read, the row is kept as it is.
const KEEP_UNREADABLE: &str = "\
update {parked} p set headers = e.headers, version = e.version, occurred_at = e.occurred_at
from {event} e
where e.lane = p.lane and e.seq = p.seq and p.seq = any ($1)";

const PARK_KEYS: &str = "\
insert into {parked_key} as k (lane, key_digest, topic, released)
select * from unnest($1::smallint[], $2::uuid[], $3::text[], $4::boolean[])
on conflict (lane, key_digest) do update set released = true where excluded.released and not k.released";

/// One more than a relay holds in memory.
const KEYS_OF_LANES: &str = "\
select l.lane, k.key_digest
from unnest($1::smallint[]) as l (lane)
cross join lateral (select key_digest from {parked_key} where lane = l.lane limit $2) k";

/// Each key is searched separately (hence the limit), so that the cost does not depend on the
/// number of parked keys.
const KEYS_AMONG: &str = "\
select exists (select from {parked_key} where lane = $1) as any_key,
       array(select k.key_digest from unnest($2::uuid[]) as asked (key_digest)
             cross join lateral (select key_digest from {parked_key}
                                 where lane = $1 and key_digest = asked.key_digest limit 1) k) as parked";

/// Whether the topic of a parked key `k` is not paused. What is parked of a paused one is not tried,
/// and does not hold up the others.
const UNPAUSED: &str =
    "not exists (select from {pause} p where p.scope = 'topic' and p.target = k.topic)";

/// The keys that were refused the longest ago. A time in the future comes from a clock that was set
/// back since. A key that is being released elsewhere at this moment is skipped.
const RELEASE_THE_LONGEST_PARKED: &str = "\
with due as (
  select l.lane, longest.key_digest
  from unnest($1::smallint[]) as l (lane)
  cross join lateral (
    (select k.key_digest, k.since from {parked_key} k
     where k.lane = l.lane and not k.released and k.since <= clock_timestamp() - $2 * interval '1 millisecond'
       and {unpaused}
     order by k.since limit $3)
    union all
    (select k.key_digest, k.since from {parked_key} k
     where k.lane = l.lane and not k.released and k.since > clock_timestamp() and {unpaused}
     order by k.since limit $3)) longest
  order by longest.since limit $3),
free as (
  select k.lane, k.key_digest from due join {parked_key} k on k.lane = due.lane and k.key_digest = due.key_digest
  for update of k skip locked)
update {parked_key} k set released = true from free where k.lane = free.lane and k.key_digest = free.key_digest";

const RELEASED: &str = "\
select k.lane, k.key_digest, e.seq, e.bytes::bigint as bytes
from (
  select l.lane, released.key_digest, released.since
  from unnest($1::smallint[]) as l (lane)
  cross join lateral (
    select k.key_digest, k.since from {parked_key} k
    where k.lane = l.lane and k.released and k.key_digest <> all ($2) and {unpaused}
    order by k.since limit $3) released
  order by released.since limit $3) k
left join lateral (
  select seq, bytes from {parked} where lane = k.lane and key_digest = k.key_digest order by seq limit $4) e on true
order by k.since, k.lane, k.key_digest, e.seq";

const STILL_OURS: &str =
    "select true from {lane} where lane = $1 and epoch = $2 and owner = $3 for share";

const REFUSED_AGAIN: &str = "\
update {parked} set attempts = attempts + 1, reason = $2, since = clock_timestamp() where seq = $1";

const TRY_LATER: &str = "\
update {parked_key} set released = false, since = clock_timestamp() where lane = $1 and key_digest = $2";

const FORGET_KEY: &str = "\
delete from {parked_key} where lane = $1 and key_digest = $2
and not exists (select from {parked} where lane = $1 and key_digest = $2)";

row! {
    /// A key that events are parked of.
    struct KeyRow {
        lane: i16,
        key_digest: Uuid,
    }

    /// What [`KEYS_AMONG`] returns.
    struct AmongRow {
        any_key: bool,
        parked: Vec<Uuid>,
    }
}

/// Which keys of these lanes have parked events.
pub(super) async fn keys(
    connection: &mut PgConnection,
    names: &Names,
    taken: &mut [(Lease, PgCursor, KnownParked)],
) -> Result<(), OutboxError> {
    let lanes: Vec<Lane> = taken.iter().map(|(lease, ..)| lease.lane).collect();
    let known = known(connection, names, &lanes).await?;
    for ((.., of_lane), (_, known)) in taken.iter_mut().zip(known) {
        *of_lane = known;
    }
    Ok(())
}

/// The same for each of `lanes`, in their order.
pub(in crate::store::postgres) async fn known(
    connection: &mut PgConnection,
    names: &Names,
    lanes: &[Lane],
) -> Result<Vec<(Lane, KnownParked)>, OutboxError> {
    let keys: Vec<KeyRow> = sqlx::query_as(fill(names, KEYS_OF_LANES))
        .bind(lanes.iter().map(|lane| lane.number()).collect::<Vec<_>>())
        .bind(i64::from(MOST_KNOWN) + 1)
        .fetch_all(connection)
        .await?;
    let known = |lane: &Lane| {
        let of_lane = keys.iter().filter(|key| key.lane == lane.number());
        let keys: Vec<KeyDigest> = of_lane.map(|key| KeyDigest(key.key_digest)).collect();
        (*lane, (keys.len() <= MOST_KNOWN as usize).then_some(keys))
    };
    Ok(lanes.iter().map(known).collect())
}

pub(super) async fn keys_among(
    connection: &mut PgConnection,
    names: &Names,
    lane: Lane,
    keys: &[KeyDigest],
) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let AmongRow { any_key, parked } = sqlx::query_as(fill(names, KEYS_AMONG))
        .bind(lane.number())
        .bind(&keys)
        .fetch_one(connection)
        .await?;
    Ok(any_key.then(|| parked.into_iter().map(KeyDigest).collect()))
}

pub(in crate::store::postgres) async fn park(
    connection: &mut PgConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), OutboxError> {
    fn column<'p, T>(parked: &'p [Parking], field: impl Fn(&'p Parking) -> T) -> Vec<T> {
        parked.iter().map(field).collect()
    }
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    sqlx::query(fill(names, PARK))
        .bind(column(parked, |p| p.event.seq))
        .bind(column(parked, |p| p.event.lane.number()))
        .bind(column(parked, |p| p.key_digest().0))
        .bind(column(parked, |p| p.event.record.id))
        .bind(column(parked, |p| &*p.event.record.topic))
        .bind(column(parked, |p| p.event.record.key.as_deref()))
        .bind(column(parked, |p| &*p.event.record.name))
        .bind(column(parked, |p| int(p.event.record.version)))
        .bind(column(parked, |p| &*p.event.record.content_type))
        .bind(column(parked, |p| headers::to_json(&p.event.record.headers)))
        .bind(column(parked, |p| p.event.record.payload.as_deref()))
        .bind(column(parked, |p| OffsetDateTime::from(p.event.record.occurred_at)))
        .bind(column(parked, Parking::bytes))
        .bind(column(parked, Parking::reason))
        .bind(column(parked, |p| int(p.attempts)))
        .bind(column(parked, |p| p.event.record.partition))
        .execute(&mut *connection)
        .await?;
    let keys = keys_of(parked);
    sqlx::query(fill(names, PARK_KEYS))
        .bind(keys.iter().map(|key| key.lane.number()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.digest.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.topic).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.released).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let unreadable: Vec<i64> = parked
        .iter()
        .filter(|parking| parking.event.unreadable.is_some())
        .map(|parking| parking.event.seq)
        .collect();
    if !unreadable.is_empty() {
        sqlx::query(fill(names, KEEP_UNREADABLE)).bind(unreadable).execute(connection).await?;
    }
    Ok(())
}

fn unpaused(names: &Names, statement: &str) -> SqlStr {
    fill(names, &statement.replace("{unpaused}", UNPAUSED))
}

pub(super) async fn released(
    connection: &mut PgConnection,
    names: &Names,
    held: &[Lease],
    retry: &Retry,
) -> Result<Vec<Released>, OutboxError> {
    let lanes: Vec<i16> = held.iter().map(|lease| lease.lane.number()).collect();
    if retry.keys > 0 {
        sqlx::query(unpaused(names, RELEASE_THE_LONGEST_PARKED))
            .bind(&lanes)
            .bind(retry.after.as_millis() as f64)
            .bind(i64::from(retry.keys))
            .execute(&mut *connection)
            .await?;
    }
    let candidates: Vec<CandidateRow> = sqlx::query_as(unpaused(names, RELEASED))
        .bind(&lanes)
        .bind(retry.except.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(i64::from(KEYS))
        .bind(i64::from(OF_A_KEY))
        .fetch_all(&mut *connection)
        .await?;
    let candidates: Vec<Candidate> = candidates.into_iter().map(Candidate::from).collect();
    let chosen = within(&candidates, retry.bytes);
    let seqs: Vec<i64> = chosen.iter().flat_map(|(.., seqs)| seqs.iter().copied()).collect();
    let rows = sqlx::query(fill(names, "select {columns} from {parked} e where e.seq = any ($1)"))
        .bind(&seqs)
        .fetch_all(connection)
        .await?;
    Ok(with_events(chosen, stored_events(&rows)?))
}

pub(in crate::store::postgres) async fn save_retry(
    mut tx: Transaction<'_, Postgres>,
    names: &Names,
    owner: Uuid,
    lease: Lease,
    result: &RetryResult,
) -> Result<Option<bool>, OutboxError> {
    let (lane, key) = (lease.lane.number(), result.key.0);
    let ours: Option<bool> = sqlx::query_scalar(fill(names, STILL_OURS))
        .bind(lane)
        .bind(lease.epoch)
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
    if ours.is_none() {
        tx.rollback().await?;
        return Ok(None);
    }
    if !result.delivered.is_empty() {
        sqlx::query(fill(names, "delete from {parked} where seq = any ($1)"))
            .bind(&result.delivered)
            .execute(&mut *tx)
            .await?;
    }
    if let NextEvent::Refused(seq, reason) = &result.next {
        sqlx::query(fill(names, REFUSED_AGAIN))
            .bind(seq)
            .bind(storable(reason))
            .execute(&mut *tx)
            .await?;
    }
    if !matches!(result.next, NextEvent::Untried) {
        sqlx::query(fill(names, TRY_LATER)).bind(lane).bind(key).execute(&mut *tx).await?;
    }
    let forgotten =
        sqlx::query(fill(names, FORGET_KEY)).bind(lane).bind(key).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(forgotten.rows_affected() == 0))
}
