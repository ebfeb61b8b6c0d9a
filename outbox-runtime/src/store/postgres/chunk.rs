//! The rows of open windows, chunk by chunk.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};

use futures_core::Stream;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::time::OffsetDateTime;

use super::fragments::fill;
use super::marks::Place;
use super::window::{PgCursor, Session, Snapshot, ToRead};
use crate::error::OutboxError;
use crate::event::Headers;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::LaneRead;

/// The next chunk of each lane's window, of numbers up to `$8`.
///
/// The rows of a lane come one after the other and in order, as the loop over the lanes finds them: a sort of all of
/// them would have to wait for the last, and cost as much as the search.
const READ_WINDOW: &str = "\
select {columns}
from unnest($1::smallint[], $2::text[]::pg_snapshot[], $3::bigint[], $4::text[]::xid8[], $5::text[]::pg_snapshot[],
            $6::bigint[], $7::bigint[])
  as l (lane, prev, prev_floor, prev_h, cur, last_seq, max_rows)
cross join lateral (
  (select e.*  -- stragglers
   from {unfinished}
   cross join lateral (
     select e.* from {event} e
     where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
       and e.seq > l.last_seq and e.seq <= least(l.prev_floor, $8) and pg_visible_in_snapshot(e.xid, l.cur)
     order by e.xid, e.seq limit l.max_rows
   ) e
   order by e.seq limit l.max_rows)
  union all
  (select e.* from {event} e  -- main run
   where e.lane = l.lane and e.seq > greatest(l.prev_floor, l.last_seq) and e.seq <= $8
     and pg_visible_in_snapshot(e.xid, l.cur) and not pg_visible_in_snapshot(e.xid, l.prev)
   order by e.seq limit l.max_rows)
  order by seq limit l.max_rows
) e";

pub(super) async fn read(
    session: &mut Session<'_>,
    place: Place,
    lanes: &[ToRead<'_>],
) -> Result<BTreeMap<Lane, Chunk>, OutboxError> {
    fn column<'l, T>(
        lanes: &'l [ToRead<'l>],
        field: impl Fn(&'l LaneRead<PgCursor>, &'l Snapshot, &'l PgCursor) -> T,
    ) -> Vec<T> {
        lanes.iter().map(|(read, cur, at)| field(read, cur, at)).collect()
    }
    let bytes = lanes.iter().map(|(read, ..)| read.bytes).max().unwrap_or(0);
    let statement = READ_WINDOW.replace("{event}", &place.table());
    let rows = sqlx::query(fill(session.names, &statement))
        .bind(column(lanes, |read, _, _| read.lane.number()))
        .bind(column(lanes, |_, _, at| at.prev.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.prev.floor))
        .bind(column(lanes, |_, _, at| at.prev.horizon.as_str()))
        .bind(column(lanes, |_, cur, _| cur.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.last_seq))
        .bind(column(lanes, |read, _, _| i64::from(read.rows)))
        .bind(place.up_to())
        .fetch(&mut *session.connection);
    let mut rows = pin!(rows);
    let mut chunks: BTreeMap<Lane, Chunk> = BTreeMap::new();
    while let Some(row) = next(rows.as_mut()).await {
        let event = stored_event(&row?)?;
        let chunk = chunks.entry(event.lane).or_default();
        if chunk.bytes < bytes {
            chunk.bytes += event.record.payload.len() as u64;
            chunk.events.push(event);
        } else {
            chunk.cut = true;
        }
    }
    Ok(chunks)
}

/// What was read of a lane, up to its bound of bytes. The rest of what the database sent is read again: the relay asks for
/// fewer rows once it knows how large they are.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) events: Vec<StoredEvent>,
    bytes: u64,
    pub(super) cut: bool,
}

pub(super) async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}

/// By place, not by name: this is the relay's hottest loop.
pub(super) fn stored_event(row: &PgRow) -> Result<StoredEvent, OutboxError> {
    let version: i32 = row.try_get(6)?;
    Ok(StoredEvent {
        lane: Lane::from_number(row.try_get(0)?),
        seq: row.try_get(1)?,
        record: EventRecord {
            id: row.try_get(2)?,
            topic: row.try_get::<String, _>(3)?.into(),
            key: row.try_get(4)?,
            name: row.try_get::<String, _>(5)?.into(),
            version: version.unsigned_abs(),
            content_type: row.try_get::<String, _>(7)?.into(),
            headers: Headers::from_stored(row.try_get(8)?)?,
            payload: row.try_get(9)?,
            occurred_at: row.try_get::<OffsetDateTime, _>(10)?.into(),
        },
    })
}
