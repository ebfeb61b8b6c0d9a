//! The look for news: it opens windows, and reads their first rows.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use sqlx::Row;

use super::chunk::{BoundedRow, next, row_of};
use super::cursor::{PgCursor, Snapshot, of_another_cluster};
use super::floors::{Marks, Place};
use super::invariants;
use super::session::{Session, ToRead, through_a_pooler};
use crate::error::{ErrorKind, OutboxError};
use crate::record::{Lane, StoredEvent};
use crate::store::lanes::{LaneBatch, LaneRead, Rest};
use crate::store::postgres::fragments::fill;

/// What is new in lanes that have no window open, and with it what makes a window: the snapshot of
/// this statement, the sequence's value, and a transaction id drawn after both (only if there is
/// news: an idle relay draws no ids). `$4` are the ids of which there may be stragglers, in any of
/// the lanes: one search each, and the lanes to which a row is new are told apart later.
///
/// The last columns find out a database whose transaction ids started over, and a pooler.
const LOOK: &str = "\
select {bounded_columns}, e.xid::text, e.late, pg_current_snapshot()::text, s.last_value,
       case when e.seq is not null and s.last_value is not null then pg_current_xact_id()::text end,
       pg_snapshot_xmax(pg_current_snapshot()) < $6::text::xid8, pg_backend_pid()
from {sequence}
left join lateral (
  select e.*, e.running <= l.max_bytes as fits, false as late  -- main run
  from unnest($1::smallint[], $2::bigint[], $3::bigint[], $7::bigint[]) as l (lane, floor, max_rows, max_bytes)
  cross join lateral (
    select e.*, sum(e.size) over (order by e.seq rows unbounded preceding) as running
    from (
      select e.*, {size} from {event} e where e.lane = l.lane and e.seq > l.floor order by e.seq limit l.max_rows
    ) e
  ) e
  where e.running - e.size <= l.max_bytes  -- up to the first that does not fit
  union all
  select e.*, e.running <= $8, true  -- stragglers
  from (
    select e.*, sum(e.size) over (rows unbounded preceding) as running
    from unnest($4::text[]::xid8[]) as unfinished (xid)
    cross join lateral (
      select e.*, {size} from {late_event} e
      where e.xid between unfinished.xid and unfinished.xid and e.lane = any ($1) and e.seq <= $5
      order by e.xid limit {look_rows}
    ) e
  ) e
) e on true";

/// Most rows of a lane, or of an unfinished transaction, to read when windows are opened.
const LOOK_ROWS: u32 = 128;

/// What a look found in a lane.
#[derive(Default)]
struct Found {
    events: Vec<StoredEvent>,
    /// How many of its main run came.
    main_run: u32,
    /// There are more behind these.
    cut: bool,
    /// The one behind these did not fit, and takes this many bytes.
    too_large: Option<u64>,
    /// There are more stragglers, of which any may belong before these.
    late_cut: bool,
}

impl Found {
    /// The events that come next, in order and within the lane's bounds, and what is left.
    fn into_batch(self, read: &LaneRead<PgCursor>) -> (Vec<StoredEvent>, Rest) {
        let Self { mut events, cut, too_large, .. } = self;
        events.sort_by_key(|event| event.seq);
        let mut rest = match too_large {
            Some(size) => Rest::TooLarge(size),
            None if cut => Rest::More,
            None => Rest::Nothing,
        };
        let mut bytes = 0;
        for place in 0..events.len() {
            let size = events[place].record.bytes();
            bytes += size;
            if place >= read.rows as usize || place > 0 && bytes > read.bytes {
                events.truncate(place);
                rest = Rest::TooLarge(size);
                break;
            }
        }
        (events, rest)
    }
}

/// When a look was.
struct Now {
    snapshot: String,
    floor: i64,
    /// None if nothing was found.
    horizon: Option<String>,
}

/// Where a look searches.
struct Search {
    /// For each lane, above which number.
    floors: Vec<i64>,
    place: Place,
    /// The transactions of which there may be stragglers, of numbers up to that.
    late: BTreeSet<u64>,
    late_up_to: i64,
    late_place: Place,
}

impl Search {
    fn of(lanes: &[&LaneRead<PgCursor>], marks: &Marks) -> Self {
        let prevs = || lanes.iter().map(|read| &*read.from.prev);
        let below: Vec<i64> = prevs().map(|prev| marks.floor_below(prev)).collect();
        let floors: Vec<i64> =
            prevs().zip(&below).map(|(prev, below)| prev.floor.max(*below)).collect();
        // A lane whose unfinished transactions have all their numbers above its floor has none.
        let may_be_late = || prevs().zip(&below).filter(|(prev, below)| prev.floor > **below);
        let late_up_to = may_be_late().map(|(prev, _)| prev.floor).max().unwrap_or(0);
        Self {
            place: Place::between(floors.iter().copied().min().unwrap_or(0), marks.latest()),
            floors,
            late: may_be_late().flat_map(|(prev, _)| prev.unfinished()).collect(),
            late_up_to,
            late_place: Place::between(below.into_iter().min().unwrap_or(0), late_up_to),
        }
    }
}

/// Opens a window for each lane that has new rows, and reads its first chunk, which usually is all
/// of it. Lanes that have to read more before they have a batch go to `to_read`.
pub(super) async fn look<'l>(
    session: &mut Session<'_>,
    lanes: &[&'l LaneRead<PgCursor>],
    batches: &mut Vec<LaneBatch<PgCursor>>,
    to_read: &mut Vec<ToRead<'l>>,
) -> Result<(), OutboxError> {
    let mut search = Search::of(lanes, session.marks);
    let (mut found, now) = loop {
        let (found, now) = look_at(session, lanes, &search).await?;
        if now.floor <= search.place.up_to() {
            break (found, now);
        }
        search.place = Place::Ring;
    };
    let Now { snapshot, floor, horizon } = now;
    let cur =
        horizon.map(|horizon| Arc::new(Snapshot { snapshot: snapshot.clone(), floor, horizon }));
    if let Some(cur) = &cur {
        session.marks.note(cur);
    }
    for read in lanes {
        let mut start = read.from.clone();
        let (Some(found), Some(cur)) = (found.remove(&read.lane), &cur) else {
            // Nothing is visible now that was not visible before, so the lane may start from this
            // snapshot: fewer transactions are still running in it. Floor and horizon stay: numbers
            // up to the floor still have ids below the horizon.
            let Snapshot { floor, horizon, .. } = &*start.prev;
            let (floor, horizon) = (*floor, horizon.clone());
            start.prev = Arc::new(Snapshot { snapshot: snapshot.clone(), floor, horizon });
            let end = start.clone();
            let (events, rest) = (Vec::new(), Rest::Nothing);
            batches.push(LaneBatch { lane: read.lane, events, start, end, save: false, rest });
            continue;
        };
        debug_assert!(
            invariants::windows_connect(
                (start.prev.floor, start.prev.horizon()),
                (cur.floor, cur.horizon())
            ),
            "{start:?}, {cur:?}"
        );
        start.cur = Some(Arc::clone(cur));
        start.last_seq = 0;
        if found.late_cut {
            to_read.push((read, Arc::clone(cur), start));
            continue;
        }
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
        batches.push(LaneBatch { lane: read.lane, events, start, end, save: false, rest });
    }
    Ok(())
}

async fn look_at(
    session: &mut Session<'_>,
    lanes: &[&LaneRead<PgCursor>],
    search: &Search,
) -> Result<(BTreeMap<Lane, Found>, Now), OutboxError> {
    let statement = LOOK
        .replace("{event}", &search.place.table())
        .replace("{late_event}", &search.late_place.table())
        .replace("{look_rows}", &LOOK_ROWS.to_string());
    let most_rows = |read: &LaneRead<PgCursor>| read.rows.min(LOOK_ROWS);
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
    let mut found = BTreeMap::<Lane, Found>::new();
    let mut of_unfinished = BTreeMap::<u64, u32>::new();
    let mut now = None;
    while let Some(row) = next(rows.as_mut()).await {
        let row = row?;
        if now.is_none() {
            if row.try_get(18)? {
                return Err(of_another_cluster());
            }
            if row.try_get::<i32, _>(19)? != session.backend {
                return Err(through_a_pooler());
            }
            now = Some(Now {
                snapshot: row.try_get(15)?,
                floor: row.try_get::<Option<i64>, _>(16)?.unwrap_or(0),
                horizon: row.try_get(17)?,
            });
        }
        let Some(lane) = row.try_get::<Option<i16>, _>(0)?.map(Lane::from_number) else { continue };
        let Some(read) = lanes.iter().find(|read| read.lane == lane) else { continue };
        let (xid, late): (&str, bool) = (row.try_get(13)?, row.try_get(14)?);
        let xid = xid.parse().unwrap_or(0);
        let row = row_of(&row)?;
        if late {
            *of_unfinished.entry(xid).or_default() += 1;
            // It was searched for another lane, and is old for this one or part of its main run.
            if row.seq() > read.from.prev.floor || read.from.prev.shows(xid) {
                continue;
            }
        }
        debug_assert!(
            !read.from.prev.shows(xid),
            "{} of {xid} is new to {:?}",
            row.seq(),
            read.from
        );
        let found = found.entry(lane).or_default();
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
    let now = now.ok_or_else(|| {
        OutboxError::new(ErrorKind::Database, "the database did not answer with a row")
    })?;
    let longer: Vec<u64> = of_unfinished
        .into_iter()
        .filter(|(_, rows)| *rows >= LOOK_ROWS)
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
    Ok((found, now))
}
