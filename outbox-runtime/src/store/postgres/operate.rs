//! What an operator asks.

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::chunk::stored_event;
use super::fragments::fill;
use super::session;
use crate::error::OutboxError;
use crate::operate::{LaneStatus, ParkedEvent, Replay, Status};
use crate::record::Lane;
use crate::store::Names;

/// By the two ways in which a window's rows are found (see `window.rs`).
const STATUS: &str = "\
select lanes.lane,
       case when (select h.alive_until from {heartbeat} h where h.owner = lanes.owner order by h.id desc limit 1)
                 > clock_timestamp()
       then lanes.owner end, p.backlog, p.oldest
from {lane} lanes
left join {cursors} l on l.lane = lanes.lane
cross join lateral (
  select count(*) as backlog,
         min(occurred_at) filter (where occurred_at >= '0001-01-01' and occurred_at < '10000-01-01') as oldest
  from (
    (select e.occurred_at from {event} e
     where e.lane = lanes.lane and e.seq > coalesce(greatest(l.last_seq, l.prev_floor), 0) order by e.seq limit $1)
    union all
    (select e.occurred_at from {unfinished} cross join lateral (
       select e.occurred_at from {event} e
       where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
         and e.seq > l.last_seq and e.seq <= l.prev_floor
       order by e.xid limit $1) e)
    limit $1) pending) p
order by lanes.lane";

const REPLAY: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition
from {event} e join {cursors} l on l.lane = e.lane
where pg_visible_in_snapshot(e.xid, l.prev)
  and ($1::uuid[] is null or e.id = any ($1)) and ($2::text is null or e.topic = $2)
  and ($3::timestamptz is null or e.occurred_at >= $3) and ($4::timestamptz is null or e.occurred_at < $4)
order by e.seq";

const OTHERS_IF_UNUSED: &str = "\
select n.nspname || '.' || left(e.relname, -length('event'))
from pg_catalog.pg_class e
join pg_catalog.pg_namespace n on n.oid = e.relnamespace
where e.relkind = 'p' and right(e.relname, length('event')) = 'event' and e.oid <> {'event'}::regclass
  and exists (
    select from pg_catalog.pg_class l
    where l.relnamespace = e.relnamespace and l.relname = left(e.relname, -length('event')) || 'lane')
  and (select s.last_value is null from {sequence})
order by 1
limit 10";

pub(super) async fn others_if_unused(pool: &PgPool, names: &Names) -> Result<Vec<String>, OutboxError> {
    let mut tx = session::begin_reading(pool).await?;
    let others = sqlx::query_scalar(fill(names, OTHERS_IF_UNUSED)).fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    Ok(others)
}

pub(super) async fn status(pool: &PgPool, names: &Names) -> Result<Status, OutboxError> {
    let mut tx = session::begin_reading(pool).await?;
    let rows: Vec<(i16, Option<Uuid>, i64, Option<OffsetDateTime>)> = sqlx::query_as(fill(names, STATUS))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
    let parked: i64 =
        sqlx::query_scalar(fill(names, "select count(*) from {parked}")).fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    let lanes = rows
        .into_iter()
        .map(|(lane, owner, backlog, oldest)| LaneStatus {
            lane: Lane::from_number(lane),
            owner,
            backlog: backlog.unsigned_abs(),
            oldest_pending: oldest.map(Into::into),
        })
        .collect();
    Ok(Status::new(lanes, parked.unsigned_abs()))
}

pub(super) async fn parked(
    pool: &PgPool,
    names: &Names,
    limit: u32,
) -> Result<Vec<ParkedEvent>, OutboxError> {
    const PARKED: &str =
        "select {columns}, e.reason, e.attempts, e.since from {parked} e order by e.since, e.seq limit $1";
    let mut tx = session::begin_reading(pool).await?;
    let rows = sqlx::query(fill(names, PARKED)).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    rows.iter()
        .map(|row| {
            let event = stored_event(row)?;
            Ok(ParkedEvent {
                seq: event.seq,
                event: event.record,
                reason: row.try_get("reason")?,
                attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
                since: row.try_get::<OffsetDateTime, _>("since")?.into(),
            })
        })
        .collect()
}

pub(super) async fn release_parked(
    pool: &PgPool,
    names: &Names,
    key: Option<&[u8]>,
) -> Result<u64, OutboxError> {
    let mut tx = session::begin(pool).await?;
    let released =
        sqlx::query(fill(names, "update {parked} set released = true where $1::bytea is null or key = $1"))
            .bind(key)
            .execute(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(released.rows_affected())
}

pub(super) async fn discard_parked(pool: &PgPool, names: &Names, id: Uuid) -> Result<bool, OutboxError> {
    let mut tx = session::begin(pool).await?;
    let discarded =
        sqlx::query(fill(names, "delete from {parked} where id = $1")).bind(id).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(discarded.rows_affected() > 0)
}

pub(super) async fn replay(pool: &PgPool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
    let mut tx = session::begin(pool).await?;
    let replayed = sqlx::query(fill(names, REPLAY))
        .bind(which.ids.as_deref())
        .bind(which.topic.as_deref())
        .bind(which.from.map(OffsetDateTime::from))
        .bind(which.until.map(OffsetDateTime::from))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(replayed.rows_affected())
}
