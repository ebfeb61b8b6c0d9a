//! Retained events are inserted again. The table of events numbers them: in the order in which they
//! are inserted, one at a time. (`insert … select` would draw their numbers in advance, and have
//! other transactions wait.)

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{MySql, MySqlConnection, MySqlPool, QueryBuilder};
use tokio::time::Instant;
use uuid::Uuid;

use super::clock::unix_micros;
use super::lists::push_list;
use super::{connection, statement};
use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;
use crate::store::admin::Replay;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::parked::page;
use crate::store::row::row;

/// Most events of which one statement is.
const AT_ONCE: usize = 500;
/// Longest time that a replay takes, in one transaction.
const WITHIN: Duration = Duration::from_secs(600);

/// What a filter means of the rows `e`, which are retained.
const RETAINED: &str = "\
select e.lane, e.seq from {sent} e where not exists (select 1 from {parked} p where p.id = e.id) and e.seq <= ";

const NOT_DISCARDED: &str = " and not exists (select 1 from {discarded} d where d.id = e.id)";

/// If an event is retained several times, because it was replayed before, the first copy.
const NO_EARLIER_COPY: &str = " \
and not exists (select 1 from {sent} s where s.id = e.id and s.seq < e.seq and s.seq > ";

const SIZES: &str = "\
select e.seq, cast(coalesce(length(e.payload), 0) + coalesce(length(e.event_key), 0) + length(e.headers) as signed) as bytes
from {sent} e where not exists (select 1 from {parked} p where p.id = e.id) and e.seq in (";

const CONTENTS: &str = "\
select seq, lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at, kafka_partition
from {sent} where seq in (";

const INSERT: &str = "\
insert into {event} (lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at, kafka_partition)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

row! {
    struct PlaceRow {
        lane: i16,
        seq: i64,
    }

    struct SizeRow {
        seq: i64,
        bytes: i64,
    }

    /// A retained event, as it is: also one that no relay can read.
    struct SentRow {
        lane: i16,
        id: Uuid,
        topic: String,
        event_key: Option<Vec<u8>>,
        name: String,
        version: i32,
        content_type: String,
        headers: Vec<u8>,
        payload: Option<Vec<u8>>,
        occurred_at: i64,
        kafka_partition: Option<i32>,
    }
}

pub(super) async fn replay(
    pool: &MySqlPool,
    names: &Names,
    which: &Replay,
) -> Result<u64, StoreError> {
    let until = Instant::now() + WITHIN;
    let mut tx = connection::begin(pool).await?;
    let last = last_retained(&mut tx, names).await?;
    let mut replayed = 0;
    if let Some(ids) = &which.ids {
        let rows = of_ids(&mut tx, names, which, ids, last).await?;
        for rows in rows.chunks(AT_ONCE) {
            replayed += copy(&mut tx, names, rows).await?;
            ensure_in_time(until)?;
        }
    } else {
        let mut after = which.after;
        loop {
            let rows = next(&mut tx, names, which, None, (after, last), AT_ONCE).await?;
            replayed += copy(&mut tx, names, &rows).await?;
            ensure_in_time(until)?;
            match rows.last() {
                Some((_, seq)) if rows.len() >= AT_ONCE => after = *seq,
                _ => break,
            }
        }
    }
    tx.commit().await?;
    Ok(replayed)
}

/// Each statement is short, and the transaction must be, too: what it has inserted is locked.
fn ensure_in_time(until: Instant) -> Result<(), OutboxError> {
    if Instant::now() <= until {
        return Ok(());
    }
    Err(OutboxError::new(
        ErrorKind::Database,
        format!(
            "the replay took longer than {WITHIN:?} and was rolled back: nothing is published again. Narrow it down by topic, \
             key, name or time, or replay a part at a time (`outbox.plan_replay(…)`)"
        ),
    ))
}

/// The rows that a replay would insert again, by their numbers.
pub(super) async fn to_replay(
    pool: &MySqlPool,
    names: &Names,
    which: &Replay,
    limit: u32,
) -> Result<Vec<(Lane, i64)>, StoreError> {
    let limit = limit as usize;
    let mut tx = connection::begin_reading(pool).await?;
    let last = last_retained(&mut tx, names).await?;
    let mut rows = match &which.ids {
        Some(ids) => of_ids(&mut tx, names, which, ids, last).await?,
        None => next(&mut tx, names, which, None, (which.after, last), limit).await?,
    };
    tx.rollback().await?;
    rows.truncate(limit);
    Ok(rows)
}

pub(super) async fn replay_rows(
    pool: &MySqlPool,
    names: &Names,
    rows: &[(Lane, i64)],
) -> Result<u64, StoreError> {
    let mut tx = connection::begin(pool).await?;
    let mut replayed = 0;
    for rows in rows.chunks(AT_ONCE) {
        replayed += copy(&mut tx, names, rows).await?;
    }
    tx.commit().await?;
    Ok(replayed)
}

/// What is published meanwhile is not replayed: it would have no end.
async fn last_retained(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<i64, sqlx::Error> {
    let last = sqlx::query_scalar(statement(names, "select max(seq) from {sent}"));
    let last: Option<i64> = last.fetch_one(connection).await?;
    Ok(last.unwrap_or(0))
}

async fn of_ids(
    connection: &mut MySqlConnection,
    names: &Names,
    which: &Replay,
    ids: &[Uuid],
    last: i64,
) -> Result<Vec<(Lane, i64)>, StoreError> {
    let mut rows = BTreeMap::new();
    for ids in ids.chunks(AT_ONCE) {
        // Each once: at most one row of each.
        let bounds = (which.after, last);
        let found = next(connection, names, which, Some(ids), bounds, AT_ONCE).await?;
        rows.extend(found.into_iter().map(|(lane, seq)| (seq, lane)));
    }
    Ok(rows.into_iter().map(|(seq, lane)| (lane, seq)).collect())
}

/// The next rows with numbers above `after`, up to `last`.
async fn next(
    connection: &mut MySqlConnection,
    names: &Names,
    which: &Replay,
    ids: Option<&[Uuid]>,
    (after, last): (i64, i64),
    most: usize,
) -> Result<Vec<(Lane, i64)>, StoreError> {
    let mut query = QueryBuilder::new(statement(names, RETAINED).as_str());
    query.push_bind(last).push(" and e.seq > ").push_bind(after);
    push_matches(&mut query, "e", which);
    match ids {
        None => _ = query.push(statement(names, NOT_DISCARDED).as_str()),
        Some(ids) => {
            query.push(" and e.id in (");
            push_list(&mut query, ids.iter().copied());
        }
    }
    query.push(statement(names, NO_EARLIER_COPY).as_str()).push_bind(which.after);
    push_matches(&mut query, "s", which);
    query.push(") order by e.seq limit ").push_bind(most as u64);
    let rows: Vec<PlaceRow> =
        query.build_query_as().persistent(false).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (Lane::from_number(row.lane), row.seq)).collect())
}

/// The conditions on the rows of an alias, without those on ids and numbers.
fn push_matches(query: &mut QueryBuilder<MySql>, alias: &str, which: &Replay) {
    let and = |column: &str| format!(" and {alias}.{column} ");
    if let Some(topic) = &which.topic {
        query.push(and("topic =")).push_bind(&**topic);
    }
    if let Some(from) = which.from {
        query.push(and("occurred_at >=")).push_bind(unix_micros(from));
    }
    if let Some(until) = which.until {
        query.push(and("occurred_at <")).push_bind(unix_micros(until));
    }
    if let Some(key) = &which.key {
        query.push(and("event_key =")).push_bind(&**key);
    }
    if let Some(lane) = which.lane() {
        query.push(and("lane =")).push_bind(lane);
    }
    if let Some(name) = &which.name {
        query.push(and("name =")).push_bind(&**name);
    }
}

/// Returns how many of the rows were copied: the others are parked or gone.
async fn copy(
    connection: &mut MySqlConnection,
    names: &Names,
    rows: &[(Lane, i64)],
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let numbers = rows.iter().map(|(_, seq)| *seq);
    let mut query = of_numbers(names, SIZES, numbers);
    let sizes: Vec<SizeRow> =
        query.build_query_as().persistent(false).fetch_all(&mut *connection).await?;
    let (mut rest, mut copied) = (&sizes[..], 0);
    while !rest.is_empty() {
        let (some, later) = rest.split_at(page(rest.iter().map(|row| row.bytes.unsigned_abs())));
        copied += copy_some(connection, names, some).await?;
        rest = later;
    }
    Ok(copied)
}

/// Copies rows whose contents fit into memory.
async fn copy_some(
    connection: &mut MySqlConnection,
    names: &Names,
    rows: &[SizeRow],
) -> Result<u64, StoreError> {
    let mut query = of_numbers(names, CONTENTS, rows.iter().map(|row| row.seq));
    let rows: Vec<SentRow> =
        query.build_query_as().persistent(false).fetch_all(&mut *connection).await?;
    let copied = rows.len() as u64;
    take_back(connection, names, &rows).await?;
    for row in rows {
        sqlx::query(statement(names, INSERT))
            .bind(row.lane)
            .bind(row.id)
            .bind(row.topic)
            .bind(row.event_key)
            .bind(row.name)
            .bind(row.version)
            .bind(row.content_type)
            .bind(marked(row.headers))
            .bind(row.payload)
            .bind(row.occurred_at)
            .bind(row.kafka_partition)
            .execute(&mut *connection)
            .await?;
    }
    Ok(copied)
}

/// A discarded event that is replayed is not given up any more. Usually there is none, and nothing
/// is locked.
async fn take_back(
    connection: &mut MySqlConnection,
    names: &Names,
    rows: &[SentRow],
) -> Result<(), sqlx::Error> {
    let select = statement(names, "select seq from {discarded} where id in (");
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(select.as_str());
    push_list(&mut query, rows.iter().map(|row| row.id));
    let numbers = query.build_query_scalar().persistent(false);
    let numbers: Vec<i64> = numbers.fetch_all(&mut *connection).await?;
    for seq in numbers {
        let delete = sqlx::query(statement(names, "delete from {discarded} where seq = ?"));
        delete.bind(seq).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A statement that ends with a list of numbers, in their order.
fn of_numbers(
    names: &Names,
    select: &str,
    numbers: impl Iterator<Item = i64>,
) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(statement(names, select).as_str());
    push_list(&mut query, numbers);
    query.push(" order by seq");
    query
}

/// The copy is marked by a header, once: consumers then know that it does not come for the first
/// time. Headers that are no object of JSON stay as they are.
fn marked(headers: Vec<u8>) -> Vec<u8> {
    const MARK: &[u8] = br#"{"outbox-replayed":"1""#;
    const MARKED: &[u8] = br#"{"outbox-replayed""#;
    if headers.starts_with(MARKED) {
        return headers;
    }
    if headers == b"{}" {
        return [MARK, b"}"].concat();
    }
    match headers.strip_prefix(b"{") {
        Some(others) if others.starts_with(b"\"") => [MARK, b",", others].concat(),
        _ => headers,
    }
}

#[cfg(test)]
mod tests {
    use crate::record::REPLAYED;
    use crate::store::headers::from_json;

    fn marked(headers: &str) -> String {
        String::from_utf8(super::marked(headers.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_copy_is_marked_once_and_keeps_the_other_headers_in_their_order() {
        assert_eq!(marked("{}"), r#"{"outbox-replayed":"1"}"#);
        let twice = marked(&marked(r#"{"b":"2","a":"1"}"#));
        assert_eq!(twice, r#"{"outbox-replayed":"1","b":"2","a":"1"}"#);
        let read = from_json(&twice).unwrap();
        assert_eq!((read.get(REPLAYED), read.get("b")), (Some("1"), Some("2")));
    }

    #[test]
    fn headers_that_were_written_by_hand_stay_as_they_are() {
        for odd in ["", "[]", "{ }", "null"] {
            assert_eq!(marked(odd), odd);
        }
    }
}
