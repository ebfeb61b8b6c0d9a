//! The state of the model, and its steps.

use std::collections::BTreeSet;

use super::{Flaw, Scene};
use crate::store::postgres::lanes::invariants;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// It has its transaction id, and waits for the lock or does something else.
    Begun(u8),
    Emitted(u8),
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Snapshot {
    end: u8,
    in_progress: BTreeSet<u8>,
    floor: u8,
    horizon: u8,
}

impl Snapshot {
    /// Whether it shows what this transaction wrote, if that has been committed.
    fn shows(&self, xid: u8) -> bool {
        xid < self.end && !self.in_progress.contains(&xid)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Cursor {
    prev: Snapshot,
    cur: Option<Snapshot>,
    last: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Relay {
    epoch: u8,
    cursor: Cursor,
    /// A window that is being opened: its snapshot, and whether the floor was read.
    opening: Option<(Snapshot, bool)>,
    in_flight: Option<u8>,
    unsaved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    xid: u8,
    seq: u8,
    key: u8,
    committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    writers: Vec<Writer>,
    rows: Vec<Row>,
    next_xid: u8,
    next_seq: u8,
    /// Ids of the transactions that are running.
    running: BTreeSet<u8>,
    epoch: u8,
    leased: bool,
    saved: Cursor,
    relays: Vec<Option<Relay>>,
    /// Published numbers, in the order of their publication.
    topic: Vec<u8>,
    /// Number and key of all rows that were ever committed.
    committed: Vec<(u8, u8)>,
    /// Bounds of the search.
    mishaps_left: u8,
    windows_left: u8,
}

impl World {
    pub(super) fn new(scene: Scene) -> Self {
        Self {
            writers: vec![Writer::Idle; scene.keys.len()],
            rows: Vec::new(),
            next_xid: 1,
            next_seq: 1,
            running: BTreeSet::new(),
            epoch: 0,
            leased: false,
            saved: Cursor::default(),
            relays: vec![None; scene.relays],
            topic: Vec::new(),
            committed: Vec::new(),
            mishaps_left: scene.mishaps,
            windows_left: scene.windows,
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { end: self.next_xid, in_progress: self.running.clone(), floor: 0, horizon: 0 }
    }

    pub(super) fn steps(&self, keys: &[u8], flaw: Flaw) -> Vec<Self> {
        let mut steps = Vec::new();
        for n in 0..keys.len() {
            self.write(n, keys, &mut steps);
        }
        for n in 0..self.relays.len() {
            self.relay(n, flaw, &mut steps);
        }
        self.reclaim(flaw, &mut steps);
        if self.leased && self.mishaps_left > 0 {
            // The lease runs out: its owner is dead or sleeps.
            let mut next = self.clone();
            (next.leased, next.mishaps_left) = (false, self.mishaps_left - 1);
            steps.push(next);
        }
        steps
    }

    fn write(&self, n: usize, keys: &[u8], steps: &mut Vec<Self>) {
        let mut next = self.clone();
        match self.writers[n] {
            Writer::Idle => {
                next.writers[n] = Writer::Begun(self.next_xid);
                next.running.insert(self.next_xid);
                next.next_xid += 1;
                steps.push(next);
            }
            Writer::Begun(xid) => {
                let locked = (0..keys.len()).any(|other| {
                    keys[other] == keys[n] && matches!(self.writers[other], Writer::Emitted(_))
                });
                if !locked {
                    next.writers[n] = Writer::Emitted(xid);
                    next.rows.push(Row { xid, seq: self.next_seq, key: keys[n], committed: false });
                    next.next_seq += 1;
                    steps.push(next);
                }
            }
            Writer::Emitted(xid) => {
                next.writers[n] = Writer::Ended;
                next.running.remove(&xid);
                for row in next.rows.iter_mut().filter(|row| row.xid == xid) {
                    row.committed = true;
                    next.committed.push((row.seq, row.key));
                }
                steps.push(next);
                if n + 1 == keys.len() {
                    let mut rolled_back = self.clone();
                    rolled_back.writers[n] = Writer::Ended;
                    rolled_back.running.remove(&xid);
                    rolled_back.rows.retain(|row| row.xid != xid);
                    steps.push(rolled_back);
                }
            }
            Writer::Ended => {}
        }
    }

    /// The first row of the cursor's window after its last.
    fn next_row(&self, cursor: &Cursor, flaw: Flaw) -> Option<u8> {
        let cur = cursor.cur.as_ref()?;
        let prev = &cursor.prev;
        let found = |row: &&Row| {
            if !(row.committed && row.seq > cursor.last && cur.shows(row.xid)) {
                return false;
            }
            if flaw == Flaw::PlainCursor {
                return row.seq > prev.floor;
            }
            let until = if flaw == Flaw::NoHorizon { prev.end } else { prev.horizon };
            let straggler =
                prev.in_progress.contains(&row.xid) || (prev.end..until).contains(&row.xid);
            if row.seq > prev.floor { !prev.shows(row.xid) } else { straggler }
        };
        self.rows.iter().filter(found).map(|row| row.seq).min()
    }

    fn relay(&self, n: usize, flaw: Flaw, steps: &mut Vec<Self>) {
        let Some(relay) = &self.relays[n] else {
            if !self.leased {
                steps.push(self.taken_over(n, flaw));
            }
            return;
        };
        if let Some(next) = self.advanced(n, relay, flaw) {
            steps.push(next);
        }
        if relay.unsaved && relay.in_flight.is_none() {
            steps.push(self.saved(n, relay));
        }
        if self.mishaps_left > 0 {
            let mut next = self.clone();
            (next.relays[n], next.mishaps_left) = (None, self.mishaps_left - 1);
            steps.push(next);
        }
    }

    /// The relay takes the lane, and continues from what is saved.
    fn taken_over(&self, n: usize, flaw: Flaw) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        next.leased = true;
        let mut cursor = self.saved.clone();
        if flaw == Flaw::ForgetStragglers
            && let Some(cur) = cursor.cur.take()
        {
            cursor = Cursor { prev: cur, cur: None, last: 0 };
        }
        let epoch = next.epoch;
        next.relays[n] =
            Some(Relay { epoch, cursor, opening: None, in_flight: None, unsaved: false });
        next
    }

    /// The relay's next step, of which there is one at a time: it publishes what is in flight,
    /// opens a window, or reads the next row of the window that is open.
    fn advanced(&self, n: usize, relay: &Relay, flaw: Flaw) -> Option<Self> {
        let (mut next, mut relay) = (self.clone(), relay.clone());
        if relay.in_flight.is_some() {
            next.topic.extend(relay.in_flight.take());
            relay.unsaved = true;
        } else if let Some((snapshot, has_floor)) = relay.opening.take() {
            next.open_window(&mut relay, snapshot, has_floor, flaw);
        } else if relay.cursor.cur.is_some() {
            next.read_row(&mut relay, flaw);
        } else if self.windows_left > 0 {
            next.windows_left -= 1;
            relay.opening = Some((next.snapshot(), false));
        } else {
            return None;
        }
        next.relays[n] = Some(relay);
        Some(next)
    }

    /// The floor is read after the snapshot, and the horizon is drawn after both.
    fn open_window(
        &mut self,
        relay: &mut Relay,
        mut snapshot: Snapshot,
        has_floor: bool,
        flaw: Flaw,
    ) {
        if !has_floor {
            snapshot.floor = self.next_seq - 1;
            relay.opening = Some((snapshot, true));
            return;
        }
        snapshot.horizon = self.next_xid;
        self.next_xid += 1;
        let prev = &relay.cursor.prev;
        assert!(
            flaw != Flaw::None
                || invariants::windows_connect(
                    (prev.floor.into(), prev.horizon.into()),
                    (snapshot.floor.into(), snapshot.horizon.into()),
                ),
            "{prev:?}, {snapshot:?}"
        );
        relay.cursor.cur = Some(snapshot);
        relay.cursor.last = 0;
    }

    /// The next row of the window is in flight, or the window is read to its end.
    fn read_row(&mut self, relay: &mut Relay, flaw: Flaw) {
        if let Some(seq) = self.next_row(&relay.cursor, flaw) {
            relay.cursor.last = seq;
            relay.in_flight = Some(seq);
            if flaw == Flaw::SaveUndelivered && self.epoch == relay.epoch {
                self.saved = relay.cursor.clone();
            }
        } else {
            let prev = relay.cursor.cur.take().unwrap_or_default();
            relay.cursor = Cursor { prev, cur: None, last: 0 };
            relay.unsaved = true;
        }
    }

    fn saved(&self, n: usize, relay: &Relay) -> Self {
        let mut next = self.clone();
        if self.epoch == relay.epoch && self.leased {
            next.saved = relay.cursor.clone();
            if let Some(relay) = &mut next.relays[n] {
                relay.unsaved = false;
            }
        } else {
            // The fence: the lane belongs to another relay now.
            next.relays[n] = None;
        }
        next
    }

    /// Each number has a leaf of its own; the last number's leaf is in use.
    fn reclaim(&self, flaw: Flaw, steps: &mut Vec<Self>) {
        let Some(row) = self.rows.iter().find(|row| row.committed && row.seq + 1 < self.next_seq)
        else {
            return;
        };
        let delivered = |cursor: &Cursor| {
            cursor.prev.shows(row.xid)
                || cursor
                    .cur
                    .as_ref()
                    .is_some_and(|cur| cur.shows(row.xid) && row.seq <= cursor.last)
        };
        let pending = if flaw == Flaw::ReclaimUnsaved {
            !self.relays.iter().flatten().any(|relay| delivered(&relay.cursor))
        } else {
            !delivered(&self.saved)
        };
        if !pending {
            let mut next = self.clone();
            next.rows.retain(|other| other.seq != row.seq);
            steps.push(next);
        }
    }

    pub(super) fn check(&self, flaw: Flaw) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for key in [0, 1] {
            let of_key = |seq: &u8| self.committed.contains(&(*seq, key));
            let first: Vec<u8> =
                self.topic.iter().copied().filter(of_key).filter(|seq| seen.insert(*seq)).collect();
            let due = self.committed.iter().filter(|(_, other)| *other == key).map(|(seq, _)| *seq);
            if !due.clone().take(first.len()).eq(first.iter().copied()) {
                return Err(format!(
                    "key {key} was committed as {:?}, published as {first:?}",
                    due.collect::<Vec<_>>()
                ));
            }
        }
        if self.writers.iter().all(|writer| *writer == Writer::Ended) {
            return self.recovered(flaw);
        }
        Ok(())
    }

    /// Everything is killed, and one relay starts again.
    fn recovered(&self, flaw: Flaw) -> Result<(), String> {
        let mut world = self.clone();
        world.relays.fill(None);
        (world.leased, world.mishaps_left, world.windows_left) = (false, 0, 2);
        loop {
            let mut steps = Vec::new();
            world.relay(0, flaw, &mut steps);
            // The first step of a relay is its work, the second its save.
            match steps.into_iter().next() {
                Some(next) if next != world => world = next,
                _ => break,
            }
        }
        let published: BTreeSet<u8> = world.topic.iter().copied().collect();
        match world.committed.iter().find(|(seq, _)| !published.contains(seq)) {
            Some((seq, _)) => Err(format!("event {seq} is lost")),
            None => Ok(()),
        }
    }
}
