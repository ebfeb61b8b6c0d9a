//! Reading without loss and in order.
//!
//! `seq > last` loses events: a transaction may draw its number early and commit late. So the relay
//! reads *windows*: the rows that are visible in the snapshot `cur` and were not in the snapshot
//! `prev`, ordered by `seq`. Each committed row is in exactly one window, and the rows of one key
//! are in the order in which their writers held its lock.
//!
//! Within a window, a row is found in one of two ways:
//! - its number is above `prev_floor`, the sequence's value when `prev` was taken: the *main run*,
//!   by (lane, seq);
//! - its number is at or below it, so its transaction had begun by then, and was in progress in
//!   `prev`: a *straggler*. Its transaction's id is one of `prev`'s in-progress list, or lies
//!   between `prev`'s end and `prev_h`, an id drawn after `prev_floor` was read: by (xid, lane,
//!   seq).
//!
//! A *look* opens a window and reads its first rows in one statement, which sees what the window's
//! snapshot shows. Mostly that is all of it; the rest is read in chunks above `last_seq`. Windows
//! are kept in memory, and what is delivered of them is saved as a new row of the lane's progress.
//! A server that crashes hands out again the transaction ids that it had not yet logged, and a
//! window of the time before would take new rows for old ones: so a window is used, and saved, only
//! over the connection that it was opened over, which no crash and no failover survives. A *saved*
//! window is good for ever: the transaction that saved it drew its id after the snapshot, and with
//! that id in the log all lower ones are spent.
//!
//! A row's transaction id is drawn before its number. So of a transaction that is not older than
//! the id `prev_h` of some earlier window, all numbers are above that window's floor: this bounds
//! from below the numbers that a window can have, and mostly leaves a single leaf of the ring to
//! search. See `floors.rs`.
//!
//! The proof by experiment is `tests/it/window_fuzz.rs`.

use std::fmt;
use std::sync::Arc;

use sqlx::PgConnection;
use tokio::time::Instant;

use super::chunk;
use super::floors::{Marks, Place};
use super::{invariants, open};
use crate::error::{ErrorKind, OutboxError};
use crate::store::{LaneBatch, LaneRead, Names, Rest};

/// How far a lane is read: everything visible in `prev`, and, when a window is open, its rows up to
/// `last_seq`.
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

impl fmt::Display for PgCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.prev)?;
        if let Some(cur) = &self.cur {
            write!(f, "{cur}")?;
        }
        write!(f, ";{}", self.last_seq)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.snapshot, self.floor, self.horizon)
    }
}

impl PgCursor {
    /// The same window, read further.
    pub(super) fn advanced_to(mut self, seq: i64) -> Self {
        self.last_seq = seq;
        self
    }

    /// The window read to its end.
    pub(super) fn closed(self) -> Self {
        Self { prev: self.cur.unwrap_or(self.prev), cur: None, last_seq: 0 }
    }
}

/// The session that windows are opened, read and saved over.
pub(super) struct Session<'s> {
    pub(super) connection: &'s mut PgConnection,
    /// Which of the server's processes is at its other end.
    pub(super) backend: i32,
    pub(super) names: &'s Names,
    pub(super) marks: &'s mut Marks,
    /// No further statement of a read is begun after this, so that the leases are renewed in time.
    pub(super) until: Instant,
}

/// A lane whose window is open, from where it is to be read.
pub(super) type ToRead<'l> = (&'l LaneRead<PgCursor>, Arc<Snapshot>, PgCursor);

/// The next events of these lanes: opens a window for those that have none, where there is anything
/// new, reads the next chunk of each, and closes those that are read to their end.
pub(super) async fn read(
    session: &mut Session<'_>,
    lanes: &[LaneRead<PgCursor>],
) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
    let (open, closed): (Vec<_>, Vec<_>) = lanes.iter().partition(|read| read.from.cur.is_some());
    let mut to_read: Vec<ToRead<'_>> = open
        .into_iter()
        .filter_map(|read| Some((read, Arc::clone(read.from.cur.as_ref()?), read.from.clone())))
        .collect();
    let mut batches = Vec::with_capacity(lanes.len());
    if !closed.is_empty() {
        open::look(session, &closed, &mut batches, &mut to_read).await?;
    }
    // Most often they are all in one place, and find something there: then this is one call.
    while let Some((_, _, first)) = to_read.first() {
        let place = Place::of_window(first, session.marks);
        let (here, elsewhere): (Vec<_>, Vec<_>) = to_read
            .into_iter()
            .partition(|(_, _, start)| Place::of_window(start, session.marks) == place);
        to_read = elsewhere;
        let mut chunks = chunk::read(session, place, &here).await?;
        for (read, cur, start) in here {
            let chunk::Chunk { events, rest, .. } = chunks.remove(&read.lane).unwrap_or_default();
            debug_assert!(
                invariants::in_order(start.last_seq, events.iter().map(|event| event.seq)),
                "a chunk in order"
            );
            let end = match events.last() {
                Some(last) if rest != Rest::Nothing => start.clone().advanced_to(last.seq),
                None if rest != Rest::Nothing => start.clone(),
                // The floor was read after the snapshot: what it shows has no higher numbers.
                _ if place.up_to() < cur.floor => start.clone().advanced_to(place.up_to()),
                _ => start.clone().closed(),
            };
            if events.is_empty() && end.cur.is_some() && rest == Rest::Nothing {
                to_read.push((read, cur, end));
            } else {
                // Behind the end of a window that was not opened now, there may be news.
                let old = read.from.cur.is_some();
                let rest = if rest == Rest::Nothing && (old || end.cur.is_some()) {
                    Rest::More
                } else {
                    rest
                };
                // A saved window that turns out to be read to its end would keep its leaves from
                // being reclaimed.
                let save = read.from.cur.is_some() && end.cur.is_none();
                batches.push(LaneBatch { lane: read.lane, events, start, end, save, rest });
            }
        }
        if Instant::now() > session.until {
            break;
        }
    }
    batches.extend(to_read.into_iter().map(|(read, _, at)| {
        let (start, end) = (at.clone(), at);
        LaneBatch { lane: read.lane, events: Vec::new(), start, end, save: false, rest: Rest::More }
    }));
    Ok(batches)
}

/// The snapshots of one cluster mean nothing in another.
pub(super) fn of_another_cluster() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        "the relay's saved progress is in the transaction ids of another cluster: a dump was restored, or the cluster was \
         upgraded. The relay stopped, for it could miss events; all of them are still in the outbox. After pg_upgrade, \
         which keeps the ids, run \"update outbox_lane set sysid = null\". Otherwise move the progress into this cluster \
         with `update outbox_event set xid = '3'; insert into outbox_progress (lane) select lane from outbox_lane; \
         update outbox_lane set sysid = null` (both with your schema and prefix): every retained event is then published \
         again, and idempotent consumers skip those they know",
    )
}

/// A lane that has rows to publish, and none that says from where.
pub(super) fn progress_is_missing(names: &Names, lane: i16) -> OutboxError {
    let table = names.qualified("progress");
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "the table {table} says nothing of lane {lane}: its rows were deleted, or not all of a dump was restored. The \
             relay stopped, for it cannot know what is published; all retained events are still in the outbox. \
             `insert into {table} (lane) values ({lane})` has the retained events of this lane published again, and \
             idempotent consumers skip those they know"
        ),
    )
}

pub(super) fn through_a_pooler() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        "the relay's statements came to different sessions of the server: a transaction pooler is in between (PgBouncer with \
         pool_mode=transaction, or the like), and what the relay knows is of one session. It stopped; all events are still in \
         the outbox. Give it the address of Postgres itself, or of a pool with pool_mode=session: services that only \
         emit may stay behind the pooler",
    )
}
