//! What a lane makes of the reports on its batches: delivered, sent again, or parked.

use tokio::time::Instant;

use super::HeldLane;
use super::in_flight::InFlightBatch;
use super::retry::{LaneRetry, Outcome, Refusal, Resumed};
use crate::error::OutboxError;
use crate::publish::DeliveryReport;
use crate::record::StoredEvent;
use crate::relay::memory::Held;
use crate::store::Parking;

/// What became of a batch, or of one of its events.
#[derive(Debug)]
pub(in crate::relay) enum Settlement {
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
    pub(in crate::relay) fn refusal(self) -> Option<OutboxError> {
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
pub(in crate::relay) struct Rules<C> {
    /// Refusals of an event alone after which it is parked. `None`: it never is.
    pub(in crate::relay) park_after: Option<u32>,
    /// The cursor before an event of a batch that began at another cursor.
    pub(in crate::relay) cursor_before: fn(&C, i64) -> C,
    pub(in crate::relay) now: Instant,
}

impl<C: Clone> HeldLane<C> {
    /// Takes in the reports of a batch, and of later batches that had to wait for it.
    pub(in crate::relay) fn on_reports(
        &mut self,
        batch: InFlightBatch<C>,
        reports: Vec<DeliveryReport>,
        rules: &Rules<C>,
    ) -> Vec<Settlement> {
        if let Some(abandoned) = self.in_flight.reported(batch, reports) {
            self.not_passed(&abandoned.passed_over);
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
        self.begin_generation();
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
        let seq = batch.events.get(from).map(|event| event.seq);
        let is_before = |parking: &Parking| seq.is_some_and(|seq| parking.event.seq < seq);
        let (passed, abandoned): (Vec<_>, Vec<_>) =
            batch.passed_over.into_iter().partition(is_before);
        self.not_passed(&abandoned);
        for behind in self.in_flight.abandon() {
            self.not_passed(&behind.passed_over);
        }
        let is_further = from > 0 || !passed.is_empty();
        let cursor =
            seq.map_or_else(|| batch.start.clone(), |seq| (rules.cursor_before)(&batch.start, seq));
        self.read = cursor.clone();
        self.drop_next();
        self.quiet_since = None;
        self.begin_generation();
        if is_further { self.passed(cursor, passed, batch.held) } else { Vec::new() }
    }

    /// Events that were passed over in a batch that was not published are read again. A publisher
    /// that parks first may have parked them; then they stay parked.
    fn not_passed(&mut self, parked: &[Parking]) {
        if self.parks_first { self.parked.saved(parked) } else { self.parked.abandoned(parked) }
    }

    /// What is sent from now on does not follow what was sent before.
    fn begin_generation(&mut self) {
        self.generation += 1;
        self.sent = 0;
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
}
