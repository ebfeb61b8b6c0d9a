//! How far a long action is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far an action on many dead letters is. Clones count the same: give one to the action, and
/// look at the other while it runs.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Nothing done yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing done yet, of this many.
    #[must_use]
    pub fn of(total: u64) -> Self {
        let progress = Self::new();
        progress.expect(total);
        progress
    }

    /// Counts more as done.
    pub fn add(&self, more: u64) {
        self.0.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Number of messages or dead letters that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Number of them that there are. 0: not known yet.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    pub(super) fn expect(&self, more: u64) {
        self.0.total.fetch_add(more, Ordering::Relaxed);
    }

    /// Offsets without a message, as those of transactions, count as done.
    pub(super) fn finish(&self) {
        self.0.done.store(self.total(), Ordering::Relaxed);
    }
}
