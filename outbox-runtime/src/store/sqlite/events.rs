//! Where an event is.

use sqlx::{Sqlite, SqlitePool};
use uuid::Uuid;

use super::clock::unix_micros;
use super::event_row::stored_event;
use crate::record::StoredEvent;
use crate::store::admin::{DiscardedEvent, DiscardedRow};
use crate::store::error::StoreError;
use crate::store::events::{
    CopyRow, EventCopy, EventFilter, EventRow, EventState, GroupEvent, GroupRow, KEY_BYTES,
    ListedEvent, MOST_COPIES,
};
use crate::store::names::{Names, sql};
use crate::store::sealed::Lookup;

/// What a list has of a row `e`.
pub(super) const LISTED: &str = "\
e.seq, e.lane, e.id, e.topic, substr(e.key, 1, $9) as key, e.name, e.version, e.occurred_at as occurred_micros,
       coalesce(length(e.payload), 0) + coalesce(length(e.key), 0) + length(cast(e.headers as blob)) + length(e.topic)
       + length(e.name) + length(e.content_type) as bytes";

const MATCHES: &str = "\
($1 is null or e.topic = $1) and ($2 is null or e.key = $2) and ($3 is null or e.name = $3)
  and ($4 is null or e.occurred_at >= $4) and ($5 is null or e.occurred_at < $5)
  and ($6 is null or e.lane = $6) and ($7 is null or e.seq < $7)";

const STATE: &str = "\
case when exists (select 1 from {parked} p where p.seq = e.seq) then 'parked'
     when exists (select 1 from {discarded} d where d.seq = e.seq) then 'discarded'
     when e.seq <= (select l.last_seq from {lane} l where l.lane = e.lane) then 'published' else 'pending' end as state";

/// Of a parked event, its row in the outbox may be gone.
const ALL: &str = "\
select * from (
  select * from (
    select {listed}, {state} from {event} e where {matches} order by e.seq desc limit $8)
  union all
  select * from (
    select {listed}, 'parked' as state from {parked} e
    where {matches} and not exists (select 1 from {event} v where v.seq = e.seq) order by e.seq desc limit $8))
order by seq desc limit $8";

/// Of one state, which is the tenth parameter.
const OF_STATE: &str = "\
select * from (select {listed}, {state} from {event} e where {matches}) where state = $10
order by seq desc limit $8";

const PARKED: &str = "\
select {listed}, 'parked' as state from {parked} e where {matches} order by e.seq desc limit $8";

const COPIES: &str =
    "select e.seq, e.lane, {state} from {event} e where e.id = $1 order by e.seq limit $2";

const GIVEN_UP: &str = "\
select id, seq, topic, name, reason, at * 1000 as at_micros from {discarded} where id = $1 order by seq limit $2";

/// The groups are found one after the other, by the index that begins with them.
const GROUPS: &str = "\
with recursive groups (consumer_group) as (
  select min(i.consumer_group) from {inbox} i
  union all
  select (select min(i.consumer_group) from {inbox} i where i.consumer_group > g.consumer_group)
  from groups g where g.consumer_group is not null)
select g.consumer_group, 'handled' as state, i.handled_at * 1000 as since_micros
from groups g join {inbox} i on i.consumer_group = g.consumer_group and i.event_id = $1
union all
select k.consumer_group, k.state, k.since * 1000 from {key_queue} k where k.event_id = $1
order by 1, 2 limit 10000";

fn filled(names: &Names, statement: &str) -> String {
    let statement = statement.replace("{listed}", LISTED).replace("{state}", STATE);
    names.fill(&statement.replace("{matches}", MATCHES))
}

impl Lookup for Sqlite {
    async fn list_events(
        pool: &SqlitePool,
        names: &Names,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, StoreError> {
        let statement = match filter.state {
            None => ALL,
            Some(EventState::Parked) => PARKED,
            Some(_) => OF_STATE,
        };
        let rows: Vec<EventRow> = sqlx::query_as(sql(filled(names, statement)))
            .bind(filter.topic.as_deref())
            .bind(filter.key.as_deref())
            .bind(filter.name.as_deref())
            .bind(filter.from.map(unix_micros))
            .bind(filter.until.map(unix_micros))
            .bind(filter.lane())
            .bind(before)
            .bind(limit)
            .bind(KEY_BYTES)
            .bind(filter.state.map(EventState::stored))
            .fetch_all(pool)
            .await?;
        Ok(rows.into_iter().map(ListedEvent::from).collect())
    }

    async fn copies(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
    ) -> Result<(Vec<EventCopy>, Option<StoredEvent>), StoreError> {
        let copies: Vec<CopyRow> = sqlx::query_as(sql(filled(names, COPIES)))
            .bind(id)
            .bind(MOST_COPIES)
            .fetch_all(pool)
            .await?;
        let mut event = None;
        if let Some(last) = copies.last() {
            let select = sqlx::query(sql(names.fill("select * from {event} where seq = $1")));
            let row = select.bind(last.seq).fetch_optional(pool).await?;
            event = row.map(|row| stored_event(&row)).transpose()?;
        }
        Ok((copies.into_iter().map(EventCopy::from).collect(), event))
    }

    async fn discarded_as(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let discarded = sqlx::query_as(sql(names.fill(GIVEN_UP))).bind(id).bind(MOST_COPIES);
        let rows: Vec<DiscardedRow> = discarded.fetch_all(pool).await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }

    async fn groups_of(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<GroupEvent>, StoreError> {
        let groups: Vec<GroupRow> =
            sqlx::query_as(sql(names.fill(GROUPS))).bind(id).fetch_all(pool).await?;
        Ok(groups.into_iter().map(GroupEvent::from).collect())
    }
}
