use std::time::{Duration, UNIX_EPOCH};

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use crate::error::OutboxError;
use crate::event::Headers;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::{LaneBatch, LaneRead, sql};

/// `$4` bounds the payload bytes; the first event comes whatever its size.
const READ_LANE: &str = "\
select * from (
  select *, sum(length(payload)) over (order by seq) as running_bytes
  from (select * from {event} where lane = $1 and seq > $2 order by seq limit $3))
where running_bytes - length(payload) < $4
order by seq";

impl SqliteStore {
    pub(super) async fn read_lanes(
        &self,
        lanes: &[LaneRead<i64>],
    ) -> Result<Vec<LaneBatch<i64>>, OutboxError> {
        let statement = sql(self.names.fill(READ_LANE));
        let mut batches = Vec::with_capacity(lanes.len());
        for LaneRead { lane, from, rows, bytes } in lanes {
            let rows = sqlx::query(statement.clone())
                .bind(lane.number())
                .bind(from)
                .bind(rows)
                .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await?;
            let events = rows.iter().map(stored_event).collect::<Result<Vec<_>, _>>()?;
            let end = events.last().map_or(*from, |last| last.seq);
            batches.push(LaneBatch { lane: *lane, events, start: *from, end, save: false });
        }
        Ok(batches)
    }
}

pub(super) fn stored_event(row: &SqliteRow) -> Result<StoredEvent, OutboxError> {
    let micros: i64 = row.try_get("occurred_at")?;
    let since = Duration::from_micros(micros.unsigned_abs());
    Ok(StoredEvent {
        lane: Lane::from_number(row.try_get("lane")?),
        seq: row.try_get("seq")?,
        record: EventRecord {
            id: row.try_get("id")?,
            topic: row.try_get::<String, _>("topic")?.into(),
            key: row.try_get("key")?,
            name: row.try_get::<String, _>("name")?.into(),
            version: row.try_get("version")?,
            content_type: row.try_get::<String, _>("content_type")?.into(),
            headers: Headers::from_stored(row.try_get("headers")?)?,
            payload: row.try_get("payload")?,
            occurred_at: if micros < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since },
        },
    })
}
