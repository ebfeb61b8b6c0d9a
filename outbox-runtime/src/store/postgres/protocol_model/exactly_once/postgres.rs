//! A server of the model: its tables, what of them is on disk, and its counters in memory.

/// Ids that others draw between two windows and that are not logged.
const OF_OTHERS: u8 = 2;

/// Number of the server's process: a crash and a failover give another one.
pub(super) type Incarnation = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Snapshot {
    pub(super) end: u8,
    /// The transactions that are running, one bit each.
    running: u128,
    floor: u8,
    horizon: u8,
}

impl Snapshot {
    /// Whether it shows what this transaction wrote, if that has been committed.
    fn shows(&self, xid: u8) -> bool {
        xid < self.end && self.running >> xid & 1 == 0
    }

    /// A later snapshot in which nothing was new: bounds of the earlier one stay.
    fn idle(later: Self, earlier: &Self) -> Self {
        Self { floor: earlier.floor, horizon: earlier.horizon, ..later }
    }

    /// The highest transaction id that must be spent wherever this is used.
    pub(super) fn need(&self) -> u8 {
        self.end.max(self.horizon)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Cursor {
    prev: Snapshot,
    cur: Option<Snapshot>,
    last: u8,
}

impl Cursor {
    /// Whether the cursor is behind this row.
    pub(super) fn passed(&self, row: &Row) -> bool {
        self.prev.shows(row.xid)
            || row.seq <= self.last && self.cur.as_ref().is_some_and(|cur| cur.shows(row.xid))
    }

    pub(super) fn need(&self) -> u8 {
        self.prev.need().max(self.cur.as_ref().map_or(0, Snapshot::need))
    }

    pub(super) fn is_open(&self) -> bool {
        self.cur.is_some()
    }

    pub(super) fn open(&mut self, cur: Snapshot) {
        self.cur = Some(cur);
        self.last = 0;
    }

    pub(super) fn advance(&mut self, seq: u8) {
        self.last = seq;
    }

    pub(super) fn close(&mut self) {
        self.prev = self.cur.take().unwrap_or_default();
        self.last = 0;
    }

    /// Nothing was new.
    pub(super) fn idle(&mut self, later: Snapshot) {
        self.prev = Snapshot::idle(later, &self.prev);
    }

    /// The next row of the open window, found as `window.rs` does.
    pub(super) fn next_row<'r>(&self, rows: &'r [Row]) -> Option<&'r Row> {
        let cur = self.cur.as_ref()?;
        let prev = &self.prev;
        let found = |row: &&Row| {
            let straggler = prev.running >> row.xid & 1 == 1
                || (prev.end..prev.horizon.max(prev.end)).contains(&row.xid);
            row.seq > self.last
                && cur.shows(row.xid)
                && if row.seq > prev.floor { !prev.shows(row.xid) } else { straggler }
        };
        rows.iter().filter(found).min_by_key(|row| row.seq)
    }

    pub(super) fn has_news(&self, rows: &[Row]) -> bool {
        rows.iter().any(|row| !self.prev.shows(row.xid))
    }
}

/// A committed event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// Which event it is. Numbers can be drawn again after a failover, and mean another event then.
    pub(super) event: u8,
    pub(super) key: u8,
    pub(super) xid: u8,
    pub(super) seq: u8,
}

/// The cursor in the database, which trails.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Saved {
    pub(super) cursor: Cursor,
    pub(super) claim: u8,
    pub(super) number: u8,
}

/// A claim whose progress may be adopted, with the witness that it had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Earlier {
    pub(super) claim: u8,
    pub(super) witness: u8,
}

/// What a prefix of the write-ahead log says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Db {
    /// The highest transaction id and number in the log.
    logged: u8,
    logged_seq: u8,
    pub(super) rows: Vec<Row>,
    /// The events that were committed, one bit each, whether or not their rows are still there.
    pub(super) committed: u32,
    pub(super) claim: u8,
    /// 0 until the claim is confirmed.
    pub(super) witness: u8,
    pub(super) earlier: Vec<Earlier>,
    /// Whether a relay has adopted progress: then there must be some on the topic.
    pub(super) adopted: bool,
    /// The claim that was ended when the delivery was changed.
    pub(super) ended: u8,
    pub(super) saved: Saved,
    pub(super) parked: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) incarnation: Incarnation,
    pub(super) live: Db,
    pub(super) flushed: Db,
    next_xid: u8,
    next_seq: u8,
    running: u128,
}

impl Server {
    /// A server whose log ends with `db`: ids that were drawn and not logged are drawn again.
    pub(super) fn recovered(db: Db, incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            next_xid: db.logged + 1,
            next_seq: db.logged_seq + 1,
            running: 0,
            flushed: db.clone(),
            live: db,
        }
    }

    /// A snapshot; after it the floor is read, and after that the horizon is drawn, which is not
    /// logged. `lanes.rs` searches what happens between the three.
    pub(super) fn open_window(&mut self) -> Snapshot {
        let horizon = self.next_xid + OF_OTHERS;
        self.next_xid = horizon + 1;
        Snapshot { end: horizon, running: self.running, floor: self.next_seq - 1, horizon }
    }

    /// A writer draws its id and its number, in this order, and inserts its row.
    pub(super) fn begin(&mut self) -> (u8, u8) {
        let (xid, seq) = (self.next_xid, self.next_seq);
        self.next_xid += 1;
        self.next_seq += 1;
        self.running |= 1 << xid;
        self.live.logged = xid;
        self.live.logged_seq = seq;
        (xid, seq)
    }

    pub(super) fn commit(&mut self, row: Row, sync: bool) {
        self.running &= !(1 << row.xid);
        self.live.committed |= 1 << row.event;
        self.live.rows.push(row);
        self.flush_if(sync);
    }

    /// A transaction of ours, with the id that it draws.
    pub(super) fn transact<T>(&mut self, sync: bool, change: impl FnOnce(&mut Db, u8) -> T) -> T {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.live.logged = xid;
        let result = change(&mut self.live, xid);
        self.flush_if(sync);
        result
    }

    /// A commit is on disk with all that was logged before it.
    fn flush_if(&mut self, sync: bool) {
        if sync {
            self.flushed = self.live.clone();
        }
    }
}
