//! What a lane does after its publisher failed: it waits, and finds out which event was refused.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::publish::DeliveryReport;
use crate::record::StoredEvent;

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause if no event was refused.
const LONGEST_PAUSE_WITHOUT_REFUSAL: Duration = Duration::from_secs(1);

/// What follows from the reports of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    Delivered,
    /// From the event at this place on, some were not sent, and none was refused.
    Interrupted {
        from: usize,
    },
    Refused(Refusal),
}

/// The refusal of an event of a batch.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Place of the first event that was not delivered. The refusal of a later event may be the
    /// reason why it has no answer: sent together, they would only fail again.
    pub(super) from: usize,
    /// Place of the event that was refused.
    pub(super) at: usize,
    pub(super) report: DeliveryReport,
}

impl Outcome {
    pub(super) fn of(events: &[StoredEvent], reports: Vec<DeliveryReport>) -> Self {
        let is_delivered = |place| reports.get(place).is_some_and(DeliveryReport::is_delivered);
        let Some(from) = (0..events.len()).find(|place| !is_delivered(*place)) else {
            // A batch without events has a report if its progress could not be published.
            let is_sent = reports.iter().skip(events.len()).all(DeliveryReport::is_delivered);
            return if is_sent { Self::Delivered } else { Self::Interrupted { from: 0 } };
        };
        let mut refused = reports.into_iter().enumerate().filter(|(_, report)| report.is_refusal());
        match refused.next() {
            Some((at, report)) if at < events.len() => Self::Refused(Refusal { from, at, report }),
            _ => Self::Interrupted { from },
        }
    }
}

/// The retry of a lane of which a batch was not delivered. It is sent again after a pause. If an
/// event was refused, its events are sent alone and one at a time, so that the refused event is
/// known for certain and none overtakes it.
#[derive(Debug)]
pub(super) struct LaneRetry {
    backoff: Backoff,
    not_before: Instant,
    /// Refusals of the event that is tried alone.
    refusals: u32,
    /// Number of the event that was refused in a batch: events up to it are sent alone. `None`: the
    /// batch failed through no fault of its events.
    alone_up_to: Option<i64>,
}

/// How a retry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Resumed {
    AfterRefusal,
    AfterInterruption,
}

impl LaneRetry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            refusals: 0,
            alone_up_to: None,
        }
    }

    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Whether its events are read and sent one at a time.
    pub(super) fn is_alone(&self) -> bool {
        self.alone_up_to.is_some()
    }

    /// Counts the refusal of an event that was sent alone, and returns how many it has.
    pub(super) fn refused_alone(&mut self) -> u32 {
        self.refusals += 1;
        self.refusals
    }

    /// Has the lane wait, and then send those up to the event `seq`, which was refused, alone.
    pub(super) fn pause_after_refusal(&mut self, seq: i64, now: Instant) {
        self.alone_up_to = self.alone_up_to.max(Some(seq));
        self.not_before = now + self.backoff.pause();
    }

    /// Has the lane wait, although none of its events was refused.
    pub(super) fn pause_after_interruption(&mut self, now: Instant) {
        self.not_before = now + self.backoff.pause().min(LONGEST_PAUSE_WITHOUT_REFUSAL);
    }

    /// Records that all events up to the number `last` are delivered or parked. Returns how the
    /// retry ended, if it did.
    pub(super) fn passed(&mut self, last: Option<i64>, now: Instant) -> Option<Resumed> {
        if self.alone_up_to > last {
            self.backoff.reset();
            self.not_before = now;
            self.refusals = 0;
            return None;
        }
        Some(match self.alone_up_to {
            Some(_) => Resumed::AfterRefusal,
            None => Resumed::AfterInterruption,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_ends_when_all_up_to_the_refused_event_is_passed() {
        let now = Instant::now();
        let mut retry = LaneRetry::new(now);
        retry.pause_after_interruption(now);
        assert!(!retry.is_alone() && retry.not_before() > now);
        assert!(retry.not_before() <= now + LONGEST_PAUSE_WITHOUT_REFUSAL);
        assert_eq!(retry.passed(None, now), Some(Resumed::AfterInterruption));

        retry.pause_after_refusal(7, now);
        retry.pause_after_refusal(5, now);
        assert!(retry.is_alone() && retry.not_before() > now);
        assert_eq!((retry.refused_alone(), retry.refused_alone()), (1, 2));
        assert_eq!(retry.passed(Some(6), now), None);
        assert_eq!((retry.not_before(), retry.refused_alone()), (now, 1), "of another event");
        assert_eq!(retry.passed(Some(7), now), Some(Resumed::AfterRefusal));
    }
}
