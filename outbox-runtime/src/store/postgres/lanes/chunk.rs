//! Reads the rows of open windows, chunk by chunk.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_core::Stream;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::cursor::{PgCursor, Snapshot};
use super::floors::Place;
use super::session::{Session, ToRead};
use crate::error::OutboxError;
use crate::event::{Headers, is_in_calendar};
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::lanes::{LaneRead, Rest};
use crate::store::postgres::fragments::fill;

/// The next chunk of each lane's window, of numbers up to `$8`. `{running}` is what the bound of
/// bytes applies to.
///
/// The rows of a lane are returned together and in order, as the loop over the lanes finds them.
/// Sorting all rows would have to wait for the last one, and cost as much as the search.
const READ_WINDOW: &str = "\
select {bounded_columns}
from unnest($1::smallint[], $2::text[]::pg_snapshot[], $3::bigint[], $4::text[]::xid8[], $5::text[]::pg_snapshot[],
            $6::bigint[], $7::bigint[], $9::bigint[])
  as l (lane, prev, prev_floor, prev_h, cur, last_seq, max_rows, max_bytes)
cross join lateral (
  select e.*, e.running <= l.max_bytes as fits
  from (
    select e.*, {running} as running
    from (
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
      (select e.*, {size} from {event} e  -- main run
       where e.lane = l.lane and e.seq > greatest(l.prev_floor, l.last_seq) and e.seq <= $8
         and pg_visible_in_snapshot(e.xid, l.cur) and not pg_visible_in_snapshot(e.xid, l.prev)
       order by e.seq limit l.max_rows)
      order by seq limit l.max_rows
    ) e
  ) e
  where e.running - e.size <= l.max_bytes  -- up to the first that does not fit
) e";

/// Bounds the bytes of all rows of a lane.
const SUM: &str = "sum(e.size) over (order by e.seq rows unbounded preceding)";
/// Bounds the bytes of each row: cheaper, and sufficient if all rows of the size seen lately
/// certainly fit.
const EACH: &str = "e.size";

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
    let small = lanes.iter().all(|(read, ..)| {
        read.largest > 0 && read.largest.saturating_mul(u64::from(read.rows)) <= read.bytes
    });
    let most_bytes = |read: &LaneRead<PgCursor>| {
        let bytes = if small { read.bytes / u64::from(read.rows.max(1)) } else { read.bytes };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    };
    let statement = READ_WINDOW
        .replace("{event}", &place.table())
        .replace("{running}", if small { EACH } else { SUM });
    let rows = sqlx::query(fill(session.names, &statement))
        .bind(column(lanes, |read, _, _| read.lane.number()))
        .bind(column(lanes, |_, _, at| at.prev.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.prev.floor))
        .bind(column(lanes, |_, _, at| at.prev.horizon.as_str()))
        .bind(column(lanes, |_, cur, _| cur.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.last_seq))
        .bind(column(lanes, |read, _, _| i64::from(read.rows)))
        .bind(place.up_to())
        .bind(column(lanes, |read, _, _| most_bytes(read)))
        .fetch(&mut *session.connection);
    let mut rows = pin!(rows);
    let mut chunks: BTreeMap<Lane, Chunk> = BTreeMap::new();
    while let Some(row) = next(rows.as_mut()).await {
        let row = row?;
        let lane = Lane::from_number(row.try_get(0)?);
        let Some((read, ..)) = lanes.iter().find(|(read, ..)| read.lane == lane) else { continue };
        chunks.entry(lane).or_default().take_in(row_of(&row)?, read.bytes);
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

/// A row with its contents, or with its size only.
#[allow(clippy::large_enum_variant)] // it lives for one turn of the loop, which allocates nothing for it
pub(super) enum BoundedRow {
    Event(StoredEvent),
    TooLarge { seq: i64, size: u64 },
}

impl BoundedRow {
    pub(super) fn seq(&self) -> i64 {
        match self {
            Self::Event(event) => event.seq,
            Self::TooLarge { seq, .. } => *seq,
        }
    }
}

pub(super) fn row_of(row: &PgRow) -> Result<BoundedRow, OutboxError> {
    Ok(match row.try_get::<Option<f64>, _>(12)? {
        None => BoundedRow::Event(stored_event(row)?),
        Some(size) => BoundedRow::TooLarge { seq: row.try_get(1)?, size: size.max(1.0) as u64 },
    })
}

/// By position, not by name: this is the relay's hottest loop.
///
/// A row that was written by hand may have any content that its columns accept. That is not an
/// error, which would stop all lanes: the event is marked as unreadable, and parked.
pub(in crate::store::postgres) fn stored_event(row: &PgRow) -> Result<StoredEvent, OutboxError> {
    let version: i32 = row.try_get(6)?;
    let mut unreadable = None;
    let headers = Headers::from_stored(row.try_get(8)?).unwrap_or_else(|error| {
        unreadable = Some(error.to_string().into());
        Headers::new()
    });
    // sqlx panics at a time outside of its calendar, such as infinity.
    let occurred_at = from_micros_since_2000(row.try_get_unchecked(10)?).unwrap_or_else(|| {
        unreadable = Some("its `occurred_at` is in no calendar".into());
        UNIX_EPOCH
    });
    if version < 0 {
        unreadable = Some("its `version` is negative".into());
    }
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
            headers,
            payload: row.try_get(9)?,
            occurred_at,
            partition: row.try_get(11)?,
        },
        unreadable,
    })
}

/// A `timestamptz` as Postgres sends it.
fn from_micros_since_2000(micros: i64) -> Option<SystemTime> {
    const EPOCH: Duration = Duration::from_secs(946_684_800);
    let since = Duration::from_micros(micros.unsigned_abs());
    let epoch = UNIX_EPOCH + EPOCH;
    let at = if micros < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
    at.filter(|at| is_in_calendar(*at))
}
