//! Where an event is.

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgPool, Postgres};
use uuid::Uuid;

use super::event_row::stored_events;
use super::fragments::fill;
use super::{connection, unnamed};
use crate::record::StoredEvent;
use crate::store::admin::{DiscardedEvent, DiscardedRow};
use crate::store::error::StoreError;
use crate::store::events::{
    CopyRow, EventCopy, EventFilter, EventRow, EventState, GroupEvent, GroupRow, KEY_BYTES,
    ListedEvent, MOST_COPIES,
};
use crate::store::names::Names;
use crate::store::sealed::Lookup;

/// The newest events that are meant, of each lane and then of all. `{rows}` selects rows `e` of the
/// lane `lanes` with the cursor `l`.
const LIST: &str = "\
select e.* from (
  select e.* from generate_series(0, 15) as lanes (lane)
  left join {cursors} l on l.lane = lanes.lane
  cross join lateral ({rows}) e
  where $6::smallint is null or lanes.lane = $6
) e order by e.seq desc limit $8";

/// What a list has of a row `e`.
pub(super) const LISTED: &str = "\
e.seq, e.lane, e.id, e.topic, substr(e.key, 1, $9) as key, e.name, e.version,
       case when e.occurred_at >= '0001-01-01' and e.occurred_at < '10000-01-01'
       then (extract(epoch from e.occurred_at) * 1000000)::bigint end as occurred_micros,
       (coalesce(octet_length(e.payload), 0) + coalesce(octet_length(e.key), 0) + pg_column_size(e.headers)
        + octet_length(e.topic) + octet_length(e.name) + octet_length(e.content_type))::bigint as bytes";

const MATCHES: &str = "\
($1::text is null or e.topic = $1) and ($2::bytea is null or e.key = $2) and ($3::text is null or e.name = $3)
  and ($4::timestamptz is null or e.occurred_at >= $4) and ($5::timestamptz is null or e.occurred_at < $5)
  and ($7::bigint is null or e.seq < $7)";

/// What became of a row `e` of a lane with the cursor `l`: see `window.rs`.
const STATE: &str = "\
case when exists (select from {parked} p where p.seq = e.seq) then 'parked'
     when exists (select from {discarded} d where d.seq = e.seq) then 'discarded'
     when pg_visible_in_snapshot(e.xid, l.prev) or e.seq <= l.last_seq and pg_visible_in_snapshot(e.xid, l.cur)
     then 'published' else 'pending' end as state";

/// Of a parked event, its row in the outbox may be gone.
const ALL: &str = "\
(select {listed}, {state} from {event} e where e.lane = lanes.lane and {matches} order by e.seq desc limit $8)
union all
(select {listed}, 'parked' as state from {parked} e
 where e.lane = lanes.lane and {matches} and not exists (select from {event} v where v.lane = e.lane and v.seq = e.seq)
 order by e.seq desc limit $8)";

/// By the two ways in which a window's rows are found (see `window.rs`).
const PENDING: &str = "\
select * from (
  (select {listed}, {state} from {event} e
   where e.lane = lanes.lane and e.seq > coalesce(greatest(l.last_seq, l.prev_floor), 0) and {matches}
   order by e.seq desc limit $8)
  union all
  (select {listed}, {state} from {unfinished} cross join lateral (
     select e.* from {event} e
     where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
       and e.seq > l.last_seq and e.seq <= l.prev_floor and {matches}
     order by e.xid, e.seq limit $8) e)) e
where e.state = 'pending' order by e.seq desc limit $8";

const PUBLISHED: &str = "\
select * from (select {listed}, {state} from {event} e where e.lane = lanes.lane and {matches}) e
where e.state = 'published' order by e.seq desc limit $8";

const PARKED: &str = "\
select {listed}, 'parked' as state from {parked} e where e.lane = lanes.lane and {matches}
order by e.seq desc limit $8";

const DISCARDED: &str = "\
select {listed}, 'discarded' as state from {discarded} d join {event} e on e.seq = d.seq
where e.lane = lanes.lane and {matches} and not exists (select from {parked} p where p.seq = e.seq)
order by e.seq desc limit $8";

/// There is no index on the ids, which would make each insert dearer.
const COPIES: &str = "\
select e.seq, e.lane, {state} from {event} e left join {cursors} l on l.lane = e.lane
where e.id = $1 order by e.seq limit $2";

const GIVEN_UP: &str = "\
select id, seq, topic, name, reason, (extract(epoch from at) * 1000000)::bigint as at_micros
from {discarded} where id = $1 order by seq limit $2";

/// The groups are found one after the other, by the index that begins with them.
const GROUPS: &str = "\
with recursive groups as (
  (select i.consumer_group from {inbox} i order by i.consumer_group limit 1)
  union all
  select (select i.consumer_group from {inbox} i where i.consumer_group > g.consumer_group
          order by i.consumer_group limit 1)
  from groups g where g.consumer_group is not null)
select g.consumer_group, 'handled' as state, (extract(epoch from i.handled_at) * 1000000)::bigint as since_micros
from groups g join {inbox} i on i.consumer_group = g.consumer_group and i.event_id = $1
union all
select k.consumer_group, k.state, (extract(epoch from k.since) * 1000000)::bigint
from {key_queue} k where k.event_id = $1
order by 1, 2 limit 10000";

fn filled(statement: &str) -> String {
    statement.replace("{listed}", LISTED).replace("{state}", STATE).replace("{matches}", MATCHES)
}

impl Lookup for Postgres {
    async fn list_events(
        pool: &PgPool,
        names: &Names,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, StoreError> {
        let rows = match filter.state {
            None => ALL,
            Some(EventState::Pending) => PENDING,
            Some(EventState::Published) => PUBLISHED,
            Some(EventState::Parked) => PARKED,
            Some(EventState::Discarded) => DISCARDED,
        };
        let mut tx = connection::begin_reading(pool).await?;
        let rows: Vec<EventRow> =
            unnamed::query_as(fill(names, &filled(&LIST.replace("{rows}", rows))))
                .bind(filter.topic.as_deref())
                .bind(filter.key.as_deref())
                .bind(filter.name.as_deref())
                .bind(filter.from.map(OffsetDateTime::from))
                .bind(filter.until.map(OffsetDateTime::from))
                .bind(filter.lane())
                .bind(before)
                .bind(i64::from(limit))
                .bind(KEY_BYTES)
                .fetch_all(&mut *tx)
                .await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(ListedEvent::from).collect())
    }

    async fn copies(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
    ) -> Result<(Vec<EventCopy>, Option<StoredEvent>), StoreError> {
        let mut tx = connection::begin_scanning(pool).await?;
        let copies: Vec<CopyRow> = unnamed::query_as(fill(names, &filled(COPIES)))
            .bind(id)
            .bind(MOST_COPIES)
            .fetch_all(&mut *tx)
            .await?;
        let mut event = None;
        if let Some(last) = copies.last() {
            let select = "select {columns} from {event} e where e.lane = $1 and e.seq = $2";
            let rows = unnamed::query(fill(names, select)).bind(last.lane).bind(last.seq);
            event = stored_events(&rows.fetch_all(&mut *tx).await?)?.pop();
        }
        tx.rollback().await?;
        Ok((copies.into_iter().map(EventCopy::from).collect(), event))
    }

    async fn discarded_as(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let discarded = unnamed::query_as(fill(names, GIVEN_UP)).bind(id).bind(MOST_COPIES);
        let rows: Vec<DiscardedRow> = discarded.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }

    async fn groups_of(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<GroupEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let groups: Vec<GroupRow> =
            unnamed::query_as(fill(names, GROUPS)).bind(id).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(groups.into_iter().map(GroupEvent::from).collect())
    }
}
