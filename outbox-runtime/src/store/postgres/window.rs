//! Reading without loss and in order.
//!
//! `seq > last` loses events: a transaction may draw its number early and commit late. So the relay reads
//! *windows*: the rows that are visible in the snapshot `cur` and were not in the snapshot `prev`, ordered by
//! `seq`. Each committed row is in exactly one window, and the rows of one key are in the order in which their
//! writers held its lock.
//!
//! Within a window, a row is found in one of two ways:
//! - its number is above `prev_floor`, the sequence's value when `prev` was taken: the *main run*, by (lane, seq);
//! - its number is at or below it, so its transaction had begun by then, and was in progress in `prev`: a
//!   *straggler*. Its transaction's id is one of `prev`'s in-progress list, or lies between `prev`'s end and
//!   `prev_h`, an id drawn after `prev_floor` was read: by (lane, xid, seq).
//!
//! The window is read in chunks above `last_seq`. Windows are kept in memory, and what is delivered of them is saved in
//! the lane's row. A server that crashes hands out again the transaction ids that it had not yet logged, and a window of
//! the time before would take new rows for old ones: so a window is used, and saved, only over the connection that it was
//! opened over, which no crash and no failover survives. A *saved* window is good for ever: the transaction that saved it
//! drew its id after the snapshot, and with that id in the log all lower ones are spent.
//!
//! A row's transaction id is drawn before its number. So of a transaction that is not older than the id `prev_h` of some
//! earlier window, all numbers are above that window's floor: this bounds from below the numbers that a window can have,
//! and mostly leaves a single leaf of the ring to search. See `marks.rs`.
//!
//! The proof by experiment is `tests/window_fuzz.rs`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_core::Stream;
use sqlx::postgres::PgRow;
use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, Row};

use super::invariants;
use super::marks::{Marks, Place};
use crate::error::{ErrorKind, OutboxError};
use crate::event::Headers;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::{LaneBatch, LaneRead, Names};

/// How far a lane is read: everything visible in `prev`, and, when a window is open, its rows up to `last_seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgCursor {
    pub(super) prev: Arc<Snapshot>,
    pub(super) cur: Option<Arc<Snapshot>>,
    pub(super) last_seq: i64,
}

/// A database snapshot, with the two marks that were taken around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// `pg_snapshot` in its text form.
    pub(super) snapshot: String,
    /// The sequence's value about then.
    pub(super) floor: i64,
    /// A transaction id (`xid8` in its text form) drawn after both.
    pub(super) horizon: String,
}

impl PgCursor {
    /// The same window, read further.
    pub(super) fn advanced_to(mut self, seq: i64) -> Self {
        self.last_seq = seq;
        self
    }

    /// The window read to its end.
    fn closed(self) -> Self {
        Self { prev: self.cur.unwrap_or(self.prev), cur: None, last_seq: 0 }
    }
}

/// The lanes that have rows which `prev` does not show, and, if there are any, what makes a window: the snapshot of this
/// statement, the sequence's value, and a transaction id drawn after it (else none: an idle relay draws no ids). There is
/// news, so the sequence was drawn from: `last_value` is the last number given out. It is not read from the sequence as
/// from a table: while Postgres logs it, the row says up to 32 more, and with a floor too high the events of those who draw
/// these numbers would be lost. The function has the page's lock.
///
/// The last column finds out a database whose transaction ids started over.
const OPEN_WINDOW: &str = "\
with news as materialized (
  select array(
    select l.lane from unnest($1::smallint[], $2::text[]::pg_snapshot[]) as l (lane, prev)
    where (select true from {event} e
           where e.lane = l.lane and e.xid >= pg_snapshot_xmax(l.prev)
           order by e.xid limit 1)
       or (select true from pg_snapshot_xip(l.prev) as running (xid)
           cross join lateral (
             select from {event} e
             where e.lane = l.lane and e.xid between running.xid and running.xid
             order by e.xid limit 1) e
           limit 1)) as lanes)
select news.lanes, pg_current_snapshot()::text, s.last_value,
       case when cardinality(news.lanes) > 0 and s.last_value is not null then pg_current_xact_id()::text end,
       pg_snapshot_xmax(pg_current_snapshot()) < (select max(pg_snapshot_xmax(prev::pg_snapshot)::text::numeric)
                                                  from unnest($2::text[]) as p (prev))::text::xid8
from news, pg_sequence_last_value({'seq'}) as s (last_value)";

/// The next chunk of each lane's window, of numbers up to `$8`. Rows of one transaction are asked for `between` its id and
/// its id, here and above, and in the order of `xid`: only the index on (lane, xid, seq) gives that order. Asked for
/// `= xid`, the planner may take the one on (lane, seq), and walk through all that is retained.
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
   from (
     select pg_snapshot_xip(l.prev)
     union all
     select generate_series(pg_snapshot_xmax(l.prev)::text::bigint, l.prev_h::text::bigint - 1)::text::xid8
   ) as unfinished (xid)
   cross join lateral (
     select e.* from {event} e
     where e.lane = l.lane and e.xid between unfinished.xid and unfinished.xid
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

/// What [`stored_event`] takes, of a row `e`.
pub(super) const COLUMNS: &str = "e.lane, e.seq, e.id, e.topic, e.key, e.name, e.version, e.content_type, \
                                  e.headers::text, e.payload, e.occurred_at";

/// The next events of these lanes: opens a window for those that have none, where there is anything new, reads the next
/// chunk of each, and closes those that are read to their end.
pub(super) async fn read(
    connection: &mut PgConnection,
    names: &Names,
    marks: &mut Marks,
    lanes: &[LaneRead<PgCursor>],
) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
    let mut starts: Vec<PgCursor> = lanes.iter().map(|read| read.from.clone()).collect();
    open_windows(connection, names, marks, lanes, &mut starts).await?;
    let mut batches = Vec::with_capacity(lanes.len());
    let mut to_read = Vec::with_capacity(lanes.len());
    for (read, start) in lanes.iter().zip(starts) {
        match &start.cur {
            Some(cur) => to_read.push((read, Arc::clone(cur), start)),
            None => {
                batches.push(LaneBatch {
                    lane: read.lane,
                    events: Vec::new(),
                    end: start.clone(),
                    start,
                    save: false,
                });
            }
        }
    }
    // Most often they are all in one place, and find something there: then this is one call.
    while let Some((_, _, first)) = to_read.first() {
        let place = Place::of_window(first, marks);
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            to_read.into_iter().partition(|(_, _, start)| Place::of_window(start, marks) == place);
        to_read = elsewhere;
        let mut chunks = read_chunks(connection, names, place, &here).await?;
        for (read, cur, start) in here {
            let Chunk { events, cut, .. } = chunks.remove(&read.lane).unwrap_or_default();
            debug_assert!(
                invariants::in_order(start.last_seq, events.iter().map(|event| event.seq)),
                "a chunk in order"
            );
            let end = match events.last() {
                Some(last) if cut || events.len() >= read.rows as usize => {
                    start.clone().advanced_to(last.seq)
                }
                // The floor was read after the snapshot: what it shows has no higher numbers.
                _ if place.up_to() < cur.floor => start.clone().advanced_to(place.up_to()),
                _ => start.clone().closed(),
            };
            if events.is_empty() && end.cur.is_some() {
                to_read.push((read, cur, end));
            } else {
                // A saved window that turns out to be read to its end would keep its leaves from being reclaimed.
                let save = read.from.cur.is_some() && end.cur.is_none();
                batches.push(LaneBatch { lane: read.lane, events, start, end, save });
            }
        }
    }
    Ok(batches)
}

async fn read_chunks(
    connection: &mut PgConnection,
    names: &Names,
    place: Place,
    lanes: &[(&LaneRead<PgCursor>, Arc<Snapshot>, PgCursor)],
) -> Result<BTreeMap<Lane, Chunk>, OutboxError> {
    fn column<'l, T>(
        lanes: &'l [(&LaneRead<PgCursor>, Arc<Snapshot>, PgCursor)],
        field: impl Fn(&'l LaneRead<PgCursor>, &'l Snapshot, &'l PgCursor) -> T,
    ) -> Vec<T> {
        lanes.iter().map(|(read, cur, at)| field(read, cur, at)).collect()
    }
    let bytes = lanes.iter().map(|(read, ..)| read.bytes).max().unwrap_or(0);
    let rows = sqlx::query(place.fill(names, &READ_WINDOW.replace("{columns}", COLUMNS)))
        .bind(column(lanes, |read, _, _| read.lane.number()))
        .bind(column(lanes, |_, _, at| at.prev.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.prev.floor))
        .bind(column(lanes, |_, _, at| at.prev.horizon.as_str()))
        .bind(column(lanes, |_, cur, _| cur.snapshot.as_str()))
        .bind(column(lanes, |_, _, at| at.last_seq))
        .bind(column(lanes, |read, _, _| i64::from(read.rows)))
        .bind(place.up_to())
        .fetch(connection);
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
struct Chunk {
    events: Vec<StoredEvent>,
    bytes: u64,
    cut: bool,
}

async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}

async fn open_windows(
    connection: &mut PgConnection,
    names: &Names,
    marks: &mut Marks,
    lanes: &[LaneRead<PgCursor>],
    starts: &mut [PgCursor],
) -> Result<(), OutboxError> {
    let closed = || lanes.iter().filter(|read| read.from.cur.is_none());
    let Some(floor) = closed().map(|read| marks.floor_below(&read.from.prev)).min() else { return Ok(()) };
    let numbers: Vec<i16> = closed().map(|read| read.lane.number()).collect();
    let prevs: Vec<&str> = closed().map(|read| read.from.prev.snapshot.as_str()).collect();
    let mut place = Place::above(floor);
    let (news, snapshot, floor, horizon) = loop {
        let opened: (Vec<i16>, String, Option<i64>, Option<String>, bool) =
            sqlx::query_as(place.fill(names, OPEN_WINDOW))
                .bind(&numbers)
                .bind(&prevs)
                .fetch_one(&mut *connection)
                .await?;
        let (news, snapshot, floor, horizon, started_over) = opened;
        let floor = floor.unwrap_or(0);
        if started_over {
            return Err(of_another_cluster());
        }
        if floor <= place.up_to() {
            break (news, snapshot, floor, horizon);
        }
        place = Place::Ring;
    };
    let cur = horizon.map(|horizon| Arc::new(Snapshot { snapshot: snapshot.clone(), floor, horizon }));
    if let Some(cur) = &cur {
        marks.note(cur);
    }
    for (read, start) in lanes.iter().zip(starts).filter(|(read, _)| read.from.cur.is_none()) {
        match &cur {
            Some(cur) if news.contains(&read.lane.number()) => {
                debug_assert!(
                    invariants::windows_connect(
                        (start.prev.floor, start.prev.horizon()),
                        (cur.floor, cur.horizon())
                    ),
                    "{start:?}, {cur:?}"
                );
                start.cur = Some(Arc::clone(cur));
                start.last_seq = 0;
            }
            // Nothing is visible now that was not before, so the lane may as well start from now: fewer transactions
            // are still running then. The marks stay: numbers up to the floor have ids below the horizon as ever.
            _ => {
                let Snapshot { floor, horizon, .. } = &*start.prev;
                start.prev = Arc::new(Snapshot {
                    snapshot: snapshot.clone(),
                    floor: *floor,
                    horizon: horizon.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The snapshots of one cluster mean nothing in another.
pub(super) fn of_another_cluster() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        "the relay's saved progress is in the transaction ids of another cluster: a dump was restored, or the cluster was \
         upgraded. The relay stopped, for it could miss events; all of them are still in the outbox. After pg_upgrade, \
         which keeps the ids, run \"update outbox_lane set sysid = null\". Otherwise move the progress into this cluster \
         with `update outbox_event set xid = '3'; update outbox_lane set prev = '3:3:', prev_floor = 0, prev_h = '3', \
         cur = null, cur_floor = null, cur_h = null, last_seq = 0, sysid = null` (both with your schema \
         and prefix): every retained event is then published again, and idempotent consumers skip those they know",
    )
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
