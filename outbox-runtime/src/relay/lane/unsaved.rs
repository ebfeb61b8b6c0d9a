//! Progress of a lane that is delivered and not saved yet.

use tokio::time::Instant;

use super::retry::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::backoff::Backoff;
use crate::relay::memory::Held;
use crate::store::{Lease, Parking, Progress};

#[derive(Debug)]
pub(super) struct Unsaved<C> {
    progress: Option<Progress<C>>,
    /// Memory of the events to be parked.
    held: Vec<Held>,
    /// Whether what is being saved has events to be parked.
    being_parked: bool,
    failure: Option<Failure>,
}

/// A failure to save the progress.
#[derive(Debug)]
struct Failure {
    backoff: Backoff,
    not_before: Instant,
}

impl<C: Clone> Unsaved<C> {
    pub(super) fn new() -> Self {
        Self { progress: None, held: Vec::new(), being_parked: false, failure: None }
    }

    pub(super) fn is_none(&self) -> bool {
        self.progress.is_none()
    }

    /// Whether the database did not accept it: nothing is sent until it does.
    pub(super) fn is_refused(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether events are to be parked, or are being parked.
    pub(super) fn is_parking(&self) -> bool {
        let parked = self.progress.iter().any(|progress| !progress.parked.is_empty());
        self.being_parked || parked
    }

    /// Bytes of the events to be parked.
    pub(super) fn bytes(&self) -> u64 {
        let parked = self.progress.iter().flat_map(|progress| &progress.parked);
        parked.map(|parking| parking.event.record.bytes()).sum()
    }

    /// Adds that the lane is delivered up to `cursor`, except for the events to be parked.
    pub(super) fn add(&mut self, lease: Lease, cursor: C, mut parked: Vec<Parking>, held: Held) {
        if !parked.is_empty() {
            self.held.push(held);
        }
        match &mut self.progress {
            Some(progress) => {
                progress.cursor = cursor;
                progress.parked.append(&mut parked);
            }
            None => self.progress = Some(Progress { lease, cursor, parked }),
        }
    }

    /// All of it. `None`: there is none, or it is too early to try again after a failure.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Progress<C>, Vec<Held>)> {
        if self.failure.as_ref().is_some_and(|failure| failure.not_before > now) {
            return None;
        }
        let progress = self.progress.take()?;
        self.being_parked = !progress.parked.is_empty();
        Some((progress, std::mem::take(&mut self.held)))
    }

    /// All of it, as the relay stops.
    pub(super) fn take_last(&mut self) -> Option<Progress<C>> {
        self.progress.take()
    }

    /// When to try to save again what the database did not accept.
    pub(super) fn try_again_at(&self) -> Option<Instant> {
        let failure = self.failure.as_ref().filter(|_| self.progress.is_some())?;
        Some(failure.not_before)
    }

    /// Takes in that it was saved, and returns whether the database had refused it before.
    pub(super) fn was_saved(&mut self) -> bool {
        self.being_parked = false;
        self.failure.take().is_some()
    }

    /// Puts back what the database did not accept, merged with what was delivered since. Returns
    /// when to try again, and whether this is the first failure.
    pub(super) fn was_refused(
        &mut self,
        progress: Progress<C>,
        held: Vec<Held>,
        now: Instant,
    ) -> (Instant, bool) {
        self.held.extend(held);
        self.being_parked = false;
        let later = self.progress.replace(progress);
        if let (Some(progress), Some(mut later)) = (&mut self.progress, later) {
            progress.cursor = later.cursor;
            progress.parked.append(&mut later.parked);
        }
        let is_first = self.failure.is_none();
        let failure = self.failure.get_or_insert_with(|| Failure {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
        });
        failure.not_before = now + failure.backoff.pause();
        (failure.not_before, is_first)
    }
}
