//! How far a lane is read.

use std::fmt;
use std::sync::Arc;

/// A position among the events that a relay has read of a lane since it holds it, in the order in
/// which it read them. Numbers would not do: what commits late may have a lower one than what was
/// read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MySqlCursor {
    /// Number of events before it.
    pub(super) position: u64,
    /// The numbers of the events of the batch that was read from here.
    batch: Arc<[i64]>,
}

impl MySqlCursor {
    /// Before all that is in the table.
    pub(super) fn start() -> Self {
        Self::at(0, Vec::new())
    }

    pub(super) fn at(position: u64, batch: Vec<i64>) -> Self {
        Self { position, batch: batch.into() }
    }

    /// The position before an event of the batch that was read from here.
    pub(super) fn before(&self, seq: i64) -> Self {
        let place = self.batch.iter().position(|other| *other == seq).unwrap_or(0);
        Self::at(self.position + place as u64, Vec::new())
    }
}

impl fmt::Display for MySqlCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_before_an_event_is_at_its_place_whatever_its_number() {
        let start = MySqlCursor::at(7, vec![12, 10, 15]);
        assert_eq!(start.before(12).position, 7);
        assert_eq!(start.before(10).position, 8);
        assert_eq!(start.before(15).position, 9);
    }
}
