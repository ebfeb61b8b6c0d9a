//! Tries parked events again.

use std::sync::Arc;

use tokio::time::Instant;

use super::reports::Told;
use super::{Engine, Sent};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::record::StoredEvent;
use crate::store::{LaneStore, Lease, NextEvent, Released, RetryResult, Share};
use crate::trace::Tracing;

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// Bytes of parked events that may be sent in addition. `None`: no further key may be sent.
    pub(super) fn room_for_released(&self) -> Option<u64> {
        let room = self.releasing.room(self.memory.room());
        room.filter(|_| self.share == Share::Fair)
    }

    /// Sends parked events again, those of each key in a task of their own.
    pub(super) fn send_released(&mut self, released: Vec<Released>) {
        for released in released {
            let Released { lane, key, events } = &released;
            let Some(held) = &mut self.lanes[lane.index()] else { continue };
            let bytes = events.iter().map(|event| event.record.bytes()).sum();
            if !self.releasing.begin(*lane, *key, bytes) {
                continue;
            }
            held.parked.set_released(*key, true);
            let (lease, publisher) = (held.lease, Arc::clone(&self.publisher));
            let tracing = self.settings.tracing.clone();
            let bytes_held = self.memory.hold(events);
            self.sending.spawn(async move {
                let reports =
                    publish_in_order(&*publisher, lease, &released.events, &tracing).await;
                Sent::Parked(lease, released, reports, bytes_held)
            });
        }
    }

    pub(super) fn on_parked_reports(
        &mut self,
        lease: Lease,
        released: Released,
        reports: &[DeliveryReport],
    ) {
        let Released { lane, key, events } = released;
        let delivered = reports.iter().take_while(|report| report.is_delivered()).count();
        self.published += delivered as u64;
        self.meter.delivered(&events[..delivered], Instant::now());
        if delivered > 0 {
            failpoint("after-parked-delivery");
        }
        if self.lanes[lane.index()].as_ref().is_none_or(|held| held.lease != lease) {
            return self.releasing.give_up(lane, key);
        }
        let next = match events.get(delivered).zip(reports.get(delivered)) {
            None => NextEvent::Untried,
            Some((_, DeliveryReport::NotSent)) => NextEvent::NotSent,
            Some((event, report)) => {
                tell_refused_again(event, report);
                NextEvent::Refused(event.seq, report.to_string())
            }
        };
        let delivered = events[..delivered].iter().map(|event| event.seq).collect();
        self.releasing.keep(lease, RetryResult { key, delivered, next });
    }

    /// Takes in that results of a key are settled. `left`: whether it has parked events; `None`:
    /// the lane is lost.
    pub(super) fn settled(&mut self, lease: Lease, settled: RetryResult, left: Option<bool>) {
        self.releasing.is_settled(lease.lane, &settled, Instant::now());
        let RetryResult { key, delivered, next } = settled;
        if !delivered.is_empty() {
            tracing::info!(
                target: target::RELAY,
                lane = lease.lane.number(),
                events = delivered.len(),
                "parked events published"
            );
        }
        let Some(left) = left else { return self.lost(&[lease.lane]) };
        let Some(lane) = self.lanes[lease.lane.index()].as_mut().filter(|lane| lane.lease == lease)
        else {
            return;
        };
        match next {
            NextEvent::Refused(..) | NextEvent::NotSent => lane.parked.set_released(key, false),
            NextEvent::Untried if left => {}
            NextEvent::Untried => lane.parked.unpark(key),
        }
    }

    pub(super) fn not_settled(&mut self, lease: Lease, settled: RetryResult, error: &OutboxError) {
        tracing::error!(
            target: target::RELAY,
            lane = lease.lane.number(), events = ?settled.delivered, %error,
            "the database did not take what came of parked events: those that were published are not sent again while this \
             relay runs, and it tries to note it again. Does its role have UPDATE and DELETE on the outbox's tables?"
        );
        self.releasing.is_not_settled(lease, settled, Instant::now());
    }
}

/// Sends parked events of one key up to the first that is not delivered.
async fn publish_in_order<P: Publisher>(
    publisher: &P,
    lease: Lease,
    events: &[StoredEvent],
    tracing: &Tracing,
) -> Vec<DeliveryReport> {
    let mut reports = Vec::with_capacity(events.len());
    for event in events {
        let report = match event.refused_unread() {
            Some(error) => DeliveryReport::EventRefused(error),
            None => publish_alone(publisher, lease, event, tracing).await,
        };
        let is_delivered = report.is_delivered();
        reports.push(report);
        if !is_delivered {
            break;
        }
    }
    reports
}

/// A parked event is sent alone: what is refused must be known for sure.
async fn publish_alone<P: Publisher>(
    publisher: &P,
    lease: Lease,
    event: &StoredEvent,
    tracing: &Tracing,
) -> DeliveryReport {
    let Lease { lane, epoch } = lease;
    let events = std::slice::from_ref(event);
    let (progress, place, passed_over) = (None, None, &[][..]);
    let batch = Batch { events, lane, epoch, alone: true, progress, place, passed_over, tracing };
    publisher.publish(batch).await.pop().unwrap_or(DeliveryReport::NotSent)
}

fn tell_refused_again(event: &StoredEvent, report: &DeliveryReport) {
    let Told { event_id, name, topic, key, seq } = Told::of(event);
    if matches!(report, DeliveryReport::TopicRefused(_)) {
        // This is logged once, for the whole topic.
        tracing::debug!(target: target::RELAY, seq, %event_id, name, topic, key, error = %report, "parked event refused again");
    } else {
        tracing::warn!(target: target::RELAY, seq, %event_id, name, topic, key, error = %report, "parked event refused again");
    }
}
