//! Parked events: copies, written in one transaction with the cursor that passes over them.

use sqlx::{QueryBuilder, SqlStr, Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::record::{KeyDigest, Lane};
use crate::store::error::StoreError;
use crate::store::headers;
use crate::store::lanes::{KnownParked, Lease};
use crate::store::names::{Names, sql};
use crate::store::parked::{
    Candidate, CandidateRow, KEYS, MOST_KNOWN, NextEvent, OF_A_KEY, Parking, Released, Retry,
    RetryResult, keys_of, storable, with_events, within,
};
use crate::store::sqlite::clock::{millis, unix_micros, unix_millis};
use crate::store::sqlite::event_row::stored_event;

const PARK: &str = "\
insert into {parked} (seq, lane, key_digest, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                      bytes, reason, attempts, since, kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
on conflict (seq) do nothing";

/// For an event that cannot be read, the row is kept as it is.
const KEEP_UNREADABLE: &str = "\
update {parked}
set (id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition) =
    (select id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition from {event} where seq = $1)
where seq = $1";

const PARK_KEY: &str = "\
insert into {parked_key} (lane, key_digest, topic, since, released) values ($1, $2, $3, $4, $5)
on conflict (lane, key_digest) do update set released = 1 where excluded.released";

/// Whether the topic of a parked key `k` is not paused. What is parked of a paused one is not tried,
/// and does not hold up the others.
const UNPAUSED: &str =
    "not exists (select 1 from {pause} p where p.scope = 'topic' and p.target = k.topic)";

/// The keys that were refused the longest ago. A time in the future comes from a clock that was set
/// back since.
const RELEASE_THE_LONGEST_PARKED: &str = "\
update {parked_key} set released = 1
where lane = $1 and key_digest in (
  select k.key_digest from {parked_key} k
  where k.lane = $1 and k.released = 0 and (k.since <= $2 or k.since > $3) and {unpaused}
  order by k.since limit $4)";

const RELEASED: &str = "\
select $1 as lane, k.key_digest, e.seq, e.bytes
from (
  select k.key_digest, k.since from {parked_key} k where k.lane = $1 and k.released = 1 and {unpaused}
  order by k.since limit $2) k
left join {parked} e on e.lane = $1 and e.key_digest = k.key_digest and e.seq in (
  select seq from {parked} where lane = $1 and key_digest = k.key_digest order by seq limit $3)
order by k.since, k.key_digest, e.seq";

const STILL_OURS: &str = "select 1 from {lane} where lane = $1 and epoch = $2 and owner = $3";

const REFUSED_AGAIN: &str = "\
update {parked} set attempts = attempts + 1, reason = $2, since = $3 where seq = $1";

const TRY_LATER: &str = "\
update {parked_key} set released = 0, since = $3 where lane = $1 and key_digest = $2";

const FORGET_KEY: &str = "\
delete from {parked_key} where lane = $1 and key_digest = $2
and not exists (select 1 from {parked} where lane = $1 and key_digest = $2)";

/// Which keys of the lane have parked events.
pub(in crate::store::sqlite) async fn keys(
    connection: &mut SqliteConnection,
    names: &Names,
    lane: Lane,
) -> Result<KnownParked, sqlx::Error> {
    let keys: Vec<Uuid> = sqlx::query_scalar(sql(
        names.fill("select key_digest from {parked_key} where lane = $1 limit $2")
    ))
    .bind(lane.number())
    .bind(i64::from(MOST_KNOWN) + 1)
    .fetch_all(connection)
    .await?;
    Ok((keys.len() <= MOST_KNOWN as usize).then(|| keys.into_iter().map(KeyDigest).collect()))
}

pub(in crate::store::sqlite) async fn park(
    connection: &mut SqliteConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), sqlx::Error> {
    for parking in parked {
        let (event, record) = (&parking.event, &parking.event.record);
        sqlx::query(sql(names.fill(PARK)))
            .bind(event.seq)
            .bind(event.lane.number())
            .bind(parking.key_digest().0)
            .bind(record.id)
            .bind(record.topic.as_ref())
            .bind(record.key.as_deref())
            .bind(record.name.as_ref())
            .bind(record.version)
            .bind(record.content_type.as_ref())
            .bind(headers::to_json(&record.headers))
            .bind(record.payload.as_deref())
            .bind(unix_micros(record.occurred_at))
            .bind(parking.bytes())
            .bind(parking.reason())
            .bind(parking.attempts)
            .bind(unix_millis())
            .bind(record.partition)
            .execute(&mut *connection)
            .await?;
        if event.unreadable.is_some() {
            sqlx::query(sql(names.fill(KEEP_UNREADABLE)))
                .bind(event.seq)
                .execute(&mut *connection)
                .await?;
        }
    }
    for key in keys_of(parked) {
        sqlx::query(sql(names.fill(PARK_KEY)))
            .bind(key.lane.number())
            .bind(key.digest.0)
            .bind(key.topic)
            .bind(unix_millis())
            .bind(key.released)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn unpaused(names: &Names, statement: &str) -> SqlStr {
    sql(names.fill(&statement.replace("{unpaused}", UNPAUSED)))
}

pub(super) async fn keys_among(
    connection: &mut SqliteConnection,
    names: &Names,
    lane: Lane,
    keys: &[KeyDigest],
) -> Result<Option<Vec<KeyDigest>>, StoreError> {
    let any: Option<i64> =
        sqlx::query_scalar(sql(names.fill("select 1 from {parked_key} where lane = $1 limit 1")))
            .bind(lane.number())
            .fetch_optional(&mut *connection)
            .await?;
    if any.is_none() {
        return Ok(None);
    }
    let mut parked = Vec::new();
    for some in keys.chunks(AT_ONCE) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new(names.fill("select key_digest from {parked_key} where lane = "));
        query.push_bind(lane.number()).push(" and key_digest in (");
        let mut list = query.separated(", ");
        for key in some {
            list.push_bind(key.0);
        }
        list.push_unseparated(")");
        let found: Vec<Uuid> = query.build_query_scalar().fetch_all(&mut *connection).await?;
        parked.extend(found.into_iter().map(KeyDigest));
    }
    Ok(Some(parked))
}

pub(super) async fn released(
    connection: &mut SqliteConnection,
    names: &Names,
    held: &[Lease],
    retry: &Retry,
) -> Result<Vec<Released>, StoreError> {
    let mut candidates = Vec::new();
    for lease in held {
        if retry.keys > 0 {
            let now = unix_millis();
            sqlx::query(unpaused(names, RELEASE_THE_LONGEST_PARKED))
                .bind(lease.lane.number())
                .bind(now - millis(retry.after))
                .bind(now)
                .bind(retry.keys)
                .execute(&mut *connection)
                .await?;
        }
        candidates.extend(self::candidates(connection, names, lease.lane, &retry.except).await?);
    }
    let mut released = Vec::new();
    for (lane, key, seqs) in within(&candidates, retry.bytes) {
        let mut events = Vec::with_capacity(seqs.len());
        for seq in &seqs {
            let row = sqlx::query(sql(names.fill("select * from {parked} where seq = $1")))
                .bind(seq)
                .fetch_optional(&mut *connection)
                .await?;
            events.extend(row.map(|row| stored_event(&row)).transpose()?);
        }
        released.extend(with_events(vec![(lane, key, seqs)], events));
    }
    Ok(released)
}

async fn candidates(
    connection: &mut SqliteConnection,
    names: &Names,
    lane: Lane,
    except: &[KeyDigest],
) -> Result<Vec<Candidate>, StoreError> {
    let rows: Vec<CandidateRow> = sqlx::query_as(unpaused(names, RELEASED))
        .bind(lane.number())
        .bind(KEYS + u32::try_from(except.len()).unwrap_or(u32::MAX / 2))
        .bind(OF_A_KEY)
        .fetch_all(&mut *connection)
        .await?;
    let candidates = rows.into_iter().map(Candidate::from);
    Ok(candidates.filter(|(_, key, _)| !except.contains(key)).collect())
}

/// `None`: the lane is lost.
pub(in crate::store::sqlite) async fn save_retry(
    connection: &mut SqliteConnection,
    names: &Names,
    owner: Uuid,
    lease: Lease,
    result: &RetryResult,
) -> Result<Option<bool>, StoreError> {
    let (lane, key) = (lease.lane.number(), result.key.0);
    let ours: Option<i64> = sqlx::query_scalar(sql(names.fill(STILL_OURS)))
        .bind(lane)
        .bind(lease.epoch)
        .bind(owner)
        .fetch_optional(&mut *connection)
        .await?;
    if ours.is_none() {
        return Ok(None);
    }
    for seq in &result.delivered {
        sqlx::query(sql(names.fill("delete from {parked} where seq = $1")))
            .bind(seq)
            .execute(&mut *connection)
            .await?;
    }
    if let NextEvent::Refused(seq, reason) = &result.next {
        sqlx::query(sql(names.fill(REFUSED_AGAIN)))
            .bind(seq)
            .bind(storable(reason))
            .bind(unix_millis())
            .execute(&mut *connection)
            .await?;
    }
    if !matches!(result.next, NextEvent::Untried) {
        let later = sqlx::query(sql(names.fill(TRY_LATER)));
        later.bind(lane).bind(key).bind(unix_millis()).execute(&mut *connection).await?;
    }
    let forget = sqlx::query(sql(names.fill(FORGET_KEY)));
    let forgotten = forget.bind(lane).bind(key).execute(&mut *connection).await?;
    Ok(Some(forgotten.rows_affected() == 0))
}

/// Most keys in one statement: SQLite has no arrays, and limits the number of parameters.
const AT_ONCE: usize = 500;
