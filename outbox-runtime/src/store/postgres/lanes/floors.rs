//! Decides where in the ring to search for a window's rows.

use super::cursor::{PgCursor, Snapshot};

/// Number of leaves of the ring, and bits of a leaf's block of 2^20 numbers, as in `schema_v1.sql`.
pub(in crate::store::postgres) const LEAVES: i64 = 16;
pub(in crate::store::postgres) const BLOCK_BITS: u32 = 20;

/// Where a transaction's numbers begin: a transaction with the id `horizon` or a later one has only
/// numbers above `floor`. Kept as long as the connection.
#[derive(Debug)]
pub(super) struct FloorIndex(Vec<KnownFloor>);

#[derive(Debug, Clone, Copy)]
struct KnownFloor {
    horizon: u64,
    floor: i64,
}

impl Default for FloorIndex {
    fn default() -> Self {
        Self(vec![KnownFloor { horizon: 0, floor: 0 }])
    }
}

impl FloorIndex {
    const MOST: usize = 256;

    /// Adds those of saved windows, which stay valid for ever: a relay that starts knows from them
    /// where new rows begin.
    pub(super) fn note_saved<'s>(&mut self, snapshots: impl Iterator<Item = &'s Snapshot>) {
        let mut snapshots: Vec<_> =
            snapshots.map(|snapshot| (snapshot.horizon(), snapshot)).collect();
        snapshots.sort_by_key(|(horizon, _)| *horizon);
        snapshots.into_iter().for_each(|(_, snapshot)| self.note(snapshot));
    }

    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        let horizon = snapshot.horizon();
        if self.0.last().is_some_and(|last| last.horizon < horizon) {
            self.0.push(KnownFloor { horizon, floor: snapshot.floor });
        }
        if self.0.len() > Self::MOST {
            // Every other one of the older half is dropped: the older they are, the further apart.
            let mut position = 0;
            self.0.retain(|_| {
                position += 1;
                position > Self::MOST / 2 || position % 2 == 1
            });
        }
    }

    /// The floor of the latest window.
    pub(super) fn latest(&self) -> i64 {
        self.0.last().map_or(0, |last| last.floor)
    }

    /// A number below those of all rows that `snapshot` does not show.
    pub(super) fn floor_below(&self, snapshot: &Snapshot) -> i64 {
        let oldest = snapshot.oldest_unfinished();
        let below = self.0.partition_point(|known| known.horizon <= oldest);
        below.checked_sub(1).map_or(0, |last| self.0[last].floor)
    }
}

/// The part of the ring to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::postgres) enum RingRange {
    /// One leaf of the ring, up to the last number of its block.
    Leaf {
        leaf: i64,
        up_to: i64,
    },
    Ring,
}

impl RingRange {
    /// Numbers of a leaf.
    pub(in crate::store::postgres) const NUMBERS: i64 = 1 << BLOCK_BITS;

    /// The leaf of the first number above `floor`.
    pub(in crate::store::postgres) fn above(floor: i64) -> Self {
        let block = (floor + 1) >> BLOCK_BITS;
        Self::Leaf { leaf: block % LEAVES, up_to: ((block + 1) << BLOCK_BITS) - 1 }
    }

    /// The part with the numbers above `floor`, up to `last`.
    pub(super) fn between(floor: i64, last: i64) -> Self {
        let range = Self::above(floor);
        if last <= range.up_to() { range } else { Self::Ring }
    }

    pub(in crate::store::postgres) fn up_to(self) -> i64 {
        match self {
            Self::Leaf { up_to, .. } => up_to,
            Self::Ring => i64::MAX,
        }
    }

    /// As statements name it.
    pub(in crate::store::postgres) fn table(self) -> String {
        match self {
            Self::Leaf { leaf, .. } => format!("{{event_{leaf}}}"),
            Self::Ring => "{event}".to_owned(),
        }
    }

    /// The part for a lane's window, from its cursor on. One leaf at a time, unless several have to
    /// be searched for stragglers: each leaf costs a call.
    pub(super) fn of_window(cursor: &PgCursor, index: &FloorIndex) -> Self {
        let range = Self::above(index.floor_below(&cursor.prev).max(cursor.last_seq));
        if range.up_to() + (1 << BLOCK_BITS) < cursor.prev.floor { Self::Ring } else { range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str, floor: i64, horizon: u64) -> Snapshot {
        Snapshot { snapshot: text.to_owned(), floor, horizon: horizon.to_string() }
    }

    #[test]
    fn known_floors_bound_the_numbers_of_unfinished_transactions_from_below() {
        let mut index = FloorIndex::default();
        let running = snapshot("90:200:90,150", 0, 0);
        assert_eq!(index.floor_below(&running), 0, "nothing is known");
        index.note(&snapshot("", 1_000, 80));
        index.note(&snapshot("", 2_000, 100));
        assert_eq!(index.floor_below(&running), 1_000, "90 began after 80 was drawn");
        assert_eq!(index.floor_below(&snapshot("200:200:", 0, 0)), 2_000);
        assert_eq!(index.floor_below(&snapshot("79:200:79", 0, 0)), 0);
    }

    #[test]
    fn an_index_of_floors_does_not_grow_and_keeps_what_it_says() {
        let mut index = FloorIndex::default();
        for n in 1..10_000 {
            index.note(&snapshot("", n * 10, n as u64 * 100));
        }
        assert!(index.0.len() <= FloorIndex::MOST, "{}", index.0.len());
        for xid in (0..1_000_000).step_by(777) {
            let floor = index.floor_below(&snapshot(&format!("{xid}:{xid}:"), 0, 0));
            assert!(floor <= xid / 100 * 10, "{xid}: {floor}");
        }
        assert_eq!(
            index.floor_below(&snapshot("1000000:1000000:", 0, 0)),
            99_990,
            "the latest is there"
        );
    }

    #[test]
    fn a_range_is_the_leaf_of_the_next_number() {
        let block = 1 << 20;
        assert_eq!(RingRange::above(0), RingRange::Leaf { leaf: 0, up_to: block - 1 });
        assert_eq!(RingRange::above(block - 2), RingRange::Leaf { leaf: 0, up_to: block - 1 });
        assert_eq!(RingRange::above(block - 1), RingRange::Leaf { leaf: 1, up_to: 2 * block - 1 });
        assert_eq!(
            RingRange::above(33 * block),
            RingRange::Leaf { leaf: 1, up_to: 34 * block - 1 }
        );
    }
}
