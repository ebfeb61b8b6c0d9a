//! What the relay does with the reports of batches that were sent.

use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Engine, Sent};
use crate::failpoint::failpoint;
use crate::observe::{Meter, target};
use crate::publish::{DeliveryReport, Publisher};
use crate::record::{EventRecord, LANES, Lane, StoredEvent, readable_key};
use crate::relay::lane::{InFlightBatch, Resumed, Rules, Settlement};
use crate::store::{LaneStore, Share};

/// Longest time between a delivery and saving the cursor; bounds what a crash republishes.
const SAVE_WITHIN: Duration = Duration::from_millis(50);

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    pub(super) fn on_sent(&mut self, sent: Result<Sent<S::Cursor>, JoinError>) {
        match sent {
            Ok(Sent::Batch(batch, reports)) => self.on_reports(batch, reports),
            Ok(Sent::Parked(lease, released, reports, _held)) => {
                self.on_parked_reports(lease, released, &reports);
            }
            Err(ended) if ended.is_cancelled() => {}
            // The publisher panicked, and its events were lost from memory. Everything is read
            // again from the saved cursors, once the other calls have ended.
            Err(_) => {
                tracing::error!(
                    target: target::RELAY,
                    "the publisher panicked: the relay reads again what it was sending"
                );
                Lane::all().for_each(|lane| self.forget(lane));
                self.abandoned = [0; LANES];
                self.sending.abort_all();
                self.releasing.forget_all();
                self.next_claim = Instant::now();
            }
        }
    }

    fn on_reports(&mut self, batch: InFlightBatch<S::Cursor>, reports: Vec<DeliveryReport>) {
        let index = batch.lease.lane.index();
        let delivered = reports.iter().take_while(|report| report.is_delivered()).count();
        self.published += delivered as u64;
        self.meter.delivered(&batch.events[..delivered], batch.sent);
        if delivered > 0 {
            failpoint("after-delivery");
        }
        let Some(lane) = self.lanes[index].as_mut().filter(|lane| lane.hold == batch.hold) else {
            self.abandoned[index] = self.abandoned[index].saturating_sub(1);
            return;
        };
        let rules = Rules {
            park_after: (self.share == Share::Fair).then_some(self.settings.park_after),
            cursor_before: S::cursor_before,
            now: Instant::now(),
        };
        let settlements = lane.on_reports(batch, reports, &rules);
        if lane.has_unsaved() {
            // Whole batches may be passed over, faster than they are saved.
            let much = lane.unsaved_bytes() >= self.settings.batch_bytes;
            let by =
                rules.now + if much || lane.is_parking() { Duration::ZERO } else { SAVE_WITHIN };
            self.save_by = Some(self.save_by.map_or(by, |earlier| earlier.min(by)));
        }
        let number = lane.lease.lane.number();
        for settlement in settlements {
            tell(&self.meter, number, &settlement);
            // A drain ends with it.
            if let Some(refusal) = settlement.refusal() {
                self.refusal = Some(refusal);
            }
        }
    }
}

/// Logs and counts what became of a batch.
fn tell(meter: &Meter, lane: i16, settlement: &Settlement) {
    match settlement {
        Settlement::Delivered(None) => {}
        Settlement::Delivered(Some(Resumed::AfterRefusal)) => {
            tracing::info!(target: target::RELAY, lane, "lane resumed after a refusal");
        }
        Settlement::Delivered(Some(Resumed::AfterInterruption)) => {
            tracing::debug!(target: target::RELAY, lane, "lane resumed after an interruption");
        }
        Settlement::Interrupted => {
            meter.retried();
            tracing::debug!(target: target::RELAY, lane, "batch interrupted; what was not delivered is sent again");
        }
        Settlement::Refused { event, report } => {
            meter.retried();
            let Told { event_id, name, topic, key, seq } = Told::of(event);
            tracing::warn!(
                target: target::RELAY,
                lane, seq, %event_id, name, topic, key, error = %report,
                "batch not published: its events are tried one by one"
            );
        }
        Settlement::RefusedAlone { event, report, attempt } => {
            meter.retried();
            tell_refused(lane, event, report, *attempt);
        }
        Settlement::Parked { event, report, attempt } => {
            meter.parked(event);
            let Told { event_id, name, topic, key, seq } = Told::of(event);
            tracing::error!(
                target: target::RELAY,
                lane, seq, %event_id, name, topic, key, bytes = event.record.size(), attempts = attempt, error = %report,
                "event parked, and the later events of its topic and key with it; the other keys continue. It is tried \
                 again from time to time, and at once by `outbox parked release`; `outbox parked discard` gives it up"
            );
        }
        Settlement::Unreadable(event, error) => {
            meter.parked(event);
            let Told { event_id, topic, seq, .. } = Told::of(event);
            tracing::error!(
                target: target::RELAY,
                lane, seq, %event_id, topic, %error,
                "event parked, and the later events of its key with it; the other keys continue"
            );
        }
    }
}

fn tell_refused(lane: i16, event: &StoredEvent, report: &DeliveryReport, attempt: u32) {
    let Told { event_id, name, topic, key, seq } = Told::of(event);
    if attempt == 1 {
        tracing::error!(
            target: target::RELAY,
            lane, seq, %event_id, name, topic, key, error = %report,
            "event not published: its lane waits and tries again, the others continue"
        );
    } else {
        tracing::debug!(
            target: target::RELAY,
            lane, seq, %event_id, name, topic, key, attempt, error = %report,
            "event still not published"
        );
    }
}

/// What the log says of an event, so that it can be found by each of these.
pub(super) struct Told<'a> {
    pub(super) event_id: Uuid,
    pub(super) name: &'a str,
    pub(super) topic: &'a str,
    pub(super) key: String,
    pub(super) seq: i64,
}

impl<'a> Told<'a> {
    pub(super) fn of(event: &'a StoredEvent) -> Self {
        let EventRecord { id, name, topic, key, .. } = &event.record;
        let key = key.as_deref().map_or_else(|| "(none)".to_owned(), readable_key);
        Self { event_id: *id, name, topic, key, seq: event.seq }
    }
}
