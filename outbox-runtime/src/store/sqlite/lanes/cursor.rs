//! How far a lane is read.

use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorKind, OutboxError};
use crate::store::groups::Row;

/// The number up to which, inclusive, all of a lane is delivered or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteCursor(pub(in crate::store::sqlite) i64);

impl SqliteCursor {
    /// Whether a row is behind it.
    pub(in crate::store::sqlite) fn has_passed(self, row: Row) -> bool {
        row.seq <= self.0
    }
}

impl fmt::Display for SqliteCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SqliteCursor {
    type Err = OutboxError;

    /// Reads what [`Display`](fmt::Display) has written.
    fn from_str(text: &str) -> Result<Self, OutboxError> {
        text.parse().map(Self).map_err(|_| {
            OutboxError::new(ErrorKind::Database, "a cursor of the progress cannot be read")
        })
    }
}
