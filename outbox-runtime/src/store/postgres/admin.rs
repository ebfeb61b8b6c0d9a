//! What an operator asks.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Executor, FromRow, PgPool, Postgres};
use uuid::Uuid;

use super::event_row::stored_events;
use super::fragments::fill;
use super::lanes::KeyRow;
use super::{connection, reclaim, wakeup};
use crate::record::{KeyDigest, Lane};
use crate::store::admin::{
    DiscardedEvent, DiscardedRow, LaneStatus, LaneStatusRow, PageRow, ParkedEvent, RefusalRow,
    Replay, Status,
};
use crate::store::begun::Begun;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::parked::{Discard, PAGE_EVENTS, Release, page};
use crate::store::sealed::Admin;
use crate::store::tx_options::{Isolation, TxOptions};

/// By the two ways in which a window's rows are found (see `window.rs`).
const STATUS: &str = "\
select lanes.lane,
       case when (select h.alive_until from {heartbeat} h where h.owner = lanes.owner order by h.id desc limit 1)
                 > clock_timestamp()
       then lanes.owner end as owner, p.backlog,
       (extract(epoch from p.oldest) * 1000000)::bigint as oldest_micros
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

/// If an event is retained several times, because it was replayed before, the first copy.
const REPLAY: &str = "\
with once as (
  select distinct on (e.id) e.lane, e.seq
  from {event} e join {cursors} l on l.lane = e.lane
  where pg_visible_in_snapshot(e.xid, l.prev)
    and ($1::uuid[] is null or e.id = any ($1)) and ($2::text is null or e.topic = $2)
    and ($3::timestamptz is null or e.occurred_at >= $3) and ($4::timestamptz is null or e.occurred_at < $4)
    and not exists (select from {parked} p where p.id = e.id)
    and ($1 is not null or not exists (select from {discarded} d where d.id = e.id))
  order by e.id, e.seq),
replayed as (
  insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                       kafka_partition)
  select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
         e.kafka_partition
  from once join {event} e on e.lane = once.lane and e.seq = once.seq
  order by e.seq
  returning id),
taken_back as (delete from {discarded} d using replayed where d.id = replayed.id)
select count(*) from replayed";

/// The numbers of a page, how large each event is, and the first event of its key. Rows come in the
/// index's order.
const PAGE: &str = "\
select e.seq, e.bytes::bigint as bytes, case when head.seq <> e.seq then head.id end as waits_behind
from {parked} e
cross join lateral (
  select id, seq from {parked} where lane = e.lane and key_digest = e.key_digest order by seq limit 1) head
where $1::smallint is null or (e.lane, e.key_digest, e.seq) > ($1, $2, $3)
order by e.lane, e.key_digest, e.seq limit $4";

const PARKED: &str = "\
select {columns}, e.reason, e.attempts::bigint as attempts,
       (extract(epoch from e.since) * 1000000)::bigint as since_micros
from {parked} e where e.seq = any ($1)
order by e.lane, e.key_digest, e.seq";

/// The next keys after a given one. Their locks are taken in the same order as by a relay that
/// parks.
const RELEASE_SOME: &str = "\
update {parked_key} k set released = true
from (
  select lane, key_digest from {parked_key} where (lane, key_digest) > ($1, $2) order by lane, key_digest limit $3
  for update) next_keys
where k.lane = next_keys.lane and k.key_digest = next_keys.key_digest
returning k.lane, k.key_digest";

const RELEASE_KEY: &str = "\
with of_key as (
  select key_digest, count(*) as events from {parked} where lane = $1 and key = $2 group by key_digest),
released as (
  update {parked_key} k set released = true from of_key where k.lane = $1 and k.key_digest = of_key.key_digest)
select coalesce(sum(events), 0)::bigint from of_key";

const RELEASE_ON_TOPIC: &str = "\
with released as (update {parked_key} set released = true where lane = $1 and key_digest = $2)
select count(*) from {parked} where lane = $1 and key_digest = $2";

/// An event that was replayed and parked again is there more than once.
const TO_DISCARD: &str = "\
select case when head.seq <> p.seq then head.id end
from {parked} p
cross join lateral (
  select id, seq from {parked} where lane = p.lane and key_digest = p.key_digest order by seq limit 1) head
where p.id = $1 order by p.seq limit 1 for update of p";

/// A key without any parked event is released, so that its relay forgets it.
const DISCARD: &str = "\
with gone as (delete from {parked} where id = $1 returning seq, lane, key_digest, id, topic, name, reason),
remembered as (
  insert into {discarded} (seq, id, topic, name, reason) select seq, id, topic, name, reason from gone
  on conflict (seq) do nothing)
update {parked_key} k set released = true
from gone
where k.lane = gone.lane and k.key_digest = gone.key_digest
  and not exists (select from {parked} p where p.lane = k.lane and p.key_digest = k.key_digest and p.id <> $1)";

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

impl Admin for Postgres {
    fn own_pool(pool: &PgPool) -> PgPool {
        connection::own_pool(pool)
    }

    fn follow(own: &PgPool, pool: &PgPool) {
        connection::follow(own, pool);
    }

    async fn reclaim(pool: &PgPool, names: &Names, retention: Duration) -> Result<u64, StoreError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn others_if_unused(pool: &PgPool, names: &Names) -> Result<Vec<String>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let others = sqlx::query_scalar(fill(names, OTHERS_IF_UNUSED)).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(others)
    }

    async fn status(pool: &PgPool, names: &Names) -> Result<Status, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let rows: Vec<LaneStatusRow> = sqlx::query_as(fill(names, STATUS))
            .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx)
            .await?;
        let parked: i64 = sqlx::query_scalar(fill(
            names,
            "select count(*) from (select from {parked} limit $1) counted",
        ))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        let lanes = rows.into_iter().map(LaneStatus::from).collect();
        Ok(Status::new(lanes, parked.unsigned_abs()))
    }

    async fn parked(
        pool: &PgPool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let found: Vec<PageRow> = sqlx::query_as(fill(names, PAGE))
            .bind(after.map(|(lane, ..)| lane.number()))
            .bind(after.map(|(_, key, _)| key.0))
            .bind(after.map(|(.., seq)| seq))
            .bind(i64::from(limit.min(PAGE_EVENTS)))
            .fetch_all(&mut *tx)
            .await?;
        let found = &found[..page(found.iter().map(|row| row.bytes.unsigned_abs()))];
        let seqs: Vec<i64> = found.iter().map(|row| row.seq).collect();
        let rows = sqlx::query(fill(names, PARKED)).bind(&seqs).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        let heads: BTreeMap<i64, Option<Uuid>> =
            found.iter().map(|row| (row.seq, row.waits_behind)).collect();
        let mut parked = Vec::with_capacity(rows.len());
        for (event, row) in stored_events(&rows)?.into_iter().zip(&rows) {
            let waits_behind = heads.get(&event.seq).copied().flatten();
            parked.push(ParkedEvent::new(event, RefusalRow::from_row(row)?, waits_behind));
        }
        Ok(parked)
    }

    async fn release_parked(
        pool: &PgPool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, StoreError> {
        let events = match which {
            Release::All => release_all(pool, names).await?,
            Release::Key(key) => {
                let lane = Lane::of(Some(key), Uuid::nil()).number();
                let release = sqlx::query_scalar(fill(names, RELEASE_KEY)).bind(lane).bind(key);
                release_one(pool, release).await?
            }
            Release::OnTopic(lane, key) => {
                let release = sqlx::query_scalar(fill(names, RELEASE_ON_TOPIC));
                release_one(pool, release.bind(lane.number()).bind(key.0)).await?
            }
        };
        wakeup::call_relays(pool, &connection::located(pool, names).await?).await?;
        Ok(events)
    }

    async fn discard_parked(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, StoreError> {
        let mut tx = connection::begin(pool).await?;
        tx.execute(connection::BY_INDEX).await?;
        let found = sqlx::query_scalar(fill(names, TO_DISCARD)).bind(id);
        let refused = match found.fetch_optional(&mut *tx).await? {
            None => Some(Discard::NotParked),
            Some(Some(head)) if !insist => Some(Discard::Waits(head)),
            Some(_) => None,
        };
        if let Some(refused) = refused {
            tx.rollback().await?;
            return Ok(refused);
        }
        sqlx::query(fill(names, DISCARD)).bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        wakeup::call_relays(pool, &connection::located(pool, names).await?).await?;
        Ok(Discard::Done)
    }

    async fn discarded(
        pool: &PgPool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        const DISCARDED: &str = "\
select id, seq, topic, name, reason, (extract(epoch from at) * 1000000)::bigint as at_micros
from {discarded} order by at desc, seq desc limit $1";
        let mut tx = connection::begin_reading(pool).await?;
        let query = sqlx::query_as(fill(names, DISCARDED)).bind(i64::from(limit.min(PAGE_EVENTS)));
        let rows: Vec<DiscardedRow> = query.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }

    async fn replay(pool: &PgPool, names: &Names, which: &Replay) -> Result<u64, StoreError> {
        // Copying all retained events takes longer than other statements.
        const WITHIN: Duration = Duration::from_secs(600);
        let options = TxOptions::new().isolation(Isolation::ReadCommitted).limit(WITHIN);
        let mut tx = Begun::on(pool, Some(connection::begin_statement(options))).await?;
        let replayed: i64 = sqlx::query_scalar(fill(names, REPLAY))
            .bind(which.ids.as_deref())
            .bind(which.topic.as_deref())
            .bind(which.from.map(OffsetDateTime::from))
            .bind(which.until.map(OffsetDateTime::from))
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(replayed.unsigned_abs())
    }
}

/// Returns how many events the statement released.
async fn release_one(
    pool: &PgPool,
    release: QueryScalar<'_, Postgres, i64, PgArguments>,
) -> Result<u64, StoreError> {
    let mut tx = connection::begin(pool).await?;
    tx.execute(connection::BY_INDEX).await?;
    let released = release.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(released.unsigned_abs())
}

/// In many transactions, so that none of them keeps a relay waiting for long.
async fn release_all(pool: &PgPool, names: &Names) -> Result<u64, StoreError> {
    let mut tx = connection::begin_reading(pool).await?;
    let count = sqlx::query_scalar::<_, i64>(fill(names, "select count(*) from {parked}"));
    let events = count.fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    let mut last = (-1, Uuid::nil());
    while let Some(next) = release_some(pool, names, last).await? {
        last = next;
    }
    Ok(events.unsigned_abs())
}

/// Returns the last key that was released, if there was any.
async fn release_some(
    pool: &PgPool,
    names: &Names,
    after: (i16, Uuid),
) -> Result<Option<(i16, Uuid)>, StoreError> {
    const AT_ONCE: i64 = 1_000;
    let mut tx = connection::begin(pool).await?;
    tx.execute(connection::BY_INDEX).await?;
    let released: Vec<KeyRow> = sqlx::query_as(fill(names, RELEASE_SOME))
        .bind(after.0)
        .bind(after.1)
        .bind(AT_ONCE)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(released.into_iter().map(|key| (key.lane, key.key_digest)).max())
}
