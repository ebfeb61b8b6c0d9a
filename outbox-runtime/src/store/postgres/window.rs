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
//! The window is read in chunks above `last_seq`. It is saved in the lane's row *before* anything of it is read: a
//! server that crashes hands out again the transaction ids that it had not yet logged, and a snapshot kept only in
//! memory would then take new rows for old ones. So a cursor is only ever moved from the window that the row has; if
//! the row has another, it is read again from there.
//!
//! The proof by experiment is `tests/window_fuzz.rs`.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::time::OffsetDateTime;

use super::PgStore;
use crate::error::{ErrorKind, OutboxError};
use crate::event::Headers;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::{LaneBatch, ReadLimits, sql};

/// How far a lane is read: everything visible in `prev`, and, when a window is open, its rows up to `last_seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgCursor {
    pub(super) prev: Snapshot,
    pub(super) cur: Option<Snapshot>,
    pub(super) last_seq: i64,
}

/// A database snapshot, with the two marks that were taken around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// `pg_snapshot` in its text form.
    pub(super) snapshot: String,
    /// The sequence's value just before.
    pub(super) floor: i64,
    /// A transaction id (`xid8` in its text form) drawn just after.
    pub(super) horizon: String,
}

impl PgCursor {
    /// The same window, read further.
    pub(super) fn advanced_to(mut self, seq: i64) -> Self {
        self.last_seq = seq;
        self
    }

    /// The window that it is in, or has just read to its end.
    pub(super) fn window(&self) -> &Snapshot {
        self.cur.as_ref().unwrap_or(&self.prev)
    }

    /// The window read to its end.
    fn closed(self) -> Self {
        Self { prev: self.cur.unwrap_or(self.prev), cur: None, last_seq: 0 }
    }
}

/// The lanes that have rows which `prev` does not show. Read-only, so an idle relay draws no transaction id. The
/// second column finds out a database whose transaction ids started over.
const LANES_WITH_NEWS: &str = "\
select
  array(
    select l.lane from unnest($1::smallint[], $2::text[]::pg_snapshot[]) as l (lane, prev)
    where (select true from {event} e
           where e.lane = l.lane and e.xid >= pg_snapshot_xmax(l.prev)
           order by e.xid limit 1)
       or (select true from pg_snapshot_xip(l.prev) as running (xid)
           cross join lateral (
             select from {event} e
             where e.lane = l.lane and e.xid between running.xid and running.xid
             order by e.xid limit 1) e
           limit 1)),
  pg_snapshot_xmax(pg_current_snapshot()) < (select max(pg_snapshot_xmax(prev::pg_snapshot)::text::numeric)
                                             from unnest($2::text[]) as p (prev))::text::xid8";

/// There is news, so the sequence was drawn from: `last_value` is the last number given out.
const SEQUENCE_VALUE: &str = "select last_value from {seq}";

/// Takes the snapshot and saves the window. The snapshot is taken when the statement begins, the transaction id drawn
/// while it runs: after it.
const OPEN_WINDOW: &str = "\
with taken as materialized (select pg_current_snapshot() as snapshot, pg_current_xact_id() as horizon)
update {lane} l
set cur = taken.snapshot, cur_h = taken.horizon, cur_floor = $1, last_seq = 0
from taken, unnest($3::smallint[], $4::bigint[], $5::text[]) as held (lane, epoch, prev)
where l.lane = held.lane and l.owner = $2 and l.epoch = held.epoch and l.cur is null and l.prev::text = held.prev
returning l.lane, l.cur::text, l.cur_h::text";

/// The next chunk of each lane's window. Rows of one transaction are asked for `between` its id and its id, here and
/// above, and in the order of `xid`: only the index on (lane, xid, seq) gives that order. Asked for `= xid`, the planner
/// may take the one on (lane, seq), and walk through all that is retained.
///
/// `found` counts a lane's rows before they are cut off at `bytes`.
const READ_WINDOW: &str = "\
select e.lane, e.seq, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers::text, e.payload,
       e.occurred_at, e.found
from unnest($1::smallint[], $2::text[]::pg_snapshot[], $3::bigint[], $4::text[]::xid8[], $5::text[]::pg_snapshot[],
            $6::bigint[], $7::bigint[])
  as l (lane, prev, prev_floor, prev_h, cur, last_seq, max_rows)
cross join lateral (
  select chunk.*, count(*) over () as found, sum(octet_length(payload)) over (order by seq) as running_bytes
  from (
    (select e.*  -- stragglers
     from (
       select pg_snapshot_xip(l.prev)
       union all
       select generate_series(pg_snapshot_xmax(l.prev)::text::bigint, l.prev_h::text::bigint - 1)::text::xid8
     ) as unfinished (xid)
     cross join lateral (
       select e.* from {event} e
       where e.lane = l.lane and e.xid between unfinished.xid and unfinished.xid
         and e.seq > l.last_seq and e.seq <= l.prev_floor and pg_visible_in_snapshot(e.xid, l.cur)
       order by e.xid, e.seq limit l.max_rows
     ) e
     order by e.seq limit l.max_rows)
    union all
    (select e.* from {event} e  -- main run
     where e.lane = l.lane and e.seq > greatest(l.prev_floor, l.last_seq)
       and pg_visible_in_snapshot(e.xid, l.cur) and not pg_visible_in_snapshot(e.xid, l.prev)
     order by e.seq limit l.max_rows)
    order by seq limit l.max_rows
  ) chunk
) e
where e.running_bytes - octet_length(e.payload) < $8
order by e.lane, e.seq";

impl PgStore {
    /// Opens a window for the lanes that have none, where there is anything new.
    pub(super) async fn open_windows(&mut self) -> Result<(), OutboxError> {
        let (lanes, prevs): (Vec<i16>, Vec<&str>) = self
            .held()
            .filter(|(_, held)| held.read.cur.is_none())
            .map(|(lane, held)| (lane.number(), held.read.prev.snapshot.as_str()))
            .unzip();
        if lanes.is_empty() {
            return Ok(());
        }
        let (news, started_over): (Vec<i16>, bool) = sqlx::query_as(sql(self.names.fill(LANES_WITH_NEWS)))
            .bind(&lanes)
            .bind(&prevs)
            .fetch_one(&self.pool)
            .await?;
        if started_over {
            return Err(transaction_ids_started_over());
        }
        if news.is_empty() {
            return Ok(());
        }
        let floor: i64 =
            sqlx::query_scalar(sql(self.names.fill(SEQUENCE_VALUE))).fetch_one(&self.pool).await?;
        let to_open: Vec<(i16, i64, &str)> = self
            .held()
            .filter(|(lane, _)| news.contains(&lane.number()))
            .map(|(lane, held)| (lane.number(), held.epoch, held.read.prev.snapshot.as_str()))
            .collect();
        let opened: Vec<(i16, String, String)> = sqlx::query_as(sql(self.names.fill(OPEN_WINDOW)))
            .bind(floor)
            .bind(self.owner)
            .bind(to_open.iter().map(|(lane, ..)| *lane).collect::<Vec<_>>())
            .bind(to_open.iter().map(|(_, epoch, _)| *epoch).collect::<Vec<_>>())
            .bind(to_open.iter().map(|(.., prev)| *prev).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        self.forget_lost(&news, &opened.iter().map(|(lane, ..)| *lane).collect::<Vec<_>>());
        for (lane, snapshot, horizon) in opened {
            if let Some(held) = &mut self.lanes[Lane::from_number(lane).index()] {
                held.read.cur = Some(Snapshot { snapshot, floor, horizon });
                held.read.last_seq = 0;
                held.saved = held.read.clone();
            }
        }
        Ok(())
    }

    /// Reads the next chunk of every open window, and closes those that are read to their end.
    pub(super) async fn read_windows(
        &mut self,
        limits: &ReadLimits,
    ) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
        let open: Vec<(Lane, u32, PgCursor, Snapshot)> = self
            .held()
            .filter_map(|(lane, held)| {
                let rows = limits.rows[lane.index()];
                let cur = held.read.cur.clone().filter(|_| rows > 0)?;
                Some((lane, rows, held.read.clone(), cur))
            })
            .collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(sql(self.names.fill(READ_WINDOW)))
            .bind(open.iter().map(|(lane, ..)| lane.number()).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, _, at, _)| at.prev.snapshot.as_str()).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, _, at, _)| at.prev.floor).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, _, at, _)| at.prev.horizon.as_str()).collect::<Vec<_>>())
            .bind(open.iter().map(|(.., cur)| cur.snapshot.as_str()).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, _, at, _)| at.last_seq).collect::<Vec<_>>())
            .bind(open.iter().map(|(_, rows, ..)| i64::from(*rows)).collect::<Vec<_>>())
            .bind(i64::try_from(limits.bytes).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;

        let mut chunks: BTreeMap<Lane, (Vec<StoredEvent>, i64)> = BTreeMap::new();
        for row in &rows {
            let event = stored_event(row)?;
            let chunk = chunks.entry(event.lane).or_default();
            chunk.1 = row.try_get("found")?;
            chunk.0.push(event);
        }
        let mut batches = Vec::with_capacity(chunks.len());
        let mut emptied = Vec::new();
        for (lane, max_rows, start, _) in open {
            let (events, found) = chunks.remove(&lane).unwrap_or_default();
            let whole_window = found < i64::from(max_rows) && found == events.len() as i64;
            let end = match events.last() {
                Some(last) if !whole_window => start.clone().advanced_to(last.seq),
                _ => start.clone().closed(),
            };
            if let Some(held) = &mut self.lanes[lane.index()] {
                held.read = end.clone();
            }
            if events.is_empty() {
                emptied.push((lane, end));
            } else {
                batches.push(LaneBatch { lane, events, start, end });
            }
        }
        // Somebody deleted the rows for which the window was opened.
        self.save_cursors(emptied).await?;
        Ok(batches)
    }
}

fn transaction_ids_started_over() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        "the database's transaction ids are lower than the relay's saved progress: a dump was restored into a new \
         cluster. The relay stopped, for it would miss events; all of them are still in the outbox. Move the \
         progress into this cluster with `update outbox_event set xid = '3'; update outbox_lane set prev = '3:3:', \
         prev_floor = 0, prev_h = '3', cur = null, last_seq = 0` (with your schema and prefix): every retained \
         event is then published again, and idempotent consumers skip those they know",
    )
}

fn stored_event(row: &PgRow) -> Result<StoredEvent, OutboxError> {
    let version: i32 = row.try_get("version")?;
    Ok(StoredEvent {
        lane: Lane::from_number(row.try_get("lane")?),
        seq: row.try_get("seq")?,
        record: EventRecord {
            id: row.try_get("id")?,
            topic: row.try_get::<String, _>("topic")?.into(),
            key: row.try_get("key")?,
            name: row.try_get::<String, _>("name")?.into(),
            version: version.unsigned_abs(),
            content_type: row.try_get::<String, _>("content_type")?.into(),
            headers: Headers::from_stored(row.try_get("headers")?)?,
            payload: row.try_get("payload")?,
            occurred_at: row.try_get::<OffsetDateTime, _>("occurred_at")?.into(),
        },
    })
}
