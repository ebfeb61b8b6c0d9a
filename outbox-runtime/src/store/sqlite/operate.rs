//! What an operator asks, and how space comes back: published rows are deleted, a few at a time.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::{Row, SqlitePool};
use uuid::Uuid;

use super::read::stored_event;
use super::write::unix_micros;
use super::{millis, unix_millis};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::operate::{LaneStatus, ParkedEvent, Replay, Status};
use crate::record::Lane;
use crate::store::{Names, sql};

/// How many rows one transaction deletes: the business waits for it.
const DELETED_AT_ONCE: u32 = 1_000;
const DELETED_IN_A_RUN: u64 = 100_000;

/// At most a hundred marks for a retention, and one for each run.
const MARK: &str = "\
insert into {mark} (seq, at)
select last.seq, $1 from (select max(seq) as seq from {event}) last
where last.seq is not null and not exists (select 1 from {mark} where at > $1 - $2 / 100 and seq >= last.seq)
on conflict (seq) do nothing";

const FORGET_MARKS: &str = "delete from {mark} where seq < (select max(seq) from {mark} where at <= $1)";

const DELETE_PUBLISHED: &str = "\
delete from {event} where seq in (
  select e.seq from {event} e join {lane} l on l.lane = e.lane
  where e.seq <= l.last_seq and e.seq <= (select max(seq) from {mark} where at <= $1)
  order by e.seq limit $2)";

const STATUS: &str = "\
select l.lane, (select r.owner from {relay} r where r.owner = l.owner and r.alive_until > $2) as owner,
       (select count(*) from (select 1 from {event} e where e.lane = l.lane and e.seq > l.last_seq limit $1)) as backlog,
       (select e.occurred_at from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit 1) as oldest
from {lane} l order by l.lane";

const REPLAY: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition
from {event} e join {lane} l on l.lane = e.lane
where e.seq <= l.last_seq
  and ($1 is null or e.id = $1) and ($2 is null or e.topic = $2)
  and ($3 is null or e.occurred_at >= $3) and ($4 is null or e.occurred_at < $4)
order by e.seq";

/// `sqlite_sequence` has a row for each table that was ever inserted into.
const OTHERS_IF_UNUSED: &str = "\
select substr(name, 1, length(name) - length('event')) from sqlite_master e
where type = 'table' and name like '%event' and name <> $1 || 'event'
  and exists (
    select 1 from sqlite_master l
    where l.type = 'table' and l.name = substr(e.name, 1, length(e.name) - length('event')) || 'lane')
  and not exists (select 1 from sqlite_sequence where name = $1 || 'event')
order by name
limit 10";

pub(super) async fn others_if_unused(pool: &SqlitePool, names: &Names) -> Result<Vec<String>, OutboxError> {
    Ok(sqlx::query_scalar(sql(OTHERS_IF_UNUSED)).bind(&names.prefix).fetch_all(pool).await?)
}

pub(super) async fn reclaim(
    pool: &SqlitePool,
    names: &Names,
    retention: Duration,
) -> Result<u64, OutboxError> {
    let now = unix_millis();
    let old = now - millis(retention);
    sqlx::query(sql(names.fill(MARK))).bind(now).bind(millis(retention)).execute(pool).await?;
    sqlx::query(sql(names.fill(FORGET_MARKS))).bind(old).execute(pool).await?;
    let mut events = 0;
    while events < DELETED_IN_A_RUN {
        let deleted = sqlx::query(sql(names.fill(DELETE_PUBLISHED)))
            .bind(old)
            .bind(DELETED_AT_ONCE)
            .execute(pool)
            .await?
            .rows_affected();
        if deleted > 0 {
            failpoint("after-reclaim");
        }
        events += deleted;
        if deleted < u64::from(DELETED_AT_ONCE) {
            break;
        }
    }
    Ok(events)
}

pub(super) async fn status(pool: &SqlitePool, names: &Names) -> Result<Status, OutboxError> {
    let rows: Vec<(i16, Option<Uuid>, u32, Option<i64>)> = sqlx::query_as(sql(names.fill(STATUS)))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .bind(unix_millis())
        .fetch_all(pool)
        .await?;
    let parked: u32 =
        sqlx::query_scalar(sql(names.fill("select count(*) from {parked}"))).fetch_one(pool).await?;
    let lanes = rows
        .into_iter()
        .map(|(lane, owner, backlog, oldest)| LaneStatus {
            lane: Lane::from_number(lane),
            owner,
            backlog: u64::from(backlog),
            oldest_pending: oldest.map(|micros| UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())),
        })
        .collect();
    Ok(Status::new(lanes, u64::from(parked)))
}

pub(super) async fn parked(
    pool: &SqlitePool,
    names: &Names,
    limit: u32,
) -> Result<Vec<ParkedEvent>, OutboxError> {
    let rows = sqlx::query(sql(names.fill("select * from {parked} order by since, seq limit $1")))
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            let event = stored_event(row)?;
            let since: i64 = row.try_get("since")?;
            Ok(ParkedEvent {
                seq: event.seq,
                event: event.record,
                reason: row.try_get("reason")?,
                attempts: row.try_get("attempts")?,
                since: UNIX_EPOCH + Duration::from_millis(since.unsigned_abs()),
            })
        })
        .collect()
}

pub(super) async fn release_parked(
    pool: &SqlitePool,
    names: &Names,
    key: Option<&[u8]>,
) -> Result<u64, OutboxError> {
    let released =
        sqlx::query(sql(names.fill("update {parked} set released = 1 where $1 is null or key = $1")))
            .bind(key)
            .execute(pool)
            .await?;
    Ok(released.rows_affected())
}

pub(super) async fn discard_parked(pool: &SqlitePool, names: &Names, id: Uuid) -> Result<bool, OutboxError> {
    let discarded =
        sqlx::query(sql(names.fill("delete from {parked} where id = $1"))).bind(id).execute(pool).await?;
    Ok(discarded.rows_affected() > 0)
}

/// Of a list of ids, a statement for each: SQLite has no arrays.
pub(super) async fn replay(pool: &SqlitePool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
    let ids: Vec<Option<Uuid>> = match &which.ids {
        Some(ids) => ids.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut replayed = 0;
    for id in ids {
        replayed += sqlx::query(sql(names.fill(REPLAY)))
            .bind(id)
            .bind(which.topic.as_deref())
            .bind(which.from.map(unix_micros))
            .bind(which.until.map(unix_micros))
            .execute(&mut *tx)
            .await?
            .rows_affected();
    }
    tx.commit().await?;
    Ok(replayed)
}
