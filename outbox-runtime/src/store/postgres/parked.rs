//! What an operator sees and does of parked events.

use std::collections::BTreeMap;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Executor, FromRow, PgPool, Postgres, Row, SqlStr};
use uuid::Uuid;

use super::event_row::stored_events;
use super::fragments::fill;
use super::{connection, unnamed, wakeup};
use crate::record::{KeyDigest, Lane};
use crate::store::admin::{DiscardedEvent, DiscardedRow, PageRow, ParkedEvent, RefusalRow};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::parked::{Discard, PAGE_EVENTS, Release, page};
use crate::store::parked_filter::{
    GroupRow, MOST_GROUPS, ParkedFilter, ParkedGroup, ParkedGrouping,
};
use crate::store::row::row;
use crate::store::sealed::ParkedAdmin;

/// The events `e` that a filter means. Without a condition, a parameter is null.
const MATCHES: &str = "\
($1::uuid[] is null or e.id = any ($1)) and ($2::text is null or e.topic = $2)
  and ($3::bytea is null or e.key = $3) and ($4::text is null or e.name = $4)
  and ($5::text is null or e.reason ilike $5) and ($6::smallint is null or e.lane = $6)";

/// The numbers of a page, how large each event is, and the first event of its key. Rows come in the
/// index's order.
const PAGE: &str = "\
select e.seq, e.bytes::bigint as bytes, case when head.seq <> e.seq then head.id end as waits_behind
from {parked} e
cross join lateral (
  select id, seq from {parked} where lane = e.lane and key_digest = e.key_digest order by seq limit 1) head
where {matches} and ($7::smallint is null or (e.lane, e.key_digest, e.seq) > ($7, $8, $9))
order by e.lane, e.key_digest, e.seq limit $10";

const PARKED: &str = "\
select {columns}, e.reason, e.attempts::bigint as attempts,
       (extract(epoch from e.since) * 1000000)::bigint as since_micros
from {parked} e where e.seq = any ($1)
order by e.lane, e.key_digest, e.seq";

const GROUPS: &str = "\
select {group}, count(*) as events, count(distinct (e.lane, e.key_digest)) as keys,
       (extract(epoch from min(e.occurred_at) filter (
          where e.occurred_at >= '0001-01-01' and e.occurred_at < '10000-01-01')) * 1000000)::bigint as oldest_micros
from {parked} e where {matches}
group by {by} order by events desc, 1, 2, 3 limit $7";

/// Whether the topic of a row `k` is not paused: what is parked of a paused one is not tried.
const UNPAUSED: &str =
    "not exists (select from {pause} p where p.scope = 'topic' and p.target = k.topic)";

/// The next keys after a given one, of which some event is meant. Their locks are taken in the same
/// order as by a relay that parks.
const RELEASE_SOME: &str = "\
update {parked_key} k set released = true
from (
  select k.lane, k.key_digest from {parked_key} k
  where (k.lane, k.key_digest) > ($8, $9) and {unpaused}
    and ($6::smallint is null or k.lane = $6) and ($2::text is null or k.topic = $2)
    and ($7 or exists (
      select from {parked} e where e.lane = k.lane and e.key_digest = k.key_digest and {matches}))
  order by k.lane, k.key_digest limit $10
  for update) next_keys
where k.lane = next_keys.lane and k.key_digest = next_keys.key_digest
returning k.lane, k.key_digest,
  (select count(*) from {parked} e where e.lane = k.lane and e.key_digest = k.key_digest) as events";

const RELEASE_ON_TOPIC: &str = "\
with released as (update {parked_key} k set released = true where k.lane = $1 and k.key_digest = $2 and {unpaused})
select count(*) from {parked} k where k.lane = $1 and k.key_digest = $2 and {unpaused}";

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

row! {
    /// A key that was released, and how many parked events it has.
    struct ReleasedKey {
        lane: i16,
        key_digest: Uuid,
        events: i64,
    }
}

impl ParkedAdmin for Postgres {
    async fn parked(
        pool: &PgPool,
        names: &Names,
        filter: &ParkedFilter,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let found = filtered(statement(names, PAGE), filter)
            .bind(after.map(|(lane, ..)| lane.number()))
            .bind(after.map(|(_, key, _)| key.0))
            .bind(after.map(|(.., seq)| seq))
            .bind(i64::from(limit.min(PAGE_EVENTS)))
            .fetch_all(&mut *tx)
            .await?;
        let found: Vec<PageRow> = rows_of(&found)?;
        let found = &found[..page(found.iter().map(|row| row.bytes.unsigned_abs()))];
        let seqs: Vec<i64> = found.iter().map(|row| row.seq).collect();
        let rows = unnamed::query(fill(names, PARKED)).bind(&seqs).fetch_all(&mut *tx).await?;
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

    async fn parked_groups(
        pool: &PgPool,
        names: &Names,
        filter: &ParkedFilter,
        by: ParkedGrouping,
    ) -> Result<Vec<ParkedGroup>, StoreError> {
        let (columns, group_by) = by.columns();
        let groups = GROUPS.replace("{group}", columns).replace("{by}", group_by);
        let mut tx = connection::begin_reading(pool).await?;
        let rows = filtered(statement(names, &groups), filter)
            .bind(i64::from(MOST_GROUPS))
            .fetch_all(&mut *tx)
            .await?;
        tx.rollback().await?;
        Ok(rows_of::<GroupRow>(&rows)?.into_iter().map(ParkedGroup::from).collect())
    }

    async fn count_parked(
        pool: &PgPool,
        names: &Names,
        filter: &ParkedFilter,
    ) -> Result<u64, StoreError> {
        const COUNT: &str = "select count(*) as events from {parked} e where {matches}";
        let mut tx = connection::begin_reading(pool).await?;
        let row = filtered(statement(names, COUNT), filter).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(row.try_get::<i64, _>("events")?.unsigned_abs())
    }

    async fn release_parked(
        pool: &PgPool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, StoreError> {
        let events = match which {
            Release::Where(filter) => release_where(pool, names, filter).await?,
            Release::OnTopic(lane, key) => release_on_topic(pool, names, lane, key).await?,
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
        let found = unnamed::query_scalar(fill(names, TO_DISCARD)).bind(id);
        let refused = match found.fetch_optional(&mut *tx).await? {
            None => Some(Discard::NotParked),
            Some(Some(head)) if !insist => Some(Discard::Waits(head)),
            Some(_) => None,
        };
        if let Some(refused) = refused {
            tx.rollback().await?;
            return Ok(refused);
        }
        unnamed::query(fill(names, DISCARD)).bind(id).execute(&mut *tx).await?;
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
        let query =
            unnamed::query_as(fill(names, DISCARDED)).bind(i64::from(limit.min(PAGE_EVENTS)));
        let rows: Vec<DiscardedRow> = query.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }
}

async fn release_on_topic(
    pool: &PgPool,
    names: &Names,
    lane: Lane,
    key: KeyDigest,
) -> Result<u64, StoreError> {
    let mut tx = connection::begin(pool).await?;
    tx.execute(connection::BY_INDEX).await?;
    let release = unnamed::query_scalar(statement(names, RELEASE_ON_TOPIC));
    let released: i64 = release.bind(lane.number()).bind(key.0).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(released.unsigned_abs())
}

/// In many transactions, so that none of them keeps a relay waiting for long. Returns how many
/// events the keys have.
async fn release_where(
    pool: &PgPool,
    names: &Names,
    filter: &ParkedFilter,
) -> Result<u64, StoreError> {
    let (mut events, mut after) = (0, (-1, Uuid::nil()));
    loop {
        let released = release_some(pool, names, filter, after).await?;
        events += released.iter().map(|key| key.events.unsigned_abs()).sum::<u64>();
        match released.iter().map(|key| (key.lane, key.key_digest)).max() {
            Some(last) => after = last,
            None => return Ok(events),
        }
    }
}

/// Returns the keys that were released.
async fn release_some(
    pool: &PgPool,
    names: &Names,
    filter: &ParkedFilter,
    after: (i16, Uuid),
) -> Result<Vec<ReleasedKey>, StoreError> {
    const AT_ONCE: i64 = 1_000;
    let mut tx = connection::begin(pool).await?;
    tx.execute(connection::BY_INDEX).await?;
    let released = filtered(statement(names, RELEASE_SOME), filter)
        .bind(filter.is_all())
        .bind(after.0)
        .bind(after.1)
        .bind(AT_ONCE)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows_of(&released)?)
}

fn statement(names: &Names, statement: &str) -> SqlStr {
    fill(names, &statement.replace("{matches}", MATCHES).replace("{unpaused}", UNPAUSED))
}

/// A statement whose first parameters are those of [`MATCHES`].
fn filtered<'q>(statement: SqlStr, filter: &'q ParkedFilter) -> Query<'q, Postgres, PgArguments> {
    unnamed::query(statement)
        .bind(filter.ids.as_deref())
        .bind(filter.topic.as_deref())
        .bind(filter.key.as_deref())
        .bind(filter.name.as_deref())
        .bind(filter.reason_like())
        .bind(filter.lane())
}

fn rows_of<T: for<'r> FromRow<'r, PgRow>>(rows: &[PgRow]) -> Result<Vec<T>, sqlx::Error> {
    rows.iter().map(T::from_row).collect()
}
