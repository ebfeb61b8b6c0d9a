//! Where an event is: pending ones are in the table of events, published ones in that of the
//! retained, if a relay has a retention, and parked ones in their own.

use sqlx::{MySql, MySqlPool, QueryBuilder};
use uuid::Uuid;

use super::clock::unix_micros;
use super::event_row::stored_event;
use super::{connection, statement};
use crate::record::StoredEvent;
use crate::store::admin::{DiscardedEvent, DiscardedRow};
use crate::store::error::StoreError;
use crate::store::events::{
    CopyRow, EventCopy, EventFilter, EventRow, EventState, GroupEvent, GroupRow, KEY_BYTES,
    ListedEvent, MOST_COPIES,
};
use crate::store::names::Names;
use crate::store::sealed::Lookup;

/// What a list has of a row `e`. The name `key` is quoted: it is a word of MySQL's.
const LISTED: &str = "\
e.seq, e.lane, e.id, e.topic, substr(e.event_key, 1, {key_bytes}) as `key`, e.name, e.version,
       e.occurred_at as occurred_micros,
       cast(coalesce(length(e.payload), 0) + coalesce(length(e.event_key), 0) + length(e.headers) + length(e.topic)
            + length(e.name) + length(e.content_type) as signed) as bytes";

/// What became of a row `e` of the retained ones. A discarded event is among them: it can be
/// replayed by its id.
const OF_SENT: &str = "\
case when exists (select 1 from {discarded} d where d.seq = e.seq) then 'discarded' else 'published' end";

/// Rows `e`, and what became of them.
struct Rows {
    state: &'static str,
    from: &'static str,
}

const PENDING: Rows = Rows { state: "'pending'", from: "{event} e where true" };
const PARKED: Rows = Rows { state: "'parked'", from: "{parked} e where true" };
const SENT: Rows = Rows { state: OF_SENT, from: "{sent} e where true" };
const PUBLISHED: Rows = Rows {
    state: "'published'",
    from: "{sent} e where not exists (select 1 from {discarded} d where d.seq = e.seq)",
};
const DISCARDED: Rows =
    Rows { state: "'discarded'", from: "{discarded} d join {sent} e on e.seq = d.seq where true" };

/// Of the pending ones all are read: there is no index on their ids, which would make each insert
/// dearer.
const COPIES: &str = "\
select e.seq, e.lane, 'pending' as state from {event} e where e.id = ?
union all
select e.seq, e.lane, 'parked' from {parked} e where e.id = ?
union all
select e.seq, e.lane, {of_sent} from {sent} e where e.id = ?
order by seq limit ?";

const GIVEN_UP: &str = "\
select id, seq, topic, name, reason, at as at_micros from {discarded} where id = ? order by seq limit ?";

/// The groups are found one after the other, by the index that begins with them. Their names are
/// bytes in the tables.
const GROUPS: &str = "\
with recursive known (consumer_group) as (
  select min(i.consumer_group) from {inbox} i
  union all
  select (select min(i.consumer_group) from {inbox} i where i.consumer_group > g.consumer_group)
  from known g where g.consumer_group is not null)
select convert(g.consumer_group using utf8mb4) as consumer_group, 'handled' as state, i.handled_at as since_micros
from known g join {inbox} i on i.consumer_group = g.consumer_group and i.event_id = ?
union all
select convert(k.consumer_group using utf8mb4), k.state, k.since from {key_queue} k where k.event_id = ?
order by 1, 2 limit 10000";

/// What a list has of a row `e`.
pub(super) fn listed() -> String {
    LISTED.replace("{key_bytes}", &KEY_BYTES.to_string())
}

/// Selects rows of one kind, the newest first, as many as may be listed.
fn push_rows(
    query: &mut QueryBuilder<MySql>,
    names: &Names,
    rows: &Rows,
    filter: &EventFilter,
    before: Option<i64>,
    limit: u32,
) {
    let select = format!("select {}, {} as state from {}", listed(), rows.state, rows.from);
    query.push(statement(names, &select).as_str());
    if let Some(topic) = &filter.topic {
        query.push(" and e.topic = ").push_bind(&**topic);
    }
    if let Some(key) = &filter.key {
        query.push(" and e.event_key = ").push_bind(&**key);
    }
    if let Some(name) = &filter.name {
        query.push(" and e.name = ").push_bind(&**name);
    }
    if let Some(from) = filter.from {
        query.push(" and e.occurred_at >= ").push_bind(unix_micros(from));
    }
    if let Some(until) = filter.until {
        query.push(" and e.occurred_at < ").push_bind(unix_micros(until));
    }
    if let Some(lane) = filter.lane() {
        query.push(" and e.lane = ").push_bind(lane);
    }
    if let Some(before) = before {
        query.push(" and e.seq < ").push_bind(before);
    }
    query.push(" order by e.seq desc limit ").push_bind(limit);
}

impl Lookup for MySql {
    async fn list_events(
        pool: &MySqlPool,
        names: &Names,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, StoreError> {
        let kinds: &[Rows] = match filter.state {
            None => &[PENDING, PARKED, SENT],
            Some(EventState::Pending) => &[PENDING],
            Some(EventState::Published) => &[PUBLISHED],
            Some(EventState::Parked) => &[PARKED],
            Some(EventState::Discarded) => &[DISCARDED],
        };
        let mut query = QueryBuilder::new("");
        for (place, rows) in kinds.iter().enumerate() {
            query.push(if place == 0 { "(" } else { ") union all (" });
            push_rows(&mut query, names, rows, filter, before, limit);
        }
        query.push(")");
        let mut tx = connection::begin_reading(pool).await?;
        let rows = query.build_query_as().persistent(false);
        let mut rows: Vec<EventRow> = rows.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(rows.into_iter().map(ListedEvent::from).collect())
    }

    async fn copies(
        pool: &MySqlPool,
        names: &Names,
        id: Uuid,
    ) -> Result<(Vec<EventCopy>, Option<StoredEvent>), StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let copies = statement(names, &COPIES.replace("{of_sent}", OF_SENT));
        let copies = sqlx::query_as(copies).bind(id).bind(id).bind(id).bind(MOST_COPIES);
        let copies: Vec<CopyRow> = copies.fetch_all(&mut *tx).await?;
        let mut event = None;
        if let Some(last) = copies.last() {
            let table = match &*last.state {
                "pending" => "select * from {event} where lane = ? and seq = ?",
                "parked" => "select * from {parked} where lane = ? and seq = ?",
                _ => "select * from {sent} where lane = ? and seq = ?",
            };
            let row = sqlx::query(statement(names, table)).bind(last.lane).bind(last.seq);
            let row = row.fetch_optional(&mut *tx).await?;
            event = row.map(|row| stored_event(&row)).transpose()?;
        }
        tx.rollback().await?;
        Ok((copies.into_iter().map(EventCopy::from).collect(), event))
    }

    async fn discarded_as(
        pool: &MySqlPool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let discarded = sqlx::query_as(statement(names, GIVEN_UP)).bind(id).bind(MOST_COPIES);
        let rows: Vec<DiscardedRow> = discarded.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }

    async fn groups_of(
        pool: &MySqlPool,
        names: &Names,
        id: Uuid,
    ) -> Result<Vec<GroupEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let groups = sqlx::query_as(statement(names, GROUPS)).bind(id).bind(id);
        let groups: Vec<GroupRow> = groups.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(groups.into_iter().map(GroupEvent::from).collect())
    }
}
