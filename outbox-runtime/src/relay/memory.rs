//! The relay's memory: everything that holds events draws on one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe;
use crate::record::StoredEvent;

/// Each event counts twice: the publisher has a copy of its own until it is acknowledged.
const COPIES: u64 = 2;
/// Bytes that an event takes besides its contents.
const EVENT_OVERHEAD: u64 = 128;

/// The budget in bytes, and how much of it is used.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    used: Arc<AtomicU64>,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// How many bytes of events may still be read. While others are held, a small remainder counts
    /// as none: reads would be tiny.
    pub(super) fn room(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        match self.limit.saturating_sub(used) {
            left if used > 0 && left < self.limit / 64 => 0,
            left => left / COPIES,
        }
    }

    /// Counts these events as held until the result is dropped.
    pub(super) fn hold<'e>(&self, events: impl IntoIterator<Item = &'e StoredEvent>) -> Held {
        let bytes = |event: &StoredEvent| event.record.bytes() * COPIES + EVENT_OVERHEAD;
        let bytes = events.into_iter().map(bytes).sum();
        self.used.fetch_add(bytes, Ordering::Relaxed);
        observe::held(bytes);
        Held { bytes, used: Arc::clone(&self.used) }
    }
}

/// Bytes that are in use for as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
        observe::no_longer_held(self.bytes);
    }
}
