use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use tokio::time::Instant;

use super::SqliteLaneStore;
use crate::event::{Headers, is_in_calendar};
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::error::StoreError;
use crate::store::lanes::{LaneBatch, LaneRead, Rest};
use crate::store::names::sql;

/// `$4` bounds the bytes. The first row that does not fit is returned with its size instead of its
/// contents. Sizes are added up before contents are read: SQLite knows the length of a blob without
/// reading it.
const READ_LANE: &str = "\
select e.*, case when sized.running > $4 then sized.size end as too_large
from (
  select seq, size, sum(size) over (order by seq rows unbounded preceding) as running
  from (
    select seq, coalesce(length(payload), 0) + coalesce(length(key), 0) + length(cast(headers as blob)) + length(cast(topic as blob))
           + length(cast(name as blob)) + length(cast(content_type as blob)) as size
    from {event} where lane = $1 and seq > $2 order by seq limit $3)) sized
left join {event} e on e.seq = case when sized.running <= $4 then sized.seq end
where sized.running - sized.size <= $4
order by sized.seq";

impl SqliteLaneStore {
    /// Reads lane by lane, for a part of the lease; the remaining lanes are left to the next call.
    pub(super) async fn read_lanes(
        &self,
        lanes: &[LaneRead<i64>],
    ) -> Result<Vec<LaneBatch<i64>>, StoreError> {
        let statement = sql(self.names.fill(READ_LANE));
        let until = Instant::now() + self.lease / 8;
        let mut batches = Vec::with_capacity(lanes.len());
        for LaneRead { lane, from, rows: most, bytes, .. } in lanes {
            let rows = sqlx::query(statement.clone())
                .bind(lane.number())
                .bind(from)
                .bind(most)
                .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await?;
            let mut events = Vec::with_capacity(rows.len());
            let mut rest = if rows.len() < *most as usize { Rest::Nothing } else { Rest::More };
            for row in &rows {
                match row.try_get::<Option<i64>, _>("too_large")? {
                    None => events.push(stored_event(row)?),
                    Some(size) => rest = Rest::TooLarge(size.unsigned_abs()),
                }
            }
            let end = events.last().map_or(*from, |last| last.seq);
            batches.push(LaneBatch { lane: *lane, events, start: *from, end, save: false, rest });
            if Instant::now() > until {
                break;
            }
        }
        Ok(batches)
    }
}

/// A row that was written by hand may have any content that its columns accept. That is not an
/// error, which would stop all lanes: the event is marked as unreadable, and parked.
pub(in crate::store::sqlite) fn stored_event(row: &SqliteRow) -> Result<StoredEvent, StoreError> {
    let mut unreadable = None;
    let record = EventRecord {
        id: field(row, "id", &mut unreadable),
        topic: field::<String>(row, "topic", &mut unreadable).into(),
        key: field(row, "key", &mut unreadable),
        name: field::<String>(row, "name", &mut unreadable).into(),
        version: field(row, "version", &mut unreadable),
        content_type: field::<String>(row, "content_type", &mut unreadable).into(),
        headers: Headers::from_stored(&field::<String>(row, "headers", &mut unreadable))
            .unwrap_or_else(|error| {
                unreadable.get_or_insert_with(|| error.to_string().into());
                Headers::new()
            }),
        payload: field(row, "payload", &mut unreadable),
        occurred_at: from_micros(field(row, "occurred_at", &mut unreadable)).unwrap_or_else(|| {
            unreadable = Some("its `occurred_at` is in no calendar".into());
            UNIX_EPOCH
        }),
        partition: field(row, "kafka_partition", &mut unreadable),
    };
    Ok(StoredEvent {
        lane: Lane::from_number(row.try_get("lane")?),
        seq: row.try_get("seq")?,
        record,
        unreadable,
    })
}

fn field<'r, T>(row: &'r SqliteRow, name: &str, unreadable: &mut Option<Box<str>>) -> T
where
    T: Default + Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).unwrap_or_else(|error| {
        *unreadable = Some(format!("its `{name}` cannot be read: {error}").into());
        T::default()
    })
}

fn from_micros(micros: i64) -> Option<SystemTime> {
    let since = Duration::from_micros(micros.unsigned_abs());
    let at = if micros < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    at.filter(|at| is_in_calendar(*at))
}
