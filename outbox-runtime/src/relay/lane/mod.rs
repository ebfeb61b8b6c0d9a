//! What a relay knows of a lane that it leases.

mod in_flight;
mod parked;
mod reports;
mod retry;
mod unsaved;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use in_flight::{InFlight, NextBatch};
use parked::ParkedKeys;
use retry::LaneRetry;
use unsaved::Unsaved;

use super::memory::Held;
use super::reading::Bounds;
use crate::publish::Place;
use crate::record::StoredEvent;
use crate::store::{KnownParked, LaneBatch, Lease, Parking, Paused, Progress, Rest};

pub(super) use in_flight::InFlightBatch;
pub(super) use reports::{Rules, Settlement};
pub(super) use retry::Resumed;

/// A lane that the relay leases. Its parts own the rules: what is in flight, retries, what to save,
/// and parked keys.
#[derive(Debug)]
pub(super) struct HeldLane<C> {
    /// Number of this holding of the lane. It differs from any before, even if a database that
    /// failed has forgotten an epoch.
    pub(super) hold: u64,
    pub(super) lease: Lease,
    /// Cursor up to which it is read.
    pub(super) read: C,
    next: Option<NextBatch<C>>,
    in_flight: InFlight<C>,
    unsaved: Unsaved<C>,
    retry: Option<LaneRetry>,
    pub(super) parked: ParkedKeys,
    /// Topics that the broker refuses. Their events are parked without an attempt until parked ones
    /// are tried again.
    refused_topics: HashSet<String>,
    /// Topics that operators have paused, each with what is noted at its events, which are parked
    /// without an attempt.
    paused_topics: Arc<BTreeMap<String, String>>,
    /// Whether operators have paused all of it: nothing is read or sent.
    paused: bool,
    /// Whether there is more of it than was asked for.
    pub(super) in_backlog: bool,
    /// Count of rings at which the lane was last read to its end. `None`: it was not.
    quiet_since: Option<u64>,
    /// Number that changes when the lane is read again from an earlier cursor: a read that was
    /// running is then ignored.
    pub(super) generation: u64,
    /// Number of batches sent in this generation.
    sent: u64,
    /// Whether what is passed over is parked before later events are sent.
    parks_first: bool,
    /// Whether the lane is to be given to another relay.
    pub(super) leaving: bool,
}

impl<C: Clone> HeldLane<C> {
    pub(super) fn new(hold: u64, lease: Lease, cursor: C, parked: KnownParked) -> Self {
        Self {
            hold,
            lease,
            read: cursor,
            next: None,
            in_flight: InFlight::new(),
            unsaved: Unsaved::new(),
            retry: None,
            parked: ParkedKeys::new(parked),
            refused_topics: HashSet::new(),
            paused_topics: Arc::default(),
            paused: false,
            in_backlog: false,
            quiet_since: None,
            generation: 0,
            sent: 0,
            parks_first: false,
            leaving: false,
        }
    }

    /// Whether what is passed over is to be parked before later events are sent. Default: it is
    /// parked later.
    pub(super) fn parking_first(self, parks_first: bool) -> Self {
        Self { parks_first, ..self }
    }

    /// Number of events to read now. `None`: nothing is to be read. `rings` shows whether there may
    /// be new events.
    pub(super) fn wants(&self, rings: u64, rows: u32) -> Option<u32> {
        if self.next.is_some() || self.leaving || self.paused || self.is_quiet(rings) {
            return None;
        }
        match &self.retry {
            None => Some(rows),
            // What is in flight decides from where to continue.
            Some(_) if self.awaited() > 0 => None,
            Some(retry) if retry.is_alone() => Some(1),
            Some(_) => Some(rows),
        }
    }

    /// Takes in what was read. `full`: whether it was as much as was asked for.
    pub(super) fn was_read(&mut self, batch: LaneBatch<C>, held: Held, full: bool, rings: u64) {
        self.read = batch.end.clone();
        self.in_backlog = full;
        let is_empty = batch.events.is_empty();
        if is_empty && batch.rest == Rest::Nothing {
            self.quiet_since = Some(rings);
        }
        if !is_empty || batch.save {
            self.next = Some(NextBatch::new(batch, held));
        }
    }

    /// The batch to send now. `most`: the bounds of what may be in flight in several batches.
    pub(super) fn next_batch(&mut self, now: Instant, most: Bounds) -> Option<InFlightBatch<C>> {
        if self.is_blocked(now) || !self.in_flight.has_room_for(self.next.as_ref()?, most) {
            return None;
        }
        let (number, batch, held) = self.in_flight.add(self.next.take()?);
        let LaneBatch { events, start, end, .. } = batch;
        let (events, passed_over) = self.without_parked(events);
        let alone = self.retry.as_ref().is_some_and(LaneRetry::is_alone);
        let (hold, lease) = (self.hold, self.lease);
        let place = Place { generation: self.generation, number: self.sent };
        self.sent += 1;
        Some(InFlightBatch {
            hold,
            lease,
            number,
            place,
            events,
            alone,
            sent: now,
            passed_over,
            held,
            start,
            end,
        })
    }

    fn is_blocked(&self, now: Instant) -> bool {
        let retry_blocks =
            |retry: &LaneRetry| retry.not_before() > now || !self.in_flight.is_empty();
        self.paused
            || self.in_flight.has_abandoned()
            || self.unsaved.is_refused()
            || self.is_parking()
            || self.retry.as_ref().is_some_and(retry_blocks)
    }

    /// Whether nothing is sent before the events that were passed over are parked.
    pub(super) fn is_parking(&self) -> bool {
        self.parks_first && self.unsaved.is_parking()
    }

    /// Splits the events of a batch into those to send and those to park without an attempt.
    fn without_parked(&mut self, events: Vec<StoredEvent>) -> (Vec<StoredEvent>, Vec<Parking>) {
        let (mut to_send, mut to_park) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            let reason = self.reason_to_park(&event);
            if reason.is_none() && !self.parked.holds(&event.record) {
                to_send.push(event);
                continue;
            }
            let released = self.parked.add(&event.record);
            to_park.push(Parking { event, reason, attempts: 0, released });
        }
        self.parked.next_is_taken();
        (to_send, to_park)
    }

    /// Why an event is parked without an attempt, apart from earlier events of its key. `None`: it
    /// is not.
    fn reason_to_park(&self, event: &StoredEvent) -> Option<String> {
        if let Some(error) = event.refused_unread() {
            return Some(error.to_string());
        }
        let topic = &*event.record.topic;
        if let Some(pause) = self.paused_topics.get(topic) {
            return Some(pause.clone());
        }
        self.refused_topics.contains(topic).then(|| format!("the topic `{topic}` is refused"))
    }

    /// The progress to save. `None`: there is none, or it is too early to try again.
    pub(super) fn take_unsaved(&mut self, now: Instant) -> Option<(Progress<C>, Vec<Held>)> {
        let (mut progress, held) = self.unsaved.take(now)?;
        for parking in &mut progress.parked {
            parking.released |= self.parked.is_released(&parking.event.record);
        }
        Some((progress, held))
    }

    /// The progress to save as the relay stops.
    pub(super) fn take_last_unsaved(&mut self) -> Option<Progress<C>> {
        self.unsaved.take_last()
    }

    /// When to try to save again what the database did not accept.
    pub(super) fn save_again_at(&self) -> Option<Instant> {
        self.unsaved.try_again_at()
    }

    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_none()
    }

    /// Bytes of events that are about to be parked.
    pub(super) fn unsaved_bytes(&self) -> u64 {
        self.unsaved.bytes()
    }

    /// Takes in that its progress was saved. Returns whether saving had failed before.
    pub(super) fn was_saved(&mut self, progress: &Progress<C>) -> bool {
        self.parked.saved(&progress.parked);
        self.unsaved.was_saved()
    }

    /// Keeps the progress to be saved, merged with what was delivered since. Returns when to try
    /// again, and whether this is the first failure.
    pub(super) fn was_not_saved(
        &mut self,
        progress: Progress<C>,
        held: Vec<Held>,
        now: Instant,
    ) -> (Instant, bool) {
        self.unsaved.was_refused(progress, held, now)
    }

    /// Drops the batch that was read and not sent: it is read again.
    pub(super) fn drop_next(&mut self) {
        self.next = None;
    }

    /// Whether it was read to the end since the doorbell rang last.
    pub(super) fn is_quiet(&self, rings: u64) -> bool {
        self.quiet_since == Some(rings)
    }

    /// Whether another relay can have the lane without an event being published twice.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited() == 0 && self.unsaved.is_none()
    }

    /// Number of its batches with the publisher.
    pub(super) fn awaited(&self) -> usize {
        self.in_flight.awaited()
    }

    /// Time before which nothing of it is sent. `None`: nothing waits for a retry.
    pub(super) fn not_before(&self) -> Option<Instant> {
        let waits_for_time = self.next.is_some()
            && self.awaited() == 0
            && !self.unsaved.is_refused()
            && !self.paused;
        self.retry.as_ref().filter(|_| waits_for_time).map(LaneRetry::not_before)
    }

    /// Obeys these pauses, and no others. What was read already is kept, and sent or set aside
    /// later.
    pub(super) fn pause(&mut self, paused: &Paused) {
        self.paused = paused.holds(self.lease.lane);
        self.paused_topics = Arc::clone(&paused.topics);
    }

    /// Whether nothing of it is to be sent.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn try_refused_topics_again(&mut self) {
        self.refused_topics.clear();
    }
}

#[cfg(test)]
mod tests;
