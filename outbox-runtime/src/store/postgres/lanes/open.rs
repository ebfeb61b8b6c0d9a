//! Opens windows, and reads their first rows.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::chunk::next;
use super::cursor::{PgCursor, Snapshot, of_another_cluster};
use super::floors::{FloorIndex, RingRange};
use super::invariants;
use super::session::{Session, ToRead, through_a_pooler};
use crate::error::{ErrorKind, OutboxError};
use crate::record::{Lane, StoredEvent};
use crate::store::lanes::{LaneBatch, LaneRead, Rest};
use crate::store::postgres::event_row::{BoundedColumns, BoundedRow, position};
use crate::store::postgres::fragments::fill;

/// What is new in lanes without an open window, and what makes a window: the snapshot of this
/// statement, the sequence's value, and a transaction id drawn after both (only if there is
/// something new: an idle relay draws no ids). `$4` are the ids that may have stragglers, in any of
/// the lanes. Each id is searched once; rows are assigned to lanes afterwards.
///
/// The last columns detect a database whose transaction ids started over, and a pooler.
const NEW_ROWS: &str = "\
select {bounded_columns}, e.xid::text as xid, e.late, pg_current_snapshot()::text as snapshot, s.last_value as floor,
       case when e.seq is not null and s.last_value is not null then pg_current_xact_id()::text end as horizon,
       pg_snapshot_xmax(pg_current_snapshot()) < $6::text::xid8 as started_over, pg_backend_pid() as backend
from {sequence}
left join lateral (
  select e.*, e.running <= l.max_bytes as fits, false as late  -- main run
  from unnest($1::smallint[], $2::bigint[], $3::bigint[], $7::bigint[]) as l (lane, floor, max_rows, max_bytes)
  cross join lateral (
    select e.*, sum(e.size::float8) over (order by e.seq rows unbounded preceding) as running
    from (
      select e.*, {size} from {event} e where e.lane = l.lane and e.seq > l.floor order by e.seq limit l.max_rows
    ) e
  ) e
  where e.running - e.size <= l.max_bytes  -- up to the first that does not fit
  union all
  select e.*, e.running <= $8, true  -- stragglers
  from (
    select e.*, sum(e.size::float8) over (rows unbounded preceding) as running
    from unnest($4::text[]::xid8[]) as unfinished (xid)
    cross join lateral (
      select e.*, {size} from {late_event} e
      where e.xid between unfinished.xid and unfinished.xid and e.lane = any ($1) and e.seq <= $5
      order by e.xid limit {most_rows}
    ) e
  ) e
) e on true";

/// Most rows of a lane, or of an unfinished transaction, to read when windows are opened.
const MOST_NEW_ROWS: u32 = 128;

/// What was found in a lane.
#[derive(Default)]
struct Found {
    events: Vec<StoredEvent>,
    /// Number of rows of its main run.
    main_run: u32,
    /// Whether there are more rows after these.
    cut: bool,
    /// Bytes of the row after these, if that did not fit.
    too_large: Option<u64>,
    /// Whether there are more stragglers, any of which may belong before these.
    late_cut: bool,
}

impl Found {
    /// The next events, in order and within the lane's bounds, and what is left.
    fn into_batch(self, read: &LaneRead<PgCursor>) -> (Vec<StoredEvent>, Rest) {
        let Self { mut events, cut, too_large, .. } = self;
        events.sort_by_key(|event| event.seq);
        let mut rest = match too_large {
            Some(size) => Rest::TooLarge(size),
            None if cut => Rest::More,
            None => Rest::Nothing,
        };
        let mut bytes = 0;
        for position in 0..events.len() {
            let size = events[position].record.bytes();
            bytes += size;
            if position >= read.rows as usize || position > 0 && bytes > read.bytes {
                events.truncate(position);
                rest = Rest::TooLarge(size);
                break;
            }
        }
        (events, rest)
    }
}

/// What is the same in all rows of [`NEW_ROWS`]: the moment of the statement.
struct Moment {
    snapshot: String,
    floor: i64,
    /// `None`: nothing was found.
    horizon: Option<String>,
}

impl Moment {
    /// From the first row, by a session of the server's process `backend`.
    fn of(row: &PgRow, backend: i32) -> Result<Self, OutboxError> {
        if row.try_get("started_over")? {
            return Err(of_another_cluster());
        }
        if row.try_get::<i32, _>("backend")? != backend {
            return Err(through_a_pooler());
        }
        Ok(Self {
            snapshot: row.try_get("snapshot")?,
            floor: row.try_get::<Option<i64>, _>("floor")?.unwrap_or(0),
            horizon: row.try_get("horizon")?,
        })
    }
}

/// A new row.
struct NewRow {
    lane: Lane,
    /// The transaction that wrote it.
    xid: u64,
    /// Whether it was found as a straggler.
    late: bool,
    row: BoundedRow,
}

/// Positions of the columns of [`NEW_ROWS`].
struct NewColumns {
    event: BoundedColumns,
    xid: usize,
    late: usize,
}

impl NewColumns {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            event: BoundedColumns::of(row)?,
            xid: position(row, "xid")?,
            late: position(row, "late")?,
        })
    }

    /// `None`: there is nothing new, and the row tells only the moment.
    fn row(&self, row: &PgRow) -> Result<Option<NewRow>, sqlx::Error> {
        let Some(lane) = self.event.lane(row)? else { return Ok(None) };
        let xid: &str = row.try_get(self.xid)?;
        Ok(Some(NewRow {
            lane,
            xid: xid.parse().unwrap_or(0),
            late: row.try_get(self.late)?,
            row: self.event.row(row)?,
        }))
    }
}

/// Where to search for new rows.
struct Search {
    /// For each lane, the number above which to search.
    floors: Vec<i64>,
    range: RingRange,
    /// Transactions that may have stragglers with numbers up to `late_up_to`.
    late: BTreeSet<u64>,
    late_up_to: i64,
    late_range: RingRange,
}

impl Search {
    fn of(lanes: &[&LaneRead<PgCursor>], index: &FloorIndex) -> Self {
        let prevs = || lanes.iter().map(|read| &*read.from.prev);
        let below: Vec<i64> = prevs().map(|prev| index.floor_below(prev)).collect();
        let floors: Vec<i64> =
            prevs().zip(&below).map(|(prev, below)| prev.floor.max(*below)).collect();
        // A lane whose unfinished transactions have all their numbers above its floor has none.
        let may_be_late = || prevs().zip(&below).filter(|(prev, below)| prev.floor > **below);
        let late_up_to = may_be_late().map(|(prev, _)| prev.floor).max().unwrap_or(0);
        Self {
            range: RingRange::between(floors.iter().copied().min().unwrap_or(0), index.latest()),
            floors,
            late: may_be_late().flat_map(|(prev, _)| prev.unfinished()).collect(),
            late_up_to,
            late_range: RingRange::between(below.into_iter().min().unwrap_or(0), late_up_to),
        }
    }
}

/// The most new rows to read of a lane.
fn most_rows(read: &LaneRead<PgCursor>) -> u32 {
    read.rows.min(MOST_NEW_ROWS)
}

/// The new rows that were read so far.
struct NewRows<'l> {
    lanes: &'l [&'l LaneRead<PgCursor>],
    found: BTreeMap<Lane, Found>,
    /// Number of rows of each transaction that was unfinished.
    of_unfinished: BTreeMap<u64, u32>,
}

impl<'l> NewRows<'l> {
    fn of(lanes: &'l [&'l LaneRead<PgCursor>]) -> Self {
        Self { lanes, found: BTreeMap::new(), of_unfinished: BTreeMap::new() }
    }

    fn take_in(&mut self, NewRow { lane, xid, late, row }: NewRow) {
        let Some(read) = self.lanes.iter().find(|read| read.lane == lane) else { return };
        let prev = &read.from.prev;
        if late {
            *self.of_unfinished.entry(xid).or_default() += 1;
            // It was searched for another lane, and is old for this one or part of its main run.
            if row.seq() > prev.floor || prev.shows(xid) {
                return;
            }
        }
        debug_assert!(!prev.shows(xid), "{} of {xid} is new to {:?}", row.seq(), read.from);
        let found = self.found.entry(lane).or_default();
        found.main_run += u32::from(!late);
        match row {
            // Nothing of the main run after the first row that does not fit is taken.
            BoundedRow::Event(event) if late || found.too_large.is_none() => {
                found.events.push(event)
            }
            BoundedRow::Event(_) => {}
            BoundedRow::TooLarge { .. } if late => found.late_cut = true,
            BoundedRow::TooLarge { size, .. } => found.too_large = found.too_large.or(Some(size)),
        }
    }

    /// What was found in each lane, once all rows are taken in.
    fn found(self) -> BTreeMap<Lane, Found> {
        let Self { lanes, mut found, of_unfinished } = self;
        let longer: Vec<u64> = of_unfinished
            .into_iter()
            .filter(|(_, rows)| *rows >= MOST_NEW_ROWS)
            .map(|(xid, _)| xid)
            .collect();
        for read in lanes {
            if longer.iter().any(|xid| !read.from.prev.shows(*xid)) {
                found.entry(read.lane).or_default().late_cut = true;
            }
            if let Some(found) = found.get_mut(&read.lane) {
                found.cut |= found.main_run >= most_rows(read);
            }
        }
        found
    }
}

/// Opens a window for each lane that has new rows, and reads its first chunk, which usually is all
/// of it. Lanes that have to read more before they have a batch go to `to_read`.
pub(super) async fn open_windows<'l>(
    session: &mut Session<'_>,
    lanes: &[&'l LaneRead<PgCursor>],
    batches: &mut Vec<LaneBatch<PgCursor>>,
    to_read: &mut Vec<ToRead<'l>>,
) -> Result<(), OutboxError> {
    let mut search = Search::of(lanes, session.floors);
    let (mut found, now) = loop {
        let (found, now) = query_new(session, lanes, &search).await?;
        if now.floor <= search.range.up_to() {
            break (found, now);
        }
        search.range = RingRange::Ring;
    };
    let Moment { snapshot, floor, horizon } = now;
    let cur =
        horizon.map(|horizon| Arc::new(Snapshot { snapshot: snapshot.clone(), floor, horizon }));
    if let Some(cur) = &cur {
        session.floors.note(cur);
    }
    // Of the snapshot alone, its end: lanes without new rows continue from it, too.
    session.note_seen(&Snapshot { snapshot: snapshot.clone(), floor, horizon: String::new() });
    if let Some(cur) = &cur {
        session.note_seen(cur);
    }
    for read in lanes {
        let (Some(found), Some(cur)) = (found.remove(&read.lane), &cur) else {
            batches.push(without_new_rows(read, &snapshot));
            continue;
        };
        let start = opened(&read.from, cur);
        if found.late_cut {
            to_read.push((read, Arc::clone(cur), start));
        } else {
            batches.push(first_batch(read, start, found));
        }
    }
    Ok(())
}

/// The batch of a lane in which nothing is visible now that was not visible before. It may start
/// from this snapshot: fewer transactions are still running in it. Floor and horizon stay: numbers
/// up to the floor still have ids below the horizon.
fn without_new_rows(read: &LaneRead<PgCursor>, snapshot: &str) -> LaneBatch<PgCursor> {
    let mut start = read.from.clone();
    let Snapshot { floor, horizon, .. } = &*start.prev;
    let (floor, horizon) = (*floor, horizon.clone());
    start.prev = Arc::new(Snapshot { snapshot: snapshot.to_owned(), floor, horizon });
    let (events, end, rest) = (Vec::new(), start.clone(), Rest::Nothing);
    LaneBatch { lane: read.lane, events, start, end, save: false, rest }
}

/// The beginning of the window from `from` to `cur`.
fn opened(from: &PgCursor, cur: &Arc<Snapshot>) -> PgCursor {
    let mut start = from.clone();
    debug_assert!(
        invariants::windows_connect(
            (start.prev.floor, start.prev.horizon()),
            (cur.floor, cur.horizon())
        ),
        "{start:?}, {cur:?}"
    );
    start.cur = Some(Arc::clone(cur));
    start.last_seq = 0;
    start
}

fn first_batch(read: &LaneRead<PgCursor>, start: PgCursor, found: Found) -> LaneBatch<PgCursor> {
    let (events, rest) = found.into_batch(read);
    debug_assert!(
        invariants::in_order(0, events.iter().map(|event| event.seq)),
        "a chunk in order"
    );
    let end = match events.last() {
        Some(last) if rest != Rest::Nothing => start.clone().advanced_to(last.seq),
        None if rest != Rest::Nothing => start.clone(),
        _ => start.clone().closed(),
    };
    LaneBatch { lane: read.lane, events, start, end, save: false, rest }
}

/// What is new in the lanes, and the moment at which it is.
async fn query_new(
    session: &mut Session<'_>,
    lanes: &[&LaneRead<PgCursor>],
    search: &Search,
) -> Result<(BTreeMap<Lane, Found>, Moment), OutboxError> {
    let statement = NEW_ROWS
        .replace("{event}", &search.range.table())
        .replace("{late_event}", &search.late_range.table())
        .replace("{most_rows}", &MOST_NEW_ROWS.to_string());
    let most_bytes = |read: &LaneRead<PgCursor>| i64::try_from(read.bytes).unwrap_or(i64::MAX);
    let latest_end = lanes.iter().map(|read| read.from.prev.end()).max().unwrap_or(0);
    let rows = sqlx::query(fill(session.names, &statement))
        .bind(lanes.iter().map(|read| read.lane.number()).collect::<Vec<_>>())
        .bind(&search.floors)
        .bind(lanes.iter().map(|read| i64::from(most_rows(read))).collect::<Vec<_>>())
        .bind(search.late.iter().map(u64::to_string).collect::<Vec<_>>())
        .bind(search.late_up_to)
        .bind(latest_end.to_string())
        .bind(lanes.iter().map(|read| most_bytes(read)).collect::<Vec<_>>())
        .bind(lanes.iter().map(|read| most_bytes(read)).max().unwrap_or(0) as f64)
        .fetch(&mut *session.connection);
    let mut rows = pin!(rows);
    let mut new = NewRows::of(lanes);
    let mut first = None;
    while let Some(row) = next(rows.as_mut()).await {
        let row = row?;
        let (_, columns) = match &first {
            Some(first) => first,
            None => first.insert((Moment::of(&row, session.backend)?, NewColumns::of(&row)?)),
        };
        if let Some(row) = columns.row(&row)? {
            new.take_in(row);
        }
    }
    let (now, _) = first.ok_or_else(|| {
        OutboxError::new(ErrorKind::Database, "the database did not answer with a row")
    })?;
    Ok((new.found(), now))
}
