//! What an operator asks.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{Executor, FromRow, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::clock::{unix_micros, unix_millis};
use super::event_row::stored_event;
use super::reclaim;
use crate::record::{KeyDigest, Lane};
use crate::store::admin::{
    DiscardedEvent, DiscardedRow, LaneStatus, LaneStatusRow, PageRow, ParkedEvent, RefusalRow,
    Replay, Status,
};
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::parked::{Discard, PAGE_EVENTS, Release, page};
use crate::store::row::row;
use crate::store::sealed::Admin;

const STATUS: &str = "\
select l.lane, (select r.owner from {relay} r where r.owner = l.owner and r.alive_until > $2) as owner,
       (select count(*) from (select 1 from {event} e where e.lane = l.lane and e.seq > l.last_seq limit $1)) as backlog,
       (select e.occurred_at from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit 1) as oldest_micros
from {lane} l order by l.lane";

/// If an event is retained several times, because it was replayed before, the first copy.
const TO_REPLAY: &str = "\
select min(e.seq) from {event} e join {lane} l on l.lane = e.lane
where e.seq <= l.last_seq
  and ($1 is null or e.id = $1) and ($2 is null or e.topic = $2)
  and ($3 is null or e.occurred_at >= $3) and ($4 is null or e.occurred_at < $4)
  and not exists (select 1 from {parked} p where p.id = e.id)
  and ($1 is not null or not exists (select 1 from {discarded} d where d.id = e.id))
group by e.id";

const REPLAY: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition
from {event} e where e.seq in ";

const TAKE_BACK: &str =
    "delete from {discarded} where id = (select id from {event} where seq = $1)";

/// The numbers of a page, how large each event is, and the first event of its key.
const PAGE: &str = "\
select e.seq, e.bytes, (
  select head.id from {parked} head
  where head.lane = e.lane and head.key_digest = e.key_digest and head.seq < e.seq order by head.seq limit 1) as waits_behind
from {parked} e
where $1 is null or (e.lane, e.key_digest, e.seq) > ($1, $2, $3)
order by e.lane, e.key_digest, e.seq limit $4";

const PARKED: &str = "select *, since * 1000 as since_micros from {parked} where seq = $1";

const DISCARDED: &str = "\
select id, seq, topic, name, reason, at * 1000 as at_micros
from {discarded} order by at desc, seq desc limit $1";

const RELEASE_KEY: &str = "\
update {parked_key} set released = 1
where lane = $1 and key_digest in (select key_digest from {parked} where lane = $1 and key = $2)";

const RELEASE_ON_TOPIC: &str =
    "update {parked_key} set released = 1 where lane = $1 and key_digest = $2";

/// An event that was replayed and parked again is there more than once.
const TO_DISCARD: &str = "\
select p.lane, p.key_digest, (
  select head.id from {parked} head
  where head.lane = p.lane and head.key_digest = p.key_digest and head.seq < p.seq order by head.seq limit 1) as waits_behind
from {parked} p where p.id = $1 order by p.seq limit 1";

const REMEMBER: &str = "\
insert into {discarded} (seq, id, topic, name, reason, at)
select seq, id, topic, name, reason, $2 from {parked} where id = $1
on conflict (seq) do nothing";

/// A key without any parked event is released, so that its relay forgets it.
const RELEASE_IF_EMPTY: &str = "\
update {parked_key} set released = 1
where lane = $1 and key_digest = $2
  and not exists (select 1 from {parked} where lane = $1 and key_digest = $2)";

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

row! {
    /// A parked event that is to be discarded.
    struct ToDiscard {
        lane: i16,
        key_digest: Uuid,
        waits_behind: Option<Uuid>,
    }
}

impl Admin for Sqlite {
    /// The user's own pool: an in-memory database cannot be reached in another way.
    fn own_pool(pool: &SqlitePool) -> SqlitePool {
        pool.clone()
    }

    fn follow(_: &SqlitePool, _: &SqlitePool) {}

    async fn reclaim(
        pool: &SqlitePool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn others_if_unused(pool: &SqlitePool, names: &Names) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(sql(OTHERS_IF_UNUSED)).bind(&names.prefix).fetch_all(pool).await?)
    }

    async fn status(pool: &SqlitePool, names: &Names) -> Result<Status, StoreError> {
        let rows: Vec<LaneStatusRow> = sqlx::query_as(sql(names.fill(STATUS)))
            .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
            .bind(unix_millis())
            .fetch_all(pool)
            .await?;
        let parked: u32 = sqlx::query_scalar(sql(
            names.fill("select count(*) from (select 1 from {parked} limit $1)")
        ))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .fetch_one(pool)
        .await?;
        let lanes = rows.into_iter().map(LaneStatus::from).collect();
        Ok(Status::new(lanes, u64::from(parked)))
    }

    async fn parked(
        pool: &SqlitePool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let found: Vec<PageRow> = sqlx::query_as(sql(names.fill(PAGE)))
            .bind(after.map(|(lane, ..)| lane.number()))
            .bind(after.map(|(_, key, _)| key.0))
            .bind(after.map(|(.., seq)| seq))
            .bind(limit.min(PAGE_EVENTS))
            .fetch_all(pool)
            .await?;
        let room = page(found.iter().map(|row| row.bytes.unsigned_abs()));
        let mut page = Vec::with_capacity(room);
        for PageRow { seq, waits_behind, .. } in found.into_iter().take(room) {
            let row = sqlx::query(sql(names.fill(PARKED))).bind(seq).fetch_optional(pool).await?;
            if let Some(row) = row {
                let refusal = RefusalRow::from_row(&row)?;
                page.push(ParkedEvent::new(stored_event(&row)?, refusal, waits_behind));
            }
        }
        Ok(page)
    }

    async fn release_parked(
        pool: &SqlitePool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let events: i64 = match which {
            Release::All => {
                tx.execute(sql(names.fill("update {parked_key} set released = 1"))).await?;
                let count = sql(names.fill("select count(*) from {parked}"));
                sqlx::query_scalar(count).fetch_one(&mut *tx).await?
            }
            Release::Key(key) => {
                let lane = Lane::of(Some(key), Uuid::nil()).number();
                sqlx::query(sql(names.fill(RELEASE_KEY)))
                    .bind(lane)
                    .bind(key)
                    .execute(&mut *tx)
                    .await?;
                let count =
                    sql(names.fill("select count(*) from {parked} where lane = $1 and key = $2"));
                sqlx::query_scalar(count).bind(lane).bind(key).fetch_one(&mut *tx).await?
            }
            Release::OnTopic(lane, key) => {
                let (lane, key) = (lane.number(), key.0);
                sqlx::query(sql(names.fill(RELEASE_ON_TOPIC)))
                    .bind(lane)
                    .bind(key)
                    .execute(&mut *tx)
                    .await?;
                let count =
                    sql(names
                        .fill("select count(*) from {parked} where lane = $1 and key_digest = $2"));
                sqlx::query_scalar(count).bind(lane).bind(key).fetch_one(&mut *tx).await?
            }
        };
        tx.commit().await?;
        Ok(events.unsigned_abs())
    }

    async fn discard_parked(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let found: Option<ToDiscard> =
            sqlx::query_as(sql(names.fill(TO_DISCARD))).bind(id).fetch_optional(&mut *tx).await?;
        let discard = match found {
            None => Discard::NotParked,
            Some(ToDiscard { waits_behind: Some(head), .. }) if !insist => Discard::Waits(head),
            Some(ToDiscard { lane, key_digest, .. }) => {
                discard_all_of(&mut tx, names, id).await?;
                let release = sqlx::query(sql(names.fill(RELEASE_IF_EMPTY)));
                release.bind(lane).bind(key_digest).execute(&mut *tx).await?;
                Discard::Done
            }
        };
        tx.commit().await?;
        Ok(discard)
    }

    async fn discarded(
        pool: &SqlitePool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let rows: Vec<DiscardedRow> = sqlx::query_as(sql(names.fill(DISCARDED)))
            .bind(limit.min(PAGE_EVENTS))
            .fetch_all(pool)
            .await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }

    async fn replay(pool: &SqlitePool, names: &Names, which: &Replay) -> Result<u64, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let replayed = match &which.ids {
            Some(ids) => replay_ids(&mut tx, names, which, ids).await?,
            None => {
                let statement = names.fill(&format!("{REPLAY} ({TO_REPLAY}) order by e.seq"));
                sqlx::query(sql(statement))
                    .bind(None::<Uuid>)
                    .bind(which.topic.as_deref())
                    .bind(which.from.map(unix_micros))
                    .bind(which.until.map(unix_micros))
                    .execute(&mut *tx)
                    .await?
                    .rows_affected()
            }
        };
        tx.commit().await?;
        Ok(replayed)
    }
}

async fn discard_all_of(
    connection: &mut SqliteConnection,
    names: &Names,
    id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(sql(names.fill(REMEMBER)))
        .bind(id)
        .bind(unix_millis())
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql(names.fill("delete from {parked} where id = $1")))
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// One statement for each id: SQLite has no arrays.
async fn replay_ids(
    connection: &mut SqliteConnection,
    names: &Names,
    which: &Replay,
    ids: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let mut seqs = BTreeSet::new();
    for id in ids {
        let found: Option<i64> = sqlx::query_scalar(sql(names.fill(TO_REPLAY)))
            .bind(id)
            .bind(which.topic.as_deref())
            .bind(which.from.map(unix_micros))
            .bind(which.until.map(unix_micros))
            .fetch_optional(&mut *connection)
            .await?;
        seqs.extend(found);
    }
    for seq in &seqs {
        let copy = names.fill(&format!("{REPLAY} ($1)"));
        sqlx::query(sql(copy)).bind(seq).execute(&mut *connection).await?;
        sqlx::query(sql(names.fill(TAKE_BACK))).bind(seq).execute(&mut *connection).await?;
    }
    Ok(seqs.len() as u64)
}
