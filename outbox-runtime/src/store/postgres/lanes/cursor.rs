//! How far a lane is read.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{ErrorKind, OutboxError};
use crate::store::groups::Row;
use crate::store::names::Names;

/// How far a lane is read: everything visible in `prev` and, if a window is open, its rows up to
/// `last_seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgCursor {
    pub(super) prev: Arc<Snapshot>,
    pub(super) cur: Option<Arc<Snapshot>>,
    pub(super) last_seq: i64,
}

/// A database snapshot, with the sequence's value and the transaction id that were taken with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// `pg_snapshot` in its text form.
    pub(super) snapshot: String,
    /// The sequence's value, read after the snapshot.
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

    /// Whether a row is behind it.
    pub(in crate::store::postgres) fn has_passed(&self, Row { seq, xid }: Row) -> bool {
        let in_window = |cur: &Arc<Snapshot>| seq <= self.last_seq && cur.shows(xid);
        self.prev.shows(xid) || self.cur.as_ref().is_some_and(in_window)
    }

    /// The lowest transaction id of which it may not have passed all rows.
    pub(in crate::store::postgres) fn oldest_unfinished(&self) -> u64 {
        self.prev.oldest_unfinished()
    }

    /// The window read to its end.
    pub(super) fn closed(self) -> Self {
        Self { prev: self.cur.unwrap_or(self.prev), cur: None, last_seq: 0 }
    }
}

impl FromStr for PgCursor {
    type Err = OutboxError;

    /// Reads what [`Display`](fmt::Display) has written.
    fn from_str(text: &str) -> Result<Self, OutboxError> {
        let parse = || {
            let mut parts = text.split(';');
            let prev = Arc::new(Snapshot::parse(parts.next()?)?);
            let cur = match parts.next()? {
                "" => None,
                cur => Some(Arc::new(Snapshot::parse(cur)?)),
            };
            let last_seq = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { prev, cur, last_seq })
        };
        parse().ok_or_else(|| {
            OutboxError::new(ErrorKind::Database, "a cursor of the progress cannot be read")
        })
    }
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (snapshot, floor, horizon) = (parts.next()?, parts.next()?, parts.next()?);
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        let mut numbers = snapshot.splitn(3, ':');
        let bounds = numbers.next().is_some_and(is_number) && numbers.next().is_some_and(is_number);
        let in_progress = numbers.next()?;
        let list = in_progress.is_empty() || in_progress.split(',').all(is_number);
        (bounds && list && is_number(horizon) && parts.next().is_none()).then_some(Self {
            snapshot: snapshot.to_owned(),
            floor: floor.parse().ok()?,
            horizon: horizon.to_owned(),
        })
    }

    /// The horizon as a number. Falls back to 0, which constrains nothing, if the text is
    /// malformed.
    pub(super) fn horizon(&self) -> u64 {
        self.horizon.parse().unwrap_or(0)
    }

    /// The first transaction id that was not drawn yet.
    pub(super) fn end(&self) -> u64 {
        self.parts().1
    }

    /// Whether it shows the rows of this transaction, if that has committed.
    pub(super) fn shows(&self, xid: u64) -> bool {
        let (begin, end, in_progress) = self.parts();
        xid < begin || xid < end && !ids(in_progress).any(|other| other == xid)
    }

    /// The transactions that it does not show and that may have numbers up to its floor.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = u64> {
        let (_, end, in_progress) = self.parts();
        ids(in_progress).chain(end..self.horizon().max(end))
    }

    /// The lowest id that it does not show.
    pub(super) fn oldest_unfinished(&self) -> u64 {
        let (begin, end, in_progress) = self.parts();
        if in_progress.is_empty() { end } else { begin }
    }

    /// The parts of `xmin:xmax:xip,…`: transactions below the first have ended; those in the list,
    /// and from the second on, are in progress. Zeros, which constrain nothing, if the text is
    /// malformed.
    fn parts(&self) -> (u64, u64, &str) {
        let mut parts = self.snapshot.split(':');
        let mut number = || parts.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let (begin, end) = (number(), number());
        (begin, end, parts.next().unwrap_or(""))
    }
}

fn ids(list: &str) -> impl Iterator<Item = u64> {
    list.split(',').filter_map(|id| id.parse().ok())
}

/// The error for progress of another cluster: snapshots of one cluster mean nothing in another.
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

/// The error for a lane without progress: it is not known from where to publish.
pub(in crate::store::postgres) fn progress_is_missing(names: &Names, lane: i16) -> OutboxError {
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
