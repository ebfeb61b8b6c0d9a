//! What is wrong with a lock, or with `topics.toml`, that cannot be read.

use std::fmt;

/// Why a text is no lock, or no `topics.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockError {
    /// From 1.
    pub line: usize,
    what: String,
}

impl LockError {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }

    /// Without the line.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for LockError {}
