//! Parked events: copies, written in one transaction with the cursor that passes over them.

use sqlx::types::time::OffsetDateTime;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::PgCursor;
use super::chunk::stored_event;
use super::fragments::fill;
use crate::error::OutboxError;
use crate::record::{Lane, StoredEvent};
use crate::store::{Lease, Names, Parking, Retry, Settled};

/// How many parked events are tried again at once.
const AT_ONCE: i64 = 1_000;

const PARK: &str = "\
insert into {parked} (seq, lane, id, topic, key, name, version, content_type, headers, payload, occurred_at, reason,
                      attempts, released, kafka_partition)
select * from unnest($1::bigint[], $2::smallint[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::integer[],
                     $8::text[], $9::text[]::json[], $10::bytea[], $11::timestamptz[], $12::text[], $13::integer[],
                     $14::boolean[], $15::integer[])
on conflict (seq) do nothing";

/// Of an event that cannot be read, the row is kept as it is.
const KEEP_UNREADABLE: &str = "\
update {parked} p set headers = e.headers, version = e.version, occurred_at = e.occurred_at
from {event} e
where e.lane = p.lane and e.seq = p.seq and p.seq = any ($1)";

/// Keys in the order of their longest parked event; an event without one is on its own.
const RELEASE_THE_LONGEST_PARKED: &str = "\
update {parked} p set released = true
from (
  select distinct lane, key, case when key is null then seq end as seq
  from (
    select lane, key, seq from {parked}
    where lane = any ($1) and not released and since <= clock_timestamp() - $2 * interval '1 millisecond'
    order by since limit $3) longest) r
where p.lane = r.lane and (p.key = r.key or p.seq = r.seq)";

const RELEASED: &str = "\
select {columns} from {parked} e where lane = any ($1) and released order by lane, key, seq limit $2";

const STILL_OURS: &str = "select true from {lane} where lane = $1 and epoch = $2 and owner = $3 for share";

const REFUSED_AGAIN: &str = "\
update {parked}
set released = false,
    since = case when seq = $3 then clock_timestamp() else since end,
    attempts = case when seq = $3 then attempts + 1 else attempts end,
    reason = case when seq = $3 then $4 else reason end
where lane = $1 and (key = $2 or seq = $3)";

/// Which keys of these lanes have parked events.
pub(super) async fn keys(
    connection: &mut PgConnection,
    names: &Names,
    taken: &mut [(Lease, PgCursor, Vec<Vec<u8>>)],
) -> Result<(), OutboxError> {
    let lanes: Vec<i16> = taken.iter().map(|(lease, ..)| lease.lane.number()).collect();
    let keys: Vec<(i16, Vec<u8>)> = sqlx::query_as(fill(
        names,
        "select distinct lane, key from {parked} where lane = any ($1) and key is not null",
    ))
    .bind(&lanes)
    .fetch_all(connection)
    .await?;
    for (lane, key) in keys {
        let lane = Lane::from_number(lane);
        if let Some((.., of_lane)) = taken.iter_mut().find(|(lease, ..)| lease.lane == lane) {
            of_lane.push(key);
        }
    }
    Ok(())
}

pub(super) async fn park(
    connection: &mut PgConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), OutboxError> {
    fn column<'p, T>(parked: &'p [Parking], field: impl Fn(&'p Parking) -> T) -> Vec<T> {
        parked.iter().map(field).collect()
    }
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    sqlx::query(fill(names, PARK))
        .bind(column(parked, |p| p.event.seq))
        .bind(column(parked, |p| p.event.lane.number()))
        .bind(column(parked, |p| p.event.record.id))
        .bind(column(parked, |p| &*p.event.record.topic))
        .bind(column(parked, |p| p.event.record.key.as_deref()))
        .bind(column(parked, |p| &*p.event.record.name))
        .bind(column(parked, |p| int(p.event.record.version)))
        .bind(column(parked, |p| &*p.event.record.content_type))
        .bind(column(parked, |p| p.event.record.headers.to_json()))
        .bind(column(parked, |p| p.event.record.payload.as_deref()))
        .bind(column(parked, |p| OffsetDateTime::from(p.event.record.occurred_at)))
        .bind(column(parked, |p| p.reason.as_deref()))
        .bind(column(parked, |p| int(p.attempts)))
        .bind(column(parked, |p| p.released))
        .bind(column(parked, |p| p.event.record.partition))
        .execute(&mut *connection)
        .await?;
    let unreadable: Vec<i64> = parked
        .iter()
        .filter(|parking| parking.event.unreadable.is_some())
        .map(|parking| parking.event.seq)
        .collect();
    if !unreadable.is_empty() {
        sqlx::query(fill(names, KEEP_UNREADABLE)).bind(unreadable).execute(connection).await?;
    }
    Ok(())
}

pub(super) async fn released(
    connection: &mut PgConnection,
    names: &Names,
    held: &[Lease],
    retry: Retry,
) -> Result<Vec<StoredEvent>, OutboxError> {
    let lanes: Vec<i16> = held.iter().map(|lease| lease.lane.number()).collect();
    if retry.keys > 0 {
        sqlx::query(fill(names, RELEASE_THE_LONGEST_PARKED))
            .bind(&lanes)
            .bind(retry.after.as_millis() as f64)
            .bind(i64::from(retry.keys))
            .execute(&mut *connection)
            .await?;
    }
    let rows = sqlx::query(fill(names, RELEASED)).bind(&lanes).bind(AT_ONCE).fetch_all(connection).await?;
    rows.iter().map(stored_event).collect()
}

pub(super) async fn settle(
    connection: &mut PgConnection,
    names: &Names,
    owner: Uuid,
    lease: Lease,
    settled: &Settled,
) -> Result<Option<bool>, OutboxError> {
    let lane = lease.lane.number();
    let mut tx = connection.begin().await?;
    let ours: Option<bool> = sqlx::query_scalar(fill(names, STILL_OURS))
        .bind(lane)
        .bind(lease.epoch)
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
    if ours.is_none() {
        tx.rollback().await?;
        return Ok(None);
    }
    sqlx::query(fill(names, "delete from {parked} where seq = any ($1)"))
        .bind(&settled.delivered)
        .execute(&mut *tx)
        .await?;
    if let Some((seq, reason)) = &settled.refused {
        sqlx::query(fill(names, REFUSED_AGAIN))
            .bind(lane)
            .bind(settled.key.as_deref())
            .bind(seq)
            .bind(reason)
            .execute(&mut *tx)
            .await?;
    }
    let left: bool =
        sqlx::query_scalar(fill(names, "select exists (select from {parked} where lane = $1 and key = $2)"))
            .bind(lane)
            .bind(settled.key.as_deref())
            .fetch_one(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(Some(left))
}
