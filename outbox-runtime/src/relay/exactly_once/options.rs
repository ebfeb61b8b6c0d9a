//! The settings of exactly-once delivery.

use std::time::Duration;

use crate::durations::within;
use crate::store::groups::Groups;

/// How events are delivered exactly once, for
/// [`RelayBuilder::build_exactly_once`](crate::RelayBuilder::build_exactly_once).
///
/// The sixteen lanes of an outbox are in *groups*. A group is published by one relay at a time, in
/// one transaction of Kafka after the other, each with the progress of its lanes as the last record.
#[derive(Debug, Clone)]
pub struct ExactlyOnce {
    pub(super) groups: Groups,
    pub(super) commit_interval: Duration,
}

impl Default for ExactlyOnce {
    fn default() -> Self {
        Self { groups: Groups::at_most(2), commit_interval: Duration::from_millis(10) }
    }
}

impl ExactlyOnce {
    /// With all settings at their defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of groups that the lanes are divided into, and so the most relays that publish.
    /// Default: 2. One of 1, 2, 4, 8 and 16; what is between is brought down to the next of them. A
    /// group has four transactional producers, a connection to the database, and one transaction at
    /// a time. All relays of an outbox have the same number; it does not change while events are
    /// delivered exactly once.
    #[must_use]
    pub fn groups(mut self, groups: u16) -> Self {
        self.groups = Groups::at_most(groups);
        self
    }

    /// Least time from the begin of a transaction of a group to that of its next one. Default: 10
    /// ms; at most 1 s. A shorter one makes more transactions, each with less; a longer one makes
    /// events later.
    #[must_use]
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = within(interval, Duration::ZERO, Duration::from_secs(1));
        self
    }
}
