//! Parked events: copies, written in one transaction with the deletion of the events themselves.

use sqlx::{MySql, MySqlConnection, QueryBuilder};
use uuid::Uuid;

use crate::record::{KeyDigest, Lane};
use crate::store::error::StoreError;
use crate::store::headers;
use crate::store::lanes::KnownParked;
use crate::store::mysql::clock::unix_micros;
use crate::store::mysql::lists::{json, push_list};
use crate::store::mysql::statement;
use crate::store::names::Names;
use crate::store::parked::{MOST_KNOWN, Parking, keys_of};

/// Not `insert ignore`, which would also cut off what is too long.
const PARK: &str = "\
insert into {parked} (seq, lane, key_digest, id, topic, event_key, name, version, content_type, headers, payload, occurred_at,
                      kafka_partition, bytes, reason, attempts, since) ";

/// For an event that cannot be read, the row is kept as it is. The caller deletes it afterwards.
const KEEP_UNREADABLE: &str = "\
update {parked} p join {event} e on e.lane = p.lane and e.seq = p.seq
set p.id = e.id, p.topic = e.topic, p.event_key = e.event_key, p.name = e.name, p.version = e.version,
    p.content_type = e.content_type, p.headers = e.headers, p.payload = e.payload, p.occurred_at = e.occurred_at,
    p.kafka_partition = e.kafka_partition
where p.seq = ?";

const PARK_KEYS: &str = "insert into {parked_key} (lane, key_digest, topic, since, released) ";

const RETAIN: &str = "\
insert into {sent} (seq, lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at,
                    kafka_partition, sent_at)
select e.seq, e.lane, e.id, e.topic, e.event_key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition, {now}
from json_table(?, '$[*]' columns (s bigint path '$')) x straight_join {parked} e force index (primary) on e.seq = x.s
on duplicate key update seq = values(seq)";

/// Most rows that one statement names or inserts.
pub(super) const AT_ONCE: usize = 500;
/// Most bytes of events that one statement inserts; of one event, in any case.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// Which keys of the lane have parked events.
pub(super) async fn keys(
    connection: &mut MySqlConnection,
    names: &Names,
    lane: Lane,
) -> Result<KnownParked, sqlx::Error> {
    let select = "select key_digest from {parked_key} where lane = ? limit ?";
    let keys: Vec<Uuid> = sqlx::query_scalar(statement(names, select))
        .bind(lane.number())
        .bind(MOST_KNOWN + 1)
        .fetch_all(connection)
        .await?;
    Ok((keys.len() <= MOST_KNOWN as usize).then(|| keys.into_iter().map(KeyDigest).collect()))
}

/// In the transaction that then deletes these events.
pub(super) async fn park(
    connection: &mut MySqlConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), sqlx::Error> {
    let mut rest = parked;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fit_at_once(rest));
        insert(connection, names, now).await?;
        rest = later;
    }
    for parking in parked.iter().filter(|parking| parking.event.unreadable.is_some()) {
        let keep = sqlx::query(statement(names, KEEP_UNREADABLE));
        keep.bind(parking.event.seq).execute(&mut *connection).await?;
    }
    for keys in keys_of(parked).chunks(AT_ONCE) {
        let now = statement(names, "{now}");
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new(statement(names, PARK_KEYS).as_str());
        query.push_values(keys, |mut row, key| {
            row.push_bind(key.lane.number())
                .push_bind(key.digest.0)
                .push_bind(key.topic)
                .push(now.as_str())
                .push_bind(key.released);
        });
        query.push(" on duplicate key update released = greatest(released, values(released))");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// How many of the first ones one statement inserts.
fn fit_at_once(parked: &[Parking]) -> usize {
    let mut bytes = 0;
    let fit = parked.iter().take(AT_ONCE).take_while(|parking| {
        bytes += parking.event.record.bytes();
        bytes <= BYTES_AT_ONCE
    });
    fit.count().max(1)
}

async fn insert(
    connection: &mut MySqlConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), sqlx::Error> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let now = statement(names, "{now}");
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(statement(names, PARK).as_str());
    query.push_values(parked, |mut row, parking| {
        let (event, record) = (&parking.event, &parking.event.record);
        row.push_bind(event.seq)
            .push_bind(event.lane.number())
            .push_bind(parking.key_digest().0)
            .push_bind(record.id)
            .push_bind(record.topic.as_ref())
            .push_bind(record.key.as_deref())
            .push_bind(record.name.as_ref())
            .push_bind(int(record.version))
            .push_bind(record.content_type.as_ref())
            .push_bind(headers::to_json(&record.headers).into_bytes())
            .push_bind(record.payload.as_deref())
            .push_bind(unix_micros(record.occurred_at))
            .push_bind(record.partition)
            .push_bind(parking.bytes())
            .push_bind(parking.reason())
            .push_bind(int(parking.attempts))
            .push(now.as_str());
    });
    query.push(" on duplicate key update seq = values(seq)");
    query.build().persistent(false).execute(connection).await?;
    Ok(())
}

/// Keeps copies of parked events that are about to be deleted, because they are delivered or given
/// up.
pub(in crate::store::mysql) async fn retain(
    connection: &mut MySqlConnection,
    names: &Names,
    numbers: &[i64],
) -> Result<(), sqlx::Error> {
    sqlx::query(statement(names, RETAIN)).bind(json(numbers)).execute(connection).await?;
    Ok(())
}

pub(super) async fn keys_among(
    connection: &mut MySqlConnection,
    names: &Names,
    lane: Lane,
    keys: &[KeyDigest],
) -> Result<Option<Vec<KeyDigest>>, StoreError> {
    let any = "select 1 from {parked_key} where lane = ? limit 1";
    let any: Option<i64> = sqlx::query_scalar(statement(names, any))
        .bind(lane.number())
        .fetch_optional(&mut *connection)
        .await?;
    if any.is_none() {
        return Ok(None);
    }
    let mut parked = Vec::new();
    for some in keys.chunks(AT_ONCE) {
        let select = "select key_digest from {parked_key} force index (primary) where lane = ";
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(statement(names, select).as_str());
        query.push_bind(lane.number()).push(" and key_digest in (");
        push_list(&mut query, some.iter().map(|key| key.0));
        let found = query.build_query_scalar().persistent(false);
        let found: Vec<Uuid> = found.fetch_all(&mut *connection).await?;
        parked.extend(found.into_iter().map(KeyDigest));
    }
    Ok(Some(parked))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use outbox_event::Headers;

    use super::*;
    use crate::record::{EventRecord, StoredEvent};

    fn parking(bytes: usize) -> Parking {
        let record = EventRecord {
            id: Uuid::nil(),
            topic: "t".into(),
            key: None,
            name: "n".into(),
            version: 1,
            content_type: "c".into(),
            headers: Headers::new(),
            payload: Some(vec![0; bytes]),
            partition: None,
            occurred_at: SystemTime::UNIX_EPOCH,
        };
        let lane = Lane::of(None, record.id);
        let event = StoredEvent { lane, seq: 1, record, unreadable: None };
        Parking { event, reason: None, attempts: 0, released: false }
    }

    #[test]
    fn what_one_statement_parks_is_bounded_in_rows_and_bytes_and_is_one_event_at_least() {
        let of = |bytes: usize, count| fit_at_once(&vec![parking(bytes); count]);
        assert_eq!(of(0, 10), 10);
        assert_eq!(of(0, 2_000), AT_ONCE);
        assert_eq!(of(1 << 20, 10), 3, "with their names, four are more than four mebibytes");
        assert_eq!(of(5 << 20, 2), 1);
    }
}
