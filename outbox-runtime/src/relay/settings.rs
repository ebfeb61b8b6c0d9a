//! The values of a relay's settings: [`RelayBuilder`](super::RelayBuilder) sets and documents them.

use std::time::Duration;

use super::memory::MemoryBudget;
use crate::trace::Tracing;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) poll_interval: Duration,
    pub(super) lease: Duration,
    pub(super) batch_rows: u32,
    pub(super) batch_bytes: u64,
    pub(super) memory: MemoryBudget,
    pub(super) drain_timeout: Duration,
    pub(super) park_after: u32,
    pub(super) retry_parked: Duration,
    pub(super) retention: Duration,
    /// That of the outbox.
    pub(super) tracing: Tracing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            lease: Duration::from_secs(5),
            batch_rows: 750,
            batch_bytes: 1024 * 1024,
            memory: MemoryBudget::new(64 * 1024 * 1024),
            drain_timeout: Duration::from_secs(10),
            park_after: 5,
            retry_parked: Duration::from_secs(30),
            retention: Duration::ZERO,
            tracing: Tracing::default(),
        }
    }
}
