//! Reads the rows of open windows, chunk by chunk.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};

use futures_core::Stream;
use sqlx::postgres::PgRow;

use super::cursor::{PgCursor, Snapshot};
use super::floors::RingRange;
use super::session::{Session, ToRead};
use crate::error::OutboxError;
use crate::record::{Lane, StoredEvent};
use crate::store::lanes::{LaneRead, Rest};
use crate::store::postgres::event_row::{BoundedColumns, BoundedRow};
use crate::store::postgres::fragments::fill;

/// The next chunk of each lane's window, of numbers up to `$8`. `{rows}` are its rows, and
/// `{fitting}` which of them fit into the bound of bytes.
///
/// The rows of a lane are returned together and in order, as the loop over the lanes finds them.
/// Sorting all rows would have to wait for the last one, and cost as much as the search.
///
/// `offset 0` has the snapshots of a lane made once. As columns of `unnest` they would be unpacked
/// for each row.
const READ_WINDOW: &str = "\
select {bounded_columns}
from unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[]::xid8[], $5::text[], $6::bigint[], $7::bigint[], $9::bigint[])
  as asked (lane, prev, prev_floor, prev_h, cur, last_seq, max_rows, max_bytes)
cross join lateral (
  select asked.lane, asked.prev::pg_snapshot as prev, asked.prev_floor, asked.prev_h, asked.cur::pg_snapshot as cur,
         asked.last_seq, asked.max_rows, asked.max_bytes
  offset 0
) l
cross join lateral ({fitting}) e";

/// The rows of a lane of which there may be stragglers.
const WITH_STRAGGLERS: &str = "\
(select e.*  -- stragglers
 from {unfinished}
 cross join lateral (
   select e.*, {size} from {event} e
   where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
     and e.seq > l.last_seq and e.seq <= least(l.prev_floor, $8) and pg_visible_in_snapshot(e.xid, l.cur)
   order by e.xid, e.seq limit l.max_rows
 ) e
 order by e.seq limit l.max_rows)
union all
({main_run})
order by seq limit l.max_rows";

const MAIN_RUN: &str = "\
select e.*, {size} from {event} e
where e.lane = l.lane and e.seq > greatest(l.prev_floor, l.last_seq) and e.seq <= $8
  and pg_visible_in_snapshot(e.xid, l.cur) and not pg_visible_in_snapshot(e.xid, l.prev)
order by e.seq limit l.max_rows";

/// Bounds the bytes of all rows of a lane: they are read up to the first that does not fit.
const FITTING_TOGETHER: &str = "\
select e.*, e.running <= l.max_bytes as fits
from (select e.*, sum(e.size::float8) over (order by e.seq rows unbounded preceding) as running from ({rows}) e) e
where e.running - e.size <= l.max_bytes";
/// Bounds the bytes of each row: cheaper, and sufficient if all rows of the size seen lately
/// certainly fit.
const FITTING_EACH: &str = "select e.*, e.size <= l.max_bytes as fits from ({rows}) e";

/// Reads the next chunk of each lane, all in one range of the ring.
pub(super) async fn read(
    session: &mut Session<'_>,
    range: RingRange,
    lanes: &[ToRead<'_>],
) -> Result<BTreeMap<Lane, Chunk>, OutboxError> {
    fn column<'l, T>(
        lanes: &'l [ToRead<'l>],
        field: impl Fn(&'l LaneRead<PgCursor>, &'l Snapshot, &'l PgCursor) -> T,
    ) -> Vec<T> {
        lanes.iter().map(|(read, cur, at)| field(read, cur, at)).collect()
    }
    let small = lanes.iter().all(|(read, ..)| {
        read.largest > 0 && read.largest.saturating_mul(u64::from(read.rows)) <= read.bytes
    });
    let most_bytes = |read: &LaneRead<PgCursor>| {
        let bytes = if small { read.bytes / u64::from(read.rows.max(1)) } else { read.bytes };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    };
    let stragglers = lanes.iter().any(|(_, _, at)| at.prev.unfinished().next().is_some());
    let statement = READ_WINDOW
        .replace("{fitting}", if small { FITTING_EACH } else { FITTING_TOGETHER })
        .replace("{rows}", if stragglers { WITH_STRAGGLERS } else { MAIN_RUN })
        .replace("{main_run}", MAIN_RUN)
        .replace("{event}", &range.table());
    let rows = sqlx::query(fill(session.names, &statement))
        .bind(column(lanes, |read, _, _| read.lane.number()))
        .bind(column(lanes, |_, _, at| at.prev.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.prev.floor))
        .bind(column(lanes, |_, _, at| at.prev.horizon.as_str()))
        .bind(column(lanes, |_, cur, _| cur.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.last_seq))
        .bind(column(lanes, |read, _, _| i64::from(read.rows)))
        .bind(range.up_to())
        .bind(column(lanes, |read, _, _| most_bytes(read)))
        .fetch(&mut *session.connection);
    chunks_of(rows, lanes).await
}

/// The chunk of each lane of which there are rows.
async fn chunks_of(
    rows: impl Stream<Item = Result<PgRow, sqlx::Error>>,
    lanes: &[ToRead<'_>],
) -> Result<BTreeMap<Lane, Chunk>, OutboxError> {
    let mut chunks: BTreeMap<Lane, Chunk> = BTreeMap::new();
    let mut rows = pin!(rows);
    let mut columns = None;
    while let Some(row) = next(rows.as_mut()).await {
        let row = row?;
        let columns = match &columns {
            Some(columns) => columns,
            None => columns.insert(BoundedColumns::of(&row)?),
        };
        let Some(lane) = columns.lane(&row)? else { continue };
        let Some((read, ..)) = lanes.iter().find(|(read, ..)| read.lane == lane) else { continue };
        chunks.entry(lane).or_default().take_in(columns.row(&row)?, read.bytes);
    }
    for (read, ..) in lanes {
        if let Some(chunk) = chunks.get_mut(&read.lane)
            && chunk.rest == Rest::Nothing
            && chunk.events.len() >= read.rows as usize
        {
            chunk.rest = Rest::More;
        }
    }
    Ok(chunks)
}

/// The rows read of a lane, up to its bound of bytes.
pub(super) struct Chunk {
    pub(super) events: Vec<StoredEvent>,
    bytes: u64,
    pub(super) rest: Rest,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { events: Vec::new(), bytes: 0, rest: Rest::Nothing }
    }
}

impl Chunk {
    /// Takes in a row. Nothing after the first row that does not fit is taken.
    fn take_in(&mut self, row: BoundedRow, bytes: u64) {
        if self.rest != Rest::Nothing {
            return;
        }
        match row {
            BoundedRow::TooLarge { size, .. } => self.rest = Rest::TooLarge(size),
            BoundedRow::Event(event) => {
                let size = event.record.bytes();
                if self.events.is_empty() || self.bytes + size <= bytes {
                    self.bytes += size;
                    self.events.push(event);
                } else {
                    self.rest = Rest::TooLarge(size);
                }
            }
        }
    }
}

pub(super) async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}
