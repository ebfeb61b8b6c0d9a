//! How a batch becomes a part of a wave: it asks, is admitted, sends, reports, and hears what became
//! of the wave.

use std::fmt;

use tokio::sync::oneshot;

use crate::publish::{Batch, Place};
use crate::record::Lane;

/// What is to be part of a wave.
pub(super) struct Part {
    pub(super) lane: Lane,
    /// `None`: it has no place among the batches of the lane.
    pub(super) place: Option<Place>,
    /// Whether it must be the only one in its wave. A parked event that is tried again need not,
    /// as long as none is refused.
    pub(super) alone: bool,
    pub(super) events: usize,
    pub(super) bytes: u64,
    /// Up to where the lane is published by it.
    pub(super) position: Option<String>,
    /// Parked events that are published by it.
    pub(super) settles: Vec<i64>,
}

impl Part {
    pub(super) fn of(batch: &Batch<'_>) -> Self {
        let settles = match batch.progress {
            Some(_) => Vec::new(),
            None => batch.events.iter().map(|event| event.seq).collect(),
        };
        Self {
            alone: batch.alone,
            events: batch.events.len(),
            bytes: batch.events.iter().map(|event| event.record.bytes()).sum(),
            position: batch.progress.map(|position| position.to_string()),
            settles,
            ..Self::nothing(batch.lane, batch.place)
        }
    }

    /// Progress alone: what is before it is parked.
    pub(super) fn position(lane: Lane, at: &impl fmt::Display) -> Self {
        Self { position: Some(at.to_string()), ..Self::nothing(lane, None) }
    }

    pub(super) fn nothing(lane: Lane, place: Option<Place>) -> Self {
        let (position, settles) = (None, Vec::new());
        Self { lane, place, alone: false, events: 0, bytes: 0, position, settles }
    }

    /// Whether it is a parked event that is tried again.
    pub(super) fn is_retry(&self) -> bool {
        !self.settles.is_empty()
    }
}

/// A part that asks for its wave.
pub(super) struct Join {
    pub(super) part: Part,
    admitted: oneshot::Sender<Admission>,
}

/// The right to send in the wave that is open.
pub(super) struct Admission {
    /// Whether it is the only one in its wave.
    pub(super) alone: bool,
    /// Says whether all of it is reported as delivered. Dropped, it was not.
    pub(super) reported: oneshot::Sender<bool>,
    pub(super) outcome: oneshot::Receiver<Outcome>,
}

/// What became of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
}

/// A part of the wave that is open.
pub(super) struct Member {
    pub(super) part: Part,
    pub(super) report: oneshot::Receiver<bool>,
    pub(super) outcome: oneshot::Sender<Outcome>,
}

impl Join {
    pub(super) fn new(part: Part) -> (Self, oneshot::Receiver<Admission>) {
        let (admitted, admission) = oneshot::channel();
        (Self { part, admitted }, admission)
    }

    pub(super) fn admit(self, alone: bool) -> Member {
        let (reported, report) = oneshot::channel();
        let (outcome, outcome_of) = oneshot::channel();
        // Whoever asked may be gone; then its report never comes, and the wave is aborted.
        let _ = self.admitted.send(Admission { alone, reported, outcome: outcome_of });
        Member { part: self.part, report, outcome }
    }
}
