//! What a test found.

use std::error::Error;
use std::fmt;

/// Why a test of this module failed: where, what was found there, what it means for your events,
/// and what to do next. Its `Debug` is the same text, so `unwrap` in a test shows it.
pub struct Finding(String);

impl Finding {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Finding {}
