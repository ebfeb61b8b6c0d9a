//! The values of a consumer's settings: [`ConsumerBuilder`](super::ConsumerBuilder) sets and
//! documents them.

use std::time::Duration;

use crate::consume::policy::{Undecodable, UnknownEvents};
use crate::trace::Relation;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) max_in_flight: usize,
    pub(super) max_bytes_in_flight: usize,
    pub(super) drain_timeout: Duration,
    pub(super) undecodable: Undecodable,
    pub(super) unknown_events: UnknownEvents,
    pub(super) create_topics: bool,
    pub(super) inbox_retention: Duration,
    pub(super) first_delivery: Relation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            max_in_flight: 1_000,
            max_bytes_in_flight: 64 << 20,
            drain_timeout: Duration::from_secs(10),
            undecodable: Undecodable::DeadLetter,
            unknown_events: UnknownEvents::Skip,
            create_topics: true,
            inbox_retention: Duration::from_secs(15 * 24 * 60 * 60),
            first_delivery: Relation::default(),
        }
    }
}
