//! Parked events: copies, written in one transaction with the cursor that passes over them.

use sqlx::SqliteConnection;

use super::read::stored_event;
use super::write::unix_micros;
use super::{SqliteStore, millis, unix_millis};
use crate::error::OutboxError;
use crate::record::{Lane, StoredEvent};
use crate::store::{Lease, Names, Parking, Retry, Settled, sql};

/// How many parked events of a lane are tried again at once.
const AT_ONCE: u32 = 1_000;

const PARK: &str = "\
insert into {parked} (seq, lane, id, topic, key, name, version, content_type, headers, payload, occurred_at, reason,
                      attempts, since, released, kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
on conflict (seq) do nothing";

/// Of an event that cannot be read, the row is kept as it is.
const KEEP_UNREADABLE: &str = "\
update {parked}
set (id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition) =
    (select id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition from {event} where seq = $1)
where seq = $1";

/// Keys in the order of their longest parked event; an event without one is on its own.
const RELEASE_THE_LONGEST_PARKED: &str = "\
update {parked} set released = 1
where lane = $1 and exists (
  select 1 from (
    select key, seq from {parked} where lane = $1 and not released and since <= $2 order by since limit $3) longest
  where longest.key = {parked}.key or longest.seq = {parked}.seq)";

const STILL_OURS: &str = "select 1 from {lane} where lane = $1 and epoch = $2 and owner = $3";

const REFUSED_AGAIN: &str = "\
update {parked}
set released = 0,
    since = case when seq = $3 then $5 else since end,
    attempts = case when seq = $3 then attempts + 1 else attempts end,
    reason = case when seq = $3 then $4 else reason end
where lane = $1 and (key = $2 or seq = $3)";

/// Which keys of the lane have parked events.
pub(super) async fn keys(
    connection: &mut SqliteConnection,
    names: &Names,
    lane: Lane,
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(sql(
        names.fill("select distinct key from {parked} where lane = $1 and key is not null")
    ))
    .bind(lane.number())
    .fetch_all(connection)
    .await
}

pub(super) async fn park(
    connection: &mut SqliteConnection,
    names: &Names,
    parked: &[Parking],
) -> Result<(), sqlx::Error> {
    for Parking { event, reason, attempts, released } in parked {
        let record = &event.record;
        sqlx::query(sql(names.fill(PARK)))
            .bind(event.seq)
            .bind(event.lane.number())
            .bind(record.id)
            .bind(record.topic.as_ref())
            .bind(record.key.as_deref())
            .bind(record.name.as_ref())
            .bind(record.version)
            .bind(record.content_type.as_ref())
            .bind(record.headers.to_json())
            .bind(record.payload.as_deref())
            .bind(unix_micros(record.occurred_at))
            .bind(reason.as_deref())
            .bind(attempts)
            .bind(unix_millis())
            .bind(released)
            .bind(record.partition)
            .execute(&mut *connection)
            .await?;
        if event.unreadable.is_some() {
            sqlx::query(sql(names.fill(KEEP_UNREADABLE))).bind(event.seq).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn released_events(
        &self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<StoredEvent>, OutboxError> {
        let mut events = Vec::new();
        for lease in held {
            if retry.keys > 0 {
                sqlx::query(sql(self.names.fill(RELEASE_THE_LONGEST_PARKED)))
                    .bind(lease.lane.number())
                    .bind(unix_millis() - millis(retry.after))
                    .bind(retry.keys)
                    .execute(&self.pool)
                    .await?;
            }
            let rows = sqlx::query(sql(self
                .names
                .fill("select * from {parked} where lane = $1 and released order by key, seq limit $2")))
            .bind(lease.lane.number())
            .bind(AT_ONCE)
            .fetch_all(&self.pool)
            .await?;
            for row in &rows {
                events.push(stored_event(row)?);
            }
        }
        Ok(events)
    }

    pub(super) async fn settle(&self, lease: Lease, settled: &Settled) -> Result<Option<bool>, OutboxError> {
        let lane = lease.lane.number();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let ours: Option<i64> = sqlx::query_scalar(sql(self.names.fill(STILL_OURS)))
            .bind(lane)
            .bind(lease.epoch)
            .bind(self.owner)
            .fetch_optional(&mut *tx)
            .await?;
        if ours.is_none() {
            tx.rollback().await?;
            return Ok(None);
        }
        for seq in &settled.delivered {
            sqlx::query(sql(self.names.fill("delete from {parked} where seq = $1")))
                .bind(seq)
                .execute(&mut *tx)
                .await?;
        }
        if let Some((seq, reason)) = &settled.refused {
            sqlx::query(sql(self.names.fill(REFUSED_AGAIN)))
                .bind(lane)
                .bind(settled.key.as_deref())
                .bind(seq)
                .bind(reason)
                .bind(unix_millis())
                .execute(&mut *tx)
                .await?;
        }
        let left: bool = sqlx::query_scalar(sql(self
            .names
            .fill("select exists (select 1 from {parked} where lane = $1 and key = $2)")))
        .bind(lane)
        .bind(settled.key.as_deref())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(left))
    }
}
