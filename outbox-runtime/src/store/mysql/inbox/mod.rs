//! The inbox.
//!
//! Its statements are its own: MySQL has no `on conflict` and no `returning`. What several events
//! need is one statement in plain text, with its values in hexadecimal: prepared, it would be
//! another statement for each number of them.

mod forget;
mod handled;
mod lock;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{MySql, MySqlConnection, Row as _};
use uuid::Uuid;

use lock::lock;

use super::clock::micros;
use super::{flush, statement};
use crate::check::from_unix_micros;
use crate::store::error::StoreError;
use crate::store::inbox::{InboxStats, WaitingKeys, WaitingKeysRow};
use crate::store::row::row;
use crate::store::sealed::Inbox;
use crate::store::{GroupKey, Names, QueueHead, QueuePosition, QueuedEvent, StoredMessage};

/// Most rows that one statement names.
const AT_ONCE: usize = 500;

const DELETE: &str = "delete from {inbox} where consumer_group = ? and event_id = ?";

/// An event that is kept here stays so until its copy is in the retry topic: it is nowhere else.
const ENQUEUE_FAILED: &str = "\
insert into {key_queue}
  (consumer_group, topic, key_digest, event_id, event_key, source_partition, source_offset, state, since)
values (?, ?, ?, ?, ?, ?, ?, 'failed', {now})
on duplicate key update place = place";
/// Changes nothing if the copy in the retry topic is settled already: a new row would stay for
/// ever.
const MARK_SENT: &str = "\
update {key_queue} set state = 'sent', headers = null, payload = null, since = {now}
where consumer_group = ? and topic = ? and key_digest = ? and event_id = ?";
const ENQUEUE_BEHIND: &str = "\
insert into {key_queue}
  (consumer_group, topic, key_digest, event_id, event_key, source_partition, source_offset, state, since, headers, payload)
values (?, ?, ?, ?, ?, ?, ?, 'kept', {now}, ?, ?)
on duplicate key update state = 'kept', headers = values(headers), payload = values(payload)";

const PLACE: &str = "\
select place from {key_queue}
where consumer_group = ? and topic = ? and key_digest = ? and event_id = ?";
/// Of an event, and whether its key has any.
const PLACE_AND_ANY: &str = "\
select (
  select place from {key_queue} where consumer_group = ? and topic = ? and key_digest = ? and event_id = ?
) as place, exists (
  select 1 from {key_queue} where consumer_group = ? and topic = ? and key_digest = ?) as is_any";
const LOCK_PLACE: &str = "\
select place, state from {key_queue}
where consumer_group = ? and topic = ? and key_digest = ? and event_id = ? for update";
const DEQUEUE: &str = "delete from {key_queue} where place = ?";
/// By the index that has the order, like all that follows: to sort a long queue for each of its
/// events would take time that grows with its square.
const NEIGHBOURS: &str = "\
select exists (
  select 1 from {key_queue} force index (key_queue_place)
  where consumer_group = ? and topic = ? and key_digest = ? and place < ?
) as earlier, exists (
  select 1 from {key_queue} force index (key_queue_place)
  where consumer_group = ? and topic = ? and key_digest = ? and place > ?
) as later";
const QUEUE_HEAD: &str = "\
select event_id, source_partition, source_offset, state, headers, payload
from {key_queue} force index (key_queue_place) where consumer_group = ? and topic = ? and key_digest = ?
order by place limit 1";

/// Keys whose queues begin with an event that is kept here, and has been for a minute: no task may
/// be left that drains them.
const STRANDED: &str = "\
select topic, event_key from {key_queue} w
where consumer_group = ? and state = 'kept' and since < {now} - 60000000
  and not exists (
    select 1 from {key_queue} e force index (key_queue_place)
    where e.consumer_group = w.consumer_group and e.topic = w.topic and e.key_digest = w.key_digest
      and e.place < w.place)
limit 100";

/// The groups are found by one search each, however many events they have handled: a loose scan of
/// the index.
const GROUPS: &str = "\
select convert(g.consumer_group using utf8mb4) as consumer_group, g.oldest as oldest_micros,
       g.latest as latest_micros
from (
  select consumer_group, min(handled_at) as oldest, max(handled_at) as latest
  from {inbox} force index (inbox_handled_at) group by consumer_group) g
order by g.consumer_group";
const HANDLED: &str = "\
select count(*) as counted from (
  select event_id from {inbox} force index (inbox_handled_at) where consumer_group = ? limit ?) counted";
const HANDLED_BEFORE: &str = "\
select count(*) as counted from (
  select event_id from {inbox} force index (inbox_handled_at)
  where consumer_group = ? and handled_at < {now} - ? limit ?) counted";
const WAITING_KEYS: &str = "\
select convert(w.consumer_group using utf8mb4) as consumer_group, w.topic, w.number as `keys`, w.kept,
       w.oldest as since_micros
from (
  select consumer_group, topic, count(distinct key_digest) as number,
         cast(sum(state = 'kept') as signed) as kept, min(since) as oldest
  from {key_queue} group by consumer_group, topic) w
order by w.consumer_group, w.topic";

row! {
    struct GroupRow {
        consumer_group: String,
        oldest_micros: i64,
        latest_micros: i64,
    }
}

impl Inbox for MySql {
    const SHOWS_BEFORE_DISK: bool = true;

    async fn flush(connection: &mut MySqlConnection, names: &Names) -> Result<(), StoreError> {
        flush::flush(connection, names).await
    }

    async fn insert_inbox(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> Result<bool, StoreError> {
        handled::insert(connection, names, group, event_id).await
    }

    /// In the order of the ids: two transactions with the same events wait for each other in one
    /// direction only.
    async fn insert_inbox_all(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
        event_ids: &[Uuid],
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut event_ids = event_ids.to_vec();
        event_ids.sort_unstable();
        let mut new = Vec::new();
        for chunk in event_ids.chunks(AT_ONCE) {
            new.extend(handled::insert_all(connection, names, group, chunk.to_vec()).await?);
        }
        Ok(new)
    }

    async fn any_queued(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
        topic: &str,
        keys: &[Uuid],
    ) -> Result<bool, StoreError> {
        let (group, topic) = (hex(group.as_bytes()), hex(topic.as_bytes()));
        for keys in keys.chunks(AT_ONCE) {
            let any = statement(
                names,
                &format!(
                    "select exists (select 1 from {{key_queue}} where consumer_group = {group} \
                     and topic = _utf8mb4 {topic} and key_digest in ({})) as is_any",
                    list(keys, |key| hex(key.as_bytes()))
                ),
            );
            if sqlx::raw_sql(any).fetch_one(&mut *connection).await?.try_get("is_any")? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn forget_inbox(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
        retention: Duration,
        most: u32,
    ) -> Result<u64, StoreError> {
        forget::queued(connection, names, group, retention).await?;
        forget::handled(connection, names, group, retention, most).await
    }

    /// The row of the inbox, which is there until the commit, makes other transactions wait.
    async fn enqueue_failed(
        connection: &mut MySqlConnection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> Result<bool, StoreError> {
        if !handled::insert(connection, names, event.of.group, event.event_id).await? {
            return Ok(false);
        }
        let insert = of_event(ENQUEUE_FAILED, names, event);
        let insert = insert.bind(event.of.key).bind(event.partition).bind(event.offset);
        insert.execute(&mut *connection).await?;
        let delete = sqlx::query(statement(names, DELETE));
        delete.bind(event.of.group).bind(event.event_id).execute(connection).await?;
        Ok(true)
    }

    async fn mark_sent(
        connection: &mut MySqlConnection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> Result<(), StoreError> {
        of_event(MARK_SENT, names, event).execute(connection).await?;
        Ok(())
    }

    /// The key is locked before the row, as by [`enqueue_behind`](Inbox::enqueue_behind): in the
    /// other order, the two would wait for each other.
    async fn dequeue(
        connection: &mut MySqlConnection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> Result<QueuePosition, StoreError> {
        let QueuedEvent { of, .. } = *event;
        let own = of_event(PLACE_AND_ANY, names, event);
        let own = own.bind(of.group).bind(of.topic).bind(of.digest());
        let own = own.fetch_one(&mut *connection).await?;
        if own.try_get::<Option<i64>, _>("place")?.is_none() {
            return Ok(not_queued(own.try_get("is_any")?));
        }
        // From here on, the result stays true until the transaction ends.
        lock(connection, names, &of).await?;
        let own = of_event(LOCK_PLACE, names, event).fetch_optional(&mut *connection).await?;
        let Some(own) = own else {
            // Another transaction has settled it meanwhile.
            let (any, _) = neighbours(connection, names, &of, i64::MAX).await?;
            return Ok(not_queued(any));
        };
        let (place, state): (i64, String) = (own.try_get("place")?, own.try_get("state")?);
        let delete = sqlx::query(statement(names, DEQUEUE)).bind(place);
        delete.execute(&mut *connection).await?;
        let (earlier, later) = neighbours(connection, names, &of, place).await?;
        Ok(QueuePosition { queued: true, in_retry_topic: state == "sent", earlier, later })
    }

    async fn enqueue_behind(
        connection: &mut MySqlConnection,
        names: &Names,
        event: &QueuedEvent<'_>,
        message: &StoredMessage,
    ) -> Result<bool, StoreError> {
        lock(connection, names, &event.of).await?;
        let own = of_event(PLACE, names, event).fetch_optional(&mut *connection).await?;
        let place = own.map_or(Ok(i64::MAX), |own| own.try_get("place"))?;
        let (earlier, _) = neighbours(connection, names, &event.of, place).await?;
        if earlier {
            let insert = of_event(ENQUEUE_BEHIND, names, event);
            let insert = insert.bind(event.of.key).bind(event.partition).bind(event.offset);
            let insert = insert.bind(&*message.headers).bind(message.payload.as_deref());
            insert.execute(connection).await?;
        }
        Ok(earlier)
    }

    async fn stranded_keys(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let stranded = sqlx::query(statement(names, STRANDED)).bind(group);
        let rows = stranded.fetch_all(connection).await?;
        rows.iter().map(|row| Ok((row.try_get("topic")?, row.try_get("event_key")?))).collect()
    }

    async fn inbox_stats(
        connection: &mut MySqlConnection,
        names: &Names,
    ) -> Result<Vec<InboxStats>, StoreError> {
        let groups = sqlx::query_as(statement(names, GROUPS)).persistent(false);
        let groups: Vec<GroupRow> = groups.fetch_all(&mut *connection).await?;
        let mut stats = Vec::new();
        for GroupRow { consumer_group: group, oldest_micros, latest_micros } in groups {
            // A derived table cannot name a column of the query around it.
            let handled = sqlx::query_scalar(statement(names, HANDLED)).persistent(false);
            let handled = handled.bind(&group).bind(InboxStats::COUNTED.cast_signed());
            let handled: i64 = handled.fetch_one(&mut *connection).await?;
            stats.push(InboxStats {
                group,
                handled: handled.unsigned_abs(),
                oldest: from_unix_micros(oldest_micros).unwrap_or(UNIX_EPOCH),
                latest: from_unix_micros(latest_micros).unwrap_or(UNIX_EPOCH),
            });
        }
        Ok(stats)
    }

    async fn waiting_keys(
        connection: &mut MySqlConnection,
        names: &Names,
    ) -> Result<Vec<WaitingKeys>, StoreError> {
        let waiting = sqlx::query_as(statement(names, WAITING_KEYS)).persistent(false);
        let rows: Vec<WaitingKeysRow> = waiting.fetch_all(connection).await?;
        Ok(rows.into_iter().map(WaitingKeys::from).collect())
    }

    async fn handled_before(
        connection: &mut MySqlConnection,
        names: &Names,
        group: &str,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar(statement(names, HANDLED_BEFORE)).persistent(false);
        let count = count.bind(group).bind(micros(retention));
        let count: i64 =
            count.bind(InboxStats::COUNTED.cast_signed()).fetch_one(connection).await?;
        Ok(count.unsigned_abs())
    }

    async fn queue_head(
        connection: &mut MySqlConnection,
        names: &Names,
        of: &GroupKey<'_>,
    ) -> Result<Option<QueueHead>, StoreError> {
        let first = sqlx::query(statement(names, QUEUE_HEAD));
        let first = first.bind(of.group).bind(of.topic).bind(of.digest());
        let Some(row) = first.fetch_optional(connection).await? else { return Ok(None) };
        let message = match row.try_get("state")? {
            "kept" => Some(StoredMessage {
                headers: row.try_get("headers")?,
                payload: row.try_get("payload")?,
            }),
            _ => None,
        };
        Ok(Some(QueueHead {
            event_id: row.try_get("event_id")?,
            partition: row.try_get("source_partition")?,
            offset: row.try_get("source_offset")?,
            message,
        }))
    }
}

fn not_queued(any: bool) -> QueuePosition {
    QueuePosition { queued: false, in_retry_topic: false, earlier: any, later: any }
}

/// Whether events of the key are queued before the place, and behind it.
async fn neighbours(
    connection: &mut MySqlConnection,
    names: &Names,
    of: &GroupKey<'_>,
    place: i64,
) -> Result<(bool, bool), StoreError> {
    let others = sqlx::query(statement(names, NEIGHBOURS));
    let others = others.bind(of.group).bind(of.topic).bind(of.digest()).bind(place);
    let others = others.bind(of.group).bind(of.topic).bind(of.digest()).bind(place);
    let others = others.fetch_one(connection).await?;
    Ok((others.try_get("earlier")?, others.try_get("later")?))
}

/// A statement that begins with the place of an event in its queue.
fn of_event<'q>(
    text: &str,
    names: &Names,
    event: &QueuedEvent<'q>,
) -> Query<'q, MySql, MySqlArguments> {
    let QueuedEvent { of, event_id, .. } = *event;
    let query = sqlx::query(statement(names, text));
    query.bind(of.group).bind(of.topic).bind(of.digest()).bind(event_id)
}

fn list<T>(values: &[T], text: impl Fn(&T) -> String) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A literal that needs no escaping, whatever `sql_mode` is.
fn hex(bytes: &[u8]) -> String {
    let mut literal = "x'".to_owned();
    for byte in bytes {
        _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}
