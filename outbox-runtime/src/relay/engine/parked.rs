//! Tries parked events again.

use std::sync::Arc;

use tokio::time::Instant;

use super::reports::Told;
use super::{Answer, Call, Engine, RETRIED_KEYS, RETRIED_KEYS_THEN, Releasing, Sent};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe;
use crate::observe::target;
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::record::StoredEvent;
use crate::relay::lane::HeldLane;
use crate::store::{LaneStore, Lease, OutboxDatabase, Released, Retry, Settled, Share, Then};

/// Most bytes of parked events that are read and sent at once, within the relay's memory. A single
/// larger event is still sent.
const BYTES: u64 = 4 * 1024 * 1024;
/// Number of keys being sent above which no more are read.
const KEYS: usize = 64;

impl<DB: OutboxDatabase, P: Publisher> Engine<DB, P> {
    /// Bytes of parked events that may be sent in addition. `None`: no further key may be sent.
    pub(super) fn room_for_released(&self) -> Option<u64> {
        let in_flight: u64 = self.releasing.sending.values().sum();
        let bytes = BYTES.saturating_sub(in_flight).min(self.memory.room());
        let room = (bytes > 0 || in_flight == 0) && self.releasing.sending.len() < KEYS;
        (room && self.share == Share::Fair).then_some(bytes)
    }

    pub(super) fn look_for_released(&mut self, now: Instant) -> Option<Call<DB>> {
        let due = self.releasing.next_retry <= now;
        if !due && !self.releasing.look {
            return None;
        }
        let bytes = self.room_for_released()?;
        self.releasing.look = false;
        self.has_read = false;
        let held = self.leases();
        let except = self.releasing.sending.keys().map(|(_, key)| *key).collect();
        let mut retry = Retry { after: self.settings.retry_parked, keys: 0, bytes, except };
        if due {
            self.releasing.next_retry = now + self.settings.retry_parked;
            retry.keys = self.releasing.keys;
            self.lanes.iter_mut().flatten().for_each(HeldLane::try_refused_topics_again);
        }
        self.call(move |mut store| async move {
            let released = store.released(&held, retry).await;
            (store, released.map(Answer::Released))
        })
    }

    /// Sends parked events again, those of each key in a task of their own.
    pub(super) fn send_released(&mut self, released: Vec<Released>) {
        for released in released {
            let Released { lane, key, events } = &released;
            let Some(held) = &mut self.lanes[lane.index()] else { continue };
            let bytes = events.iter().map(|event| event.record.bytes()).sum();
            if self.releasing.sending.contains_key(&(*lane, *key)) {
                continue;
            }
            self.releasing.sending.insert((*lane, *key), bytes);
            held.parked.set_released(*key, true);
            let (lease, publisher) = (held.lease, Arc::clone(&self.publisher));
            let bytes_held = self.memory.hold(events);
            self.sending.spawn(async move {
                let mut reports = Vec::with_capacity(released.events.len());
                for event in &released.events {
                    let report = match event.refused_unread() {
                        Some(error) => DeliveryReport::EventRefused(error),
                        None => publish_alone(&*publisher, lease, event).await,
                    };
                    let delivered = report.is_delivered();
                    reports.push(report);
                    if !delivered {
                        break;
                    }
                }
                Sent::Parked(lease, released, reports, bytes_held)
            });
        }
    }

    pub(super) fn released_landed(
        &mut self,
        lease: Lease,
        released: Released,
        reports: &[DeliveryReport],
    ) {
        let Released { lane, key, events } = released;
        let delivered = reports.iter().take_while(|report| report.is_delivered()).count();
        self.published += delivered as u64;
        observe::delivered(&events[..delivered], Instant::now());
        if delivered > 0 {
            failpoint("after-parked-delivery");
        }
        if self.lanes[lane.index()].as_ref().is_none_or(|held| held.lease != lease) {
            // The lane may come back to this relay, and then the key is tried again.
            self.releasing.sending.remove(&(lane, key));
            return;
        }
        let then = match events.get(delivered).zip(reports.get(delivered)) {
            None => Then::GoOn,
            Some((_, DeliveryReport::NotSent)) => Then::NotSent,
            Some((event, report)) => {
                tell_refused_again(event, report);
                Then::Refused(event.seq, report.to_string())
            }
        };
        let delivered = events[..delivered].iter().map(|event| event.seq).collect();
        // The payloads are no longer needed.
        self.releasing.sending.insert((lane, key), 0);
        self.releasing.settled.push_back((lease, Settled { key, delivered, then }));
    }

    pub(super) fn settle(&mut self, now: Instant) -> Option<Call<DB>> {
        if self.releasing.settle_again.is_some_and(|again| again > now) {
            return None;
        }
        self.releasing.settle_again = None;
        let (lease, settled) = self.releasing.settled.pop_front()?;
        self.releasing.settling = Some((lease.lane, settled.key));
        self.call(move |mut store| async move {
            let answer = match store.settle_released(lease, &settled).await {
                Ok(left) => Ok(Answer::Settled(lease, settled, left)),
                Err(error) if error.is_of_one_statement() => {
                    Ok(Answer::NotSettled(lease, settled, error))
                }
                Err(error) => Err(error),
            };
            (store, answer)
        })
    }

    pub(super) fn settled(&mut self, lease: Lease, settled: Settled, left: Option<bool>) {
        let Settled { key, delivered, then } = settled;
        self.releasing.settling = None;
        self.releasing.settle_backoff.reset();
        self.releasing.sending.remove(&(lease.lane, key));
        // There may have been more than there was room for.
        self.releasing.look = true;
        if !delivered.is_empty() {
            // The cause is removed, perhaps for the others as well.
            self.releasing.next_retry = Instant::now();
            self.releasing.keys = RETRIED_KEYS_THEN;
            tracing::info!(
                target: target::RELAY,
                lane = lease.lane.number(),
                events = delivered.len(),
                "parked events published"
            );
        } else if matches!(then, Then::Refused(..)) {
            self.releasing.keys = RETRIED_KEYS;
        }
        let Some(left) = left else { return self.lost(&[lease.lane]) };
        let Some(lane) = self.lanes[lease.lane.index()].as_mut().filter(|lane| lane.lease == lease)
        else {
            return;
        };
        match then {
            Then::Refused(..) | Then::NotSent => lane.parked.set_released(key, false),
            Then::GoOn if left => {}
            Then::GoOn => lane.parked.unpark(key),
        }
    }

    /// They are not sent again until then. The results of other keys are settled before the next
    /// attempt.
    pub(super) fn not_settled(&mut self, lease: Lease, settled: Settled, error: &OutboxError) {
        self.releasing.settling = None;
        tracing::error!(
            target: target::RELAY,
            lane = lease.lane.number(), events = ?settled.delivered, %error,
            "the database did not take what came of parked events: those that were published are not sent again while this \
             relay runs, and it tries to note it again. Does its role have UPDATE and DELETE on the outbox's tables?"
        );
        self.releasing.settled.push_back((lease, settled));
        self.releasing.settle_again = Some(Instant::now() + self.releasing.settle_backoff.pause());
    }
}

impl Releasing {
    /// The database does not know the results of these keys: they are tried again.
    pub(super) fn unsettle(&mut self) {
        for (lease, settled) in self.settled.drain(..) {
            self.sending.remove(&(lease.lane, settled.key));
        }
        if let Some(settling) = self.settling.take() {
            self.sending.remove(&settling);
        }
        self.settle_again = None;
        self.look = true;
    }
}

/// A parked event is sent alone: what is refused must be known for sure.
async fn publish_alone<P: Publisher>(
    publisher: &P,
    lease: Lease,
    event: &StoredEvent,
) -> DeliveryReport {
    let Lease { lane, epoch } = lease;
    let events = std::slice::from_ref(event);
    let batch = Batch { events, lane, epoch, alone: true, progress: None };
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
