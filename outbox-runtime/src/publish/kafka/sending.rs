//! One call of `publish`: its events are sent, and their reports awaited.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;

use super::Deployment;
use super::errors::Refused;
use super::order::Addressed;
use super::producer::{Message, Producer};
use super::reports::{Ack, Outcome};
use crate::publish::DeliveryReport;
use crate::record::StoredEvent;

/// Number of sends after which other tasks of the thread get their turn.
const SENDS_PER_YIELD: usize = 256;
/// Interval at which a waiting call checks whether the producer has ended, and whether a topic
/// takes nothing.
const CHECK: Duration = Duration::from_secs(1);
/// Interval at which what is queued in a failed transaction is purged again.
const PURGE_AGAIN: Duration = Duration::from_millis(10);

impl Producer {
    /// Sends the events of each key in their order.
    pub(super) async fn publish(
        self: &Arc<Self>,
        events: &[StoredEvent],
        deployment: &Deployment,
    ) -> Vec<DeliveryReport> {
        let mut sending = Sending::begin(self, events.len());
        let addressed = |event| self.established.addressed(event, &deployment.prefix);
        let events: Vec<_> = events.iter().map(|event| addressed(&event.record)).collect();
        let mut waiting: Vec<usize> = (0..events.len()).collect();
        while !waiting.is_empty() {
            let (now, later) = self.established.part(&events, waiting);
            let sent = self.send_all(&events, &now, &mut sending, &deployment.source).await;
            let delivered = sending.reported().await;
            let acknowledged = sending.acknowledged().into_iter();
            self.established.note(acknowledged.map(|(i, ack)| (&events[i], ack)));
            if !sent || !delivered {
                break;
            }
            waiting = later;
        }
        let outcomes = sending.finish();
        let reports = outcomes.into_iter().zip(&events).map(|(outcome, event)| {
            let Addressed { record, topic, .. } = event;
            match outcome {
                Some(Ok(ack)) => {
                    self.stalls.delivered(topic, ack.partition);
                    DeliveryReport::Delivered
                }
                Some(Err(error)) => {
                    let refused = Refused { event: record, topic };
                    refused.report(error, self.cause_of_purge(topic), &self.stalls)
                }
                None => DeliveryReport::NotSent,
            }
        });
        reports.collect()
    }

    /// Sends one record that is no event, and waits for its report.
    pub(super) async fn publish_record<'m>(
        self: &Arc<Self>,
        record: impl FnOnce(usize) -> Message<'m>,
    ) -> Result<(), KafkaError> {
        let mut sending = Sending::begin(self, 1);
        let slot = sending.open(0);
        if let Err(error) = self.enqueue(record(slot)).await {
            self.reports.set(slot, Err(error));
        }
        sending.reported().await;
        match sending.finish().pop().flatten() {
            Some(outcome) => outcome.map(|_| ()),
            None => Err(KafkaError::Canceled),
        }
    }

    /// Returns `false` if an event could not be sent; those behind it were not sent either.
    async fn send_all(
        self: &Arc<Self>,
        events: &[Addressed<'_>],
        places: &[usize],
        sending: &mut Sending<'_>,
        source: &str,
    ) -> bool {
        for (sent, place) in places.iter().enumerate() {
            if sent % SENDS_PER_YIELD == SENDS_PER_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            let slot = sending.open(*place);
            if let Err(error) = self.send(&events[*place], slot, source).await {
                self.reports.set(slot, Err(error));
                return false;
            }
        }
        true
    }
}

/// One call of `publish`. If it is dropped before its end, what is still queued is purged, and the
/// other calls send theirs again.
struct Sending<'a> {
    producer: &'a Arc<Producer>,
    first_slot: usize,
    /// Number of events that were sent.
    sent: usize,
    changed: Arc<Notify>,
    finished: bool,
}

impl<'a> Sending<'a> {
    fn begin(producer: &'a Arc<Producer>, events: usize) -> Self {
        let (first_slot, changed, is_first) = producer.reports.open(events);
        if is_first {
            producer.progress.nothing_awaited();
        }
        Self { producer, first_slot, sent: 0, changed, finished: false }
    }

    /// The slot of the `i`th event, whose report is awaited from now on.
    fn open(&mut self, i: usize) -> usize {
        self.sent += 1;
        self.first_slot.wrapping_add(i)
    }

    /// Waits until every event that was sent has its report. Returns `false` if one of them failed.
    async fn reported(&self) -> bool {
        self.producer.reports.expect(self.first_slot, self.sent);
        loop {
            let changed = self.changed.notified();
            if let Some(delivered) = self.producer.reports.all_delivered(self.first_slot) {
                return delivered;
            }
            // librdkafka purges its queue after a fatal error, but not what is in flight. An event
            // in flight that the broker refused as out of order would wait for a retry for ever. So
            // it would in a transaction that has failed: it comes back to the queue after that was
            // purged, and nothing is sent any more.
            let has_failed = self.producer.has_failed();
            if has_failed || self.producer.is_over() {
                self.producer.purge();
            } else {
                self.producer.look_for_stalls();
            }
            let check = if has_failed { PURGE_AGAIN } else { CHECK };
            let _ = tokio::time::timeout(check, changed).await;
        }
    }

    fn acknowledged(&self) -> Vec<(usize, Ack)> {
        self.producer.reports.acknowledged(self.first_slot)
    }

    fn finish(mut self) -> Vec<Outcome> {
        self.finished = true;
        self.producer.reports.close(self.first_slot)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.producer.reports.close(self.first_slot);
            self.producer.give_up();
        }
    }
}
