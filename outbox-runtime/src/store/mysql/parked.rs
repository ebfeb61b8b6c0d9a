//! What an operator sees and does of parked events.

use std::collections::BTreeMap;

use sqlx::mysql::MySqlRow;
use sqlx::{FromRow, MySql, MySqlConnection, MySqlPool, QueryBuilder};
use uuid::Uuid;

use super::event_row::stored_event;
use super::lanes::park::retain;
use super::lists::push_list;
use super::{connection, statement};
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

/// The numbers of a page, how large each event is, and the first event of its key. MySQL sorts all
/// events of the key for each row if it is not told by which index they are in order.
const PAGE: &str = "\
select e.seq, e.bytes, (
  select head.id from {parked} head force index (parked_key_seq)
  where head.lane = e.lane and head.key_digest = e.key_digest and head.seq < e.seq
  order by head.lane, head.key_digest, head.seq limit 1) as waits_behind
from {parked} e {by_index} where true";

const DISCARDED: &str = "\
select id, seq, topic, name, reason, at as at_micros
from {discarded} order by at desc, seq desc limit ?";

/// Keys are counted by their digests: only the beginnings of long values are compared.
const GROUPS: &str = "\
select {group}, count(*) as events, count(distinct e.lane, e.key_digest) as `keys`, min(e.occurred_at) as oldest_micros
from {parked} e where true";

/// Whether the topic of a row `k` is not paused: what is parked of a paused one is not tried.
const UNPAUSED: &str =
    "not exists (select 1 from {pause} p where p.scope = 'topic' and p.target = k.topic)";

const KEYS: &str = "\
select k.lane, k.key_digest,
       (select count(*) from {parked} e where e.lane = k.lane and e.key_digest = k.key_digest) as events
from {parked_key} k where {unpaused}";

const RELEASE: &str = "\
update {parked_key} force index (primary) set released = 1 where lane = ";

const COUNT_ON_TOPIC: &str =
    "select count(*) from {parked} k where k.lane = ? and k.key_digest = ? and {unpaused}";

const RELEASE_ON_TOPIC: &str =
    "update {parked_key} k set k.released = 1 where k.lane = ? and k.key_digest = ? and {unpaused}";

/// By the number, as a relay locks it.
const TO_DISCARD: &str = "select lane, key_digest from {parked} where seq = ? for update";

const HEAD: &str = "\
select id from {parked} force index (parked_key_seq)
where lane = ? and key_digest = ? and seq < ? order by seq limit 1";

const REMEMBER: &str = "\
insert into {discarded} (seq, id, topic, name, reason, at)
select seq, id, topic, name, reason, {now} from {parked} where seq = ?
on duplicate key update seq = values(seq)";

/// A key without any parked event is released, so that its relay forgets it.
const RELEASE_IF_EMPTY: &str = "\
update {parked_key} set released = 1
where lane = ? and key_digest = ?
  and not exists (select 1 from {parked} p where p.lane = ? and p.key_digest = ?)";

row! {
    /// A key that may be released, and how many parked events it has.
    struct KeyRow {
        lane: i16,
        key_digest: Uuid,
        events: i64,
    }

    /// A parked event that is to be discarded.
    struct ToDiscard {
        lane: i16,
        key_digest: Uuid,
    }
}

impl ParkedAdmin for MySql {
    async fn parked(
        pool: &MySqlPool,
        names: &Names,
        filter: &ParkedFilter,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        // The order of a page. Of some ids, the events are found by theirs.
        let by_index = if filter.ids.is_none() { "force index (parked_key_seq)" } else { "" };
        let select = PAGE.replace("{by_index}", by_index);
        let mut query = QueryBuilder::new(statement(names, &select).as_str());
        push_matches(&mut query, filter);
        if let Some((lane, key, seq)) = after {
            let lane = lane.number();
            query.push(" and (e.lane > ").push_bind(lane);
            query.push(" or e.lane = ").push_bind(lane);
            query.push(" and e.key_digest > ").push_bind(key.0);
            query.push(" or e.lane = ").push_bind(lane);
            query.push(" and e.key_digest = ").push_bind(key.0);
            query.push(" and e.seq > ").push_bind(seq).push(")");
        }
        query.push(" order by e.lane, e.key_digest, e.seq limit ");
        query.push_bind(limit.min(PAGE_EVENTS));
        let mut tx = connection::begin_reading(pool).await?;
        let found = query.build_query_as().persistent(false);
        let mut found: Vec<PageRow> = found.fetch_all(&mut *tx).await?;
        found.truncate(page(found.iter().map(|row| row.bytes.unsigned_abs())));
        let mut events = BTreeMap::new();
        for some in found.chunks(AT_ONCE) {
            for row in contents(&mut tx, names, some).await? {
                let event = stored_event(&row)?;
                events.insert(event.seq, (event, RefusalRow::from_row(&row)?));
            }
        }
        tx.rollback().await?;
        let parked = found.into_iter().filter_map(|PageRow { seq, waits_behind, .. }| {
            let (event, refusal) = events.remove(&seq)?;
            Some(ParkedEvent::new(event, refusal, waits_behind))
        });
        Ok(parked.collect())
    }

    async fn parked_groups(
        pool: &MySqlPool,
        names: &Names,
        filter: &ParkedFilter,
        by: ParkedGrouping,
    ) -> Result<Vec<ParkedGroup>, StoreError> {
        let (columns, group_by) = columns(by);
        let groups = GROUPS.replace("{group}", columns);
        let mut query = QueryBuilder::new(statement(names, &groups).as_str());
        push_matches(&mut query, filter);
        query.push(" group by ").push(group_by);
        query.push(" order by events desc, 1, 2, 3 limit ").push_bind(MOST_GROUPS);
        let mut tx = connection::begin_reading(pool).await?;
        let rows: Vec<GroupRow> =
            query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(ParkedGroup::from).collect())
    }

    async fn count_parked(
        pool: &MySqlPool,
        names: &Names,
        filter: &ParkedFilter,
    ) -> Result<u64, StoreError> {
        let count = statement(names, "select count(*) from {parked} e where true");
        let mut query = QueryBuilder::new(count.as_str());
        push_matches(&mut query, filter);
        let mut tx = connection::begin_reading(pool).await?;
        let events: i64 = query.build_query_scalar().persistent(false).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(events.unsigned_abs())
    }

    async fn release_parked(
        pool: &MySqlPool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, StoreError> {
        match which {
            Release::Where(filter) => release_where(pool, names, filter).await,
            Release::OnTopic(lane, key) => release_on_topic(pool, names, lane, key).await,
        }
    }

    async fn discard_parked(
        pool: &MySqlPool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, StoreError> {
        let mut tx = connection::begin(pool).await?;
        let discard = discard(&mut tx, names, id, insist).await?;
        tx.commit().await?;
        Ok(discard)
    }

    async fn discarded(
        pool: &MySqlPool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let query = sqlx::query_as(statement(names, DISCARDED)).bind(limit.min(PAGE_EVENTS));
        let rows: Vec<DiscardedRow> = query.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }
}

/// The events of a page, whose sizes are known to fit.
async fn contents(
    connection: &mut MySqlConnection,
    names: &Names,
    page: &[PageRow],
) -> Result<Vec<MySqlRow>, sqlx::Error> {
    let select = "select e.*, e.since as since_micros from {parked} e where e.seq in (";
    let mut query = QueryBuilder::new(statement(names, select).as_str());
    push_list(&mut query, page.iter().map(|row| row.seq));
    query.build().persistent(false).fetch_all(connection).await
}

async fn release_on_topic(
    pool: &MySqlPool,
    names: &Names,
    lane: Lane,
    key: KeyDigest,
) -> Result<u64, StoreError> {
    let mut tx = connection::begin(pool).await?;
    let release = sqlx::query(unpaused(names, RELEASE_ON_TOPIC));
    release.bind(lane.number()).bind(key.0).execute(&mut *tx).await?;
    let count = sqlx::query_scalar(unpaused(names, COUNT_ON_TOPIC));
    let events: i64 = count.bind(lane.number()).bind(key.0).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(events.unsigned_abs())
}

/// In many transactions, so that none of them keeps a relay waiting for long. Returns how many
/// events the keys have.
async fn release_where(
    pool: &MySqlPool,
    names: &Names,
    filter: &ParkedFilter,
) -> Result<u64, StoreError> {
    let (mut events, mut after) = (0, (-1, Uuid::nil()));
    loop {
        let mut tx = connection::begin(pool).await?;
        let keys = next_keys(&mut tx, names, filter, after).await?;
        release(&mut tx, names, &keys).await?;
        tx.commit().await?;
        events += keys.iter().map(|key| key.events.unsigned_abs()).sum::<u64>();
        match keys.last() {
            Some(last) if keys.len() >= AT_ONCE => after = (last.lane, last.key_digest),
            _ => return Ok(events),
        }
    }
}

/// The next keys after a given one, of which some event is meant. They are read without locks: a
/// relay looks again whether a topic is paused.
async fn next_keys(
    connection: &mut MySqlConnection,
    names: &Names,
    filter: &ParkedFilter,
    after: (i16, Uuid),
) -> Result<Vec<KeyRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(unpaused(names, KEYS).as_str());
    query.push(" and (k.lane > ").push_bind(after.0);
    query.push(" or k.lane = ").push_bind(after.0);
    query.push(" and k.key_digest > ").push_bind(after.1).push(")");
    if let Some(lane) = filter.lane() {
        query.push(" and k.lane = ").push_bind(lane);
    }
    if let Some(topic) = &filter.topic {
        query.push(" and k.topic = ").push_bind(&**topic);
    }
    if !filter.is_all() {
        let meant = "exists (select 1 from {parked} e where e.lane = k.lane and e.key_digest = k.key_digest";
        query.push(" and ").push(statement(names, meant).as_str());
        push_matches(&mut query, filter);
        query.push(")");
    }
    query.push(" order by k.lane, k.key_digest limit ").push_bind(AT_ONCE as u64);
    query.build_query_as().persistent(false).fetch_all(connection).await
}

/// Their rows are locked in the same order as by a relay that parks.
async fn release(
    connection: &mut MySqlConnection,
    names: &Names,
    keys: &[KeyRow],
) -> Result<(), sqlx::Error> {
    for of_lane in keys.chunk_by(|one, next| one.lane == next.lane) {
        let mut query = QueryBuilder::new(statement(names, RELEASE).as_str());
        query.push_bind(of_lane[0].lane).push(" and key_digest in (");
        push_list(&mut query, of_lane.iter().map(|key| key.key_digest));
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// An event that was replayed and parked again is there more than once.
async fn discard(
    connection: &mut MySqlConnection,
    names: &Names,
    id: Uuid,
    insist: bool,
) -> Result<Discard, StoreError> {
    let numbers =
        sqlx::query_scalar(statement(names, "select seq from {parked} where id = ? order by seq"));
    let numbers: Vec<i64> = numbers.bind(id).fetch_all(&mut *connection).await?;
    let mut discard = Discard::NotParked;
    for seq in numbers {
        let found: Option<ToDiscard> = sqlx::query_as(statement(names, TO_DISCARD))
            .bind(seq)
            .fetch_optional(&mut *connection)
            .await?;
        // A relay has delivered it at this moment.
        let Some(ToDiscard { lane, key_digest }) = found else { continue };
        if discard == Discard::NotParked && !insist {
            let head = sqlx::query_scalar(statement(names, HEAD));
            let head = head.bind(lane).bind(key_digest).bind(seq);
            if let Some(head) = head.fetch_optional(&mut *connection).await? {
                return Ok(Discard::Waits(head));
            }
        }
        let remember = sqlx::query(statement(names, REMEMBER));
        remember.bind(seq).execute(&mut *connection).await?;
        // Also without a retention: until the next time that space is reclaimed, as elsewhere.
        retain(connection, names, &[seq]).await?;
        let forget = sqlx::query(statement(names, "delete from {parked} where seq = ?"));
        forget.bind(seq).execute(&mut *connection).await?;
        let release = sqlx::query(statement(names, RELEASE_IF_EMPTY));
        let release = release.bind(lane).bind(key_digest).bind(lane).bind(key_digest);
        release.execute(&mut *connection).await?;
        discard = Discard::Done;
    }
    Ok(discard)
}

fn unpaused(names: &Names, text: &str) -> sqlx::SqlStr {
    statement(names, &text.replace("{unpaused}", UNPAUSED))
}

/// What is selected of a row `e`, and what it is grouped by. An event without a key is grouped with
/// the others that have none, though its digest is its own.
fn columns(by: ParkedGrouping) -> (&'static str, &'static str) {
    match by {
        ParkedGrouping::Topic => ("e.topic, null as `key`, null as reason", "e.topic"),
        ParkedGrouping::Reason => ("null as topic, null as `key`, e.reason", "e.reason"),
        ParkedGrouping::Key => (
            "e.topic, min(e.event_key) as `key`, null as reason",
            "e.topic, case when e.event_key is not null then e.key_digest end",
        ),
    }
}

/// The conditions on rows `e` that a filter means.
fn push_matches(query: &mut QueryBuilder<MySql>, filter: &ParkedFilter) {
    if let Some(ids) = &filter.ids {
        // One parameter, however many there are.
        let ids: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
        query.push(" and e.id in (select unhex(x.id) from json_table(");
        query.push_bind(serde_json::to_string(&ids).unwrap_or_default());
        query.push(", '$[*]' columns (id char(32) path '$')) x)");
    }
    if let Some(topic) = &filter.topic {
        query.push(" and e.topic = ").push_bind(&**topic);
    }
    if let Some(key) = &filter.key {
        query.push(" and e.event_key = ").push_bind(&**key);
    }
    if let Some(name) = &filter.name {
        query.push(" and e.name = ").push_bind(&**name);
    }
    if let Some(reason) = filter.reason_like() {
        query.push(" and lower(e.reason) like lower(").push_bind(reason);
        // A backslash, also where it has no meaning of its own in a literal.
        query.push(") escape _utf8mb4 x'5c'");
    }
    if let Some(lane) = filter.lane() {
        query.push(" and e.lane = ").push_bind(lane);
    }
}

/// Most rows that one statement names.
const AT_ONCE: usize = 500;
