//! What a relay knows of a lane that it leases.

mod in_flight;
mod parked;
mod retry;
mod unsaved;

use std::collections::HashSet;

use tokio::time::Instant;

use in_flight::{InFlight, NextBatch};
use parked::ParkedKeys;
use retry::{LaneRetry, Outcome, Refusal};
use unsaved::Unsaved;

use super::memory::Held;
use super::reading::Bounds;
use crate::error::OutboxError;
use crate::publish::DeliveryReport;
use crate::record::StoredEvent;
use crate::store::{KnownParked, LaneBatch, Lease, Parking, Progress, Rest};

pub(super) use in_flight::InFlightBatch;
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
    /// Whether there is more of it than was asked for.
    pub(super) in_backlog: bool,
    /// Count of rings at which the lane was last read to its end. `None`: it was not.
    quiet_since: Option<u64>,
    /// Number that changes when the lane is read again from an earlier cursor: a read that was
    /// running is then ignored.
    pub(super) generation: u64,
    /// Whether the lane is to be given to another relay.
    pub(super) leaving: bool,
}

/// What became of a batch, or of one of its events.
#[derive(Debug)]
pub(super) enum Settlement {
    /// The whole batch is delivered, and a retry has ended if it says how.
    Delivered(Option<Resumed>),
    /// An event was refused among others: it is sent again, alone.
    Refused { event: StoredEvent, report: DeliveryReport },
    /// An event was refused alone, and not often enough to be parked: it is sent again.
    RefusedAlone { event: StoredEvent, report: DeliveryReport, attempt: u32 },
    /// An event was refused alone, and is parked.
    Parked { event: StoredEvent, report: DeliveryReport, attempt: u32 },
    /// An event cannot be read from its row, and is parked.
    Unreadable(StoredEvent, OutboxError),
    /// What was not delivered of the batch is sent again.
    Interrupted,
}

impl Settlement {
    /// Why an event was refused. `None`: none was, or it is not known yet which one.
    pub(super) fn refusal(self) -> Option<OutboxError> {
        match self {
            Self::RefusedAlone { report, .. } | Self::Parked { report, .. } => {
                report.into_refusal()
            }
            Self::Unreadable(_, error) => Some(error),
            Self::Delivered(_) | Self::Refused { .. } | Self::Interrupted => None,
        }
    }
}

/// What a lane needs to judge reports.
#[derive(Debug)]
pub(super) struct Rules<C> {
    /// Refusals of an event alone after which it is parked. `None`: it never is.
    pub(super) park_after: Option<u32>,
    /// The cursor before an event of a batch that began at another cursor.
    pub(super) cursor_before: fn(&C, i64) -> C,
    pub(super) now: Instant,
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
            in_backlog: false,
            quiet_since: None,
            generation: 0,
            leaving: false,
        }
    }

    /// Number of events to read now. `None`: nothing is to be read. `rings` shows whether there may
    /// be new events.
    pub(super) fn wants(&self, rings: u64, rows: u32) -> Option<u32> {
        if self.next.is_some() || self.leaving || self.is_quiet(rings) {
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
        Some(InFlightBatch {
            hold,
            lease,
            number,
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
        self.in_flight.has_abandoned()
            || self.unsaved.is_refused()
            || self.retry.as_ref().is_some_and(retry_blocks)
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
        self.refused_topics.contains(topic).then(|| format!("the topic `{topic}` is refused"))
    }

    /// Takes in the reports of a batch, and of later batches that had to wait for it.
    pub(super) fn on_reports(
        &mut self,
        batch: InFlightBatch<C>,
        reports: Vec<DeliveryReport>,
        rules: &Rules<C>,
    ) -> Vec<Settlement> {
        if let Some(abandoned) = self.in_flight.reported(batch, reports) {
            self.parked.abandoned(&abandoned.passed_over);
        }
        let mut settlements = Vec::new();
        while let Some((batch, reports)) = self.in_flight.next_reported() {
            settlements.append(&mut match Outcome::of(&batch.events, reports) {
                Outcome::Delivered => self.delivered(batch, rules.now),
                Outcome::Interrupted { from } => self.interrupted(batch, from, rules),
                Outcome::Refused(refusal) => self.refused(batch, refusal, rules),
            });
        }
        settlements
    }

    fn delivered(&mut self, batch: InFlightBatch<C>, now: Instant) -> Vec<Settlement> {
        let InFlightBatch { events, passed_over, held, end, .. } = batch;
        let passed_over_too = passed_over.iter().map(|parking| &parking.event);
        let last = events.iter().chain(passed_over_too).map(|event| event.seq).max();
        let mut settlements = self.passed(end, passed_over, held);
        settlements.push(Settlement::Delivered(self.resumed(last, now)));
        settlements
    }

    fn interrupted(
        &mut self,
        batch: InFlightBatch<C>,
        from: usize,
        rules: &Rules<C>,
    ) -> Vec<Settlement> {
        self.retry_at(rules.now).pause_after_interruption(rules.now);
        let mut settlements = self.send_again(batch, from, rules);
        settlements.push(Settlement::Interrupted);
        settlements
    }

    fn refused(
        &mut self,
        batch: InFlightBatch<C>,
        refusal: Refusal,
        rules: &Rules<C>,
    ) -> Vec<Settlement> {
        let Refusal { from, at, report } = refusal;
        let event = batch.events[at].clone();
        let retry = self.retry_at(rules.now);
        if !batch.alone {
            retry.pause_after_refusal(event.seq, rules.now);
            let mut settlements = self.send_again(batch, from, rules);
            settlements.push(Settlement::Refused { event, report });
            return settlements;
        }
        let attempt = retry.refused_alone();
        let at_fault = matches!(report, DeliveryReport::EventRefused(_));
        if rules.park_after.is_some_and(|most| at_fault || attempt >= most) {
            let mut settlements = self.park(batch, &event, (&report, attempt), rules.now);
            settlements.push(Settlement::Parked { event, report, attempt });
            settlements
        } else {
            retry.pause_after_refusal(event.seq, rules.now);
            let mut settlements = self.send_again(batch, from, rules);
            settlements.push(Settlement::RefusedAlone { event, report, attempt });
            settlements
        }
    }

    /// Parks the only event of a batch: as it was read alone, all else up to the batch's end was
    /// passed over.
    fn park(
        &mut self,
        batch: InFlightBatch<C>,
        event: &StoredEvent,
        (report, attempts): (&DeliveryReport, u32),
        now: Instant,
    ) -> Vec<Settlement> {
        let InFlightBatch { mut passed_over, held, end, .. } = batch;
        if matches!(report, DeliveryReport::TopicRefused(_)) {
            self.refused_topics.insert(event.record.topic.clone().into_owned());
        }
        self.resumed(Some(event.seq), now);
        self.parked.add(&event.record);
        let (event, reason) = (event.clone(), Some(report.to_string()));
        passed_over.push(Parking { event, reason, attempts, released: false });
        self.passed(end, passed_over, held)
    }

    /// Has the lane read and sent again from an event of a batch on, which was not delivered.
    fn send_again(
        &mut self,
        batch: InFlightBatch<C>,
        from: usize,
        rules: &Rules<C>,
    ) -> Vec<Settlement> {
        let seq = batch.events[from].seq;
        let (passed, abandoned): (Vec<_>, Vec<_>) =
            batch.passed_over.into_iter().partition(|parking| parking.event.seq < seq);
        self.parked.abandoned(&abandoned);
        for behind in self.in_flight.abandon() {
            self.parked.abandoned(&behind.passed_over);
        }
        let cursor = (rules.cursor_before)(&batch.start, seq);
        let is_further = from > 0 || !passed.is_empty();
        self.read = cursor.clone();
        self.drop_next();
        self.quiet_since = None;
        self.generation += 1;
        if is_further { self.passed(cursor, passed, batch.held) } else { Vec::new() }
    }

    /// Records that everything up to `cursor` is delivered or about to be parked.
    fn passed(&mut self, cursor: C, parked: Vec<Parking>, held: Held) -> Vec<Settlement> {
        let settlements = parked.iter().filter_map(|parking| {
            let error = parking.event.refused_unread()?;
            Some(Settlement::Unreadable(parking.event.clone(), error))
        });
        let settlements = settlements.collect();
        self.unsaved.add(self.lease, cursor, parked, held);
        settlements
    }

    fn retry_at(&mut self, now: Instant) -> &mut LaneRetry {
        self.retry.get_or_insert_with(|| LaneRetry::new(now))
    }

    /// Records that everything up to the event `last` is delivered or parked. Returns how a retry
    /// ended, if one did.
    fn resumed(&mut self, last: Option<i64>, now: Instant) -> Option<Resumed> {
        let resumed = self.retry.as_mut()?.passed(last, now)?;
        self.retry = None;
        Some(resumed)
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
        let waits_for_time =
            self.next.is_some() && self.awaited() == 0 && !self.unsaved.is_refused();
        self.retry.as_ref().filter(|_| waits_for_time).map(LaneRetry::not_before)
    }

    pub(super) fn try_refused_topics_again(&mut self) {
        self.refused_topics.clear();
    }
}

#[cfg(test)]
mod tests;
