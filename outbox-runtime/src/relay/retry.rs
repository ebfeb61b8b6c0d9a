//! The retry of a failed publish.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::record::{LANES, Lane};

/// The lanes that had an event refused: the suspects. Each is tried again after a pause, alone and *one event at a
/// time*: so a batch that is too large as a whole gets through in pieces, the event at fault is known for sure, and none
/// overtakes it.
#[derive(Debug)]
pub(super) struct LaneRetries([Option<LaneRetry>; LANES]);

#[derive(Debug, Clone, Copy)]
struct LaneRetry {
    backoff: Backoff,
    not_before: Instant,
    failures: u32,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl LaneRetries {
    pub(super) fn new() -> Self {
        Self([None; LANES])
    }

    /// How many events of the lane may be read now, if `rows` is what a healthy lane gets.
    pub(super) fn limit(&self, lane: Lane, rows: u32, now: Instant) -> u32 {
        match &self.0[lane.index()] {
            None => rows,
            Some(retry) if retry.not_before <= now => 1,
            Some(_) => 0,
        }
    }

    /// Notes a failure; returns how many there were in a row.
    pub(super) fn failed(&mut self, lane: Lane, now: Instant) -> u32 {
        let retry = self.0[lane.index()].get_or_insert(LaneRetry {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            failures: 0,
        });
        retry.not_before = now + retry.backoff.pause();
        retry.failures += 1;
        retry.failures
    }

    /// Notes that what was sent of a lane was delivered.
    pub(super) fn succeeded(&mut self, lane: Lane) {
        if self.0[lane.index()].take().is_some() {
            tracing::info!(lane = lane.number(), "lane goes on");
        }
    }

    pub(super) fn is_suspect(&self, lane: Lane) -> bool {
        self.0[lane.index()].is_some()
    }

    /// When the next lane may be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().flatten().map(|retry| retry.not_before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_lane_waits_and_then_gets_one_event_at_a_time() {
        let (mut retries, now) = (LaneRetries::new(), Instant::now());
        let mut lanes = Lane::all();
        let (failing, healthy) = (lanes.next().unwrap(), lanes.next().unwrap());
        assert_eq!(retries.failed(failing, now), 1);
        assert_eq!(retries.limit(failing, 500, now), 0);
        assert_eq!(retries.limit(failing, 500, retries.next_due().unwrap()), 1);
        assert_eq!(retries.limit(healthy, 500, now), 500);
        assert!(retries.is_suspect(failing) && !retries.is_suspect(healthy));
        retries.succeeded(failing);
        assert_eq!(retries.limit(failing, 500, now), 500);
    }
}
