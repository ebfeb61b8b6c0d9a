use sqlx::{Row, SqliteConnection};
use tokio::time::Instant;

use super::{SqliteCursor, SqliteLaneStore};
use crate::store::error::StoreError;
use crate::store::lanes::{LaneBatch, LaneRead, Rest};
use crate::store::names::sql;
use crate::store::sqlite::event_row::stored_event;

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
        connection: &mut SqliteConnection,
        lanes: &[LaneRead<SqliteCursor>],
    ) -> Result<Vec<LaneBatch<SqliteCursor>>, StoreError> {
        let statement = sql(self.names.fill(READ_LANE));
        let until = Instant::now() + self.lease / 8;
        let mut batches = Vec::with_capacity(lanes.len());
        for LaneRead { lane, from, rows: most, bytes, .. } in lanes {
            let rows = sqlx::query(statement.clone())
                .bind(lane.number())
                .bind(from.0)
                .bind(most)
                .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await?;
            let mut events = Vec::with_capacity(rows.len());
            let mut rest = if rows.len() < *most as usize { Rest::Nothing } else { Rest::More };
            for row in &rows {
                match row.try_get::<Option<i64>, _>("too_large")? {
                    None => events.push(stored_event(row)?),
                    Some(size) => rest = Rest::TooLarge(size.unsigned_abs()),
                }
            }
            let end = events.last().map_or(*from, |last| SqliteCursor(last.seq));
            batches.push(LaneBatch { lane: *lane, events, start: *from, end, save: false, rest });
            if Instant::now() > until {
                break;
            }
        }
        Ok(batches)
    }
}
