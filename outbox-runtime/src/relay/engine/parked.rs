//! Parked events, tried again.

use std::sync::Arc;

use tokio::time::Instant;

use super::landing::Told;
use super::{Answer, Call, Engine, RETRIED_KEYS, Sent};
use crate::failpoint::failpoint;
use crate::observe;
use crate::publish::{DeliveryReport, Publisher};
use crate::record::StoredEvent;
use crate::relay::lane::HeldLane;
use crate::store::{Lease, OutboxDatabase, Retry, Settled, Share, Store};

impl<DB: OutboxDatabase, P: Publisher> Engine<DB, P> {
    pub(super) fn look_for_released(&mut self, now: Instant) -> Option<Call<DB>> {
        let due = self.releasing.next_retry <= now;
        if !due && !self.releasing.look || self.share == Share::All {
            return None;
        }
        self.releasing.look = false;
        let held = self.leases();
        let mut retry = Retry { after: self.settings.retry_parked, keys: 0 };
        if due {
            self.releasing.next_retry = now + self.settings.retry_parked;
            retry.keys = self.releasing.keys;
            self.lanes.iter_mut().flatten().for_each(HeldLane::try_refused_topics_again);
        }
        self.call(move |mut store| async move {
            let events = store.released(&held, retry).await;
            (store, events.map(Answer::Released))
        })
    }

    /// Sends parked events again, those of each key for themselves.
    pub(super) fn send_released(&mut self, events: Vec<StoredEvent>) {
        let mut by_key = Vec::<Vec<StoredEvent>>::new();
        for event in events {
            match by_key.last_mut() {
                Some(of_key)
                    if event.record.key.is_some()
                        && of_key[0].lane == event.lane
                        && of_key[0].record.key == event.record.key =>
                {
                    of_key.push(event);
                }
                _ => by_key.push(vec![event]),
            }
        }
        for events in by_key {
            let (lane, key) = (events[0].lane, events[0].record.key.clone());
            let Some(held) = &mut self.lanes[lane.index()] else { continue };
            if let Some(key) = key {
                held.parked.set_released(&key, true);
                if !self.releasing.sending.insert((lane, key)) {
                    continue;
                }
            }
            let (lease, publisher) = (held.lease, Arc::clone(&self.publisher));
            let bytes = self.memory.hold(&events);
            self.sending.spawn(async move {
                let mut reports = Vec::with_capacity(events.len());
                for event in &events {
                    let report = match event.refused_unread() {
                        Some(error) => DeliveryReport::EventRefused(error),
                        None => publisher.publish_alone(event).await,
                    };
                    let delivered = report.is_delivered();
                    reports.push(report);
                    if !delivered {
                        break;
                    }
                }
                Sent::Parked(lease, events, reports, bytes)
            });
        }
    }

    pub(super) fn released_landed(
        &mut self,
        lease: Lease,
        events: Vec<StoredEvent>,
        reports: &[DeliveryReport],
    ) {
        let key = events[0].record.key.clone();
        let delivered = reports.iter().take_while(|report| report.is_delivered()).count();
        self.published += delivered as u64;
        observe::delivered(&events[..delivered], Instant::now());
        if delivered > 0 {
            failpoint("after-parked-delivery");
        }
        let refused = events.get(delivered).zip(reports.get(delivered)).map(|(event, report)| {
            let Told { event_id, name, topic, key, seq } = Told::of(event);
            if matches!(report, DeliveryReport::TopicRefused(_)) {
                // That is said once, for all of them.
                tracing::debug!(seq, %event_id, name, topic, key, error = %report, "parked event refused again");
            } else {
                tracing::warn!(seq, %event_id, name, topic, key, error = %report, "parked event refused again");
            }
            (event.seq, report.to_string())
        });
        if self.lanes[lease.lane.index()].as_ref().is_none_or(|lane| lane.lease != lease) {
            // The lane may come back to us, and the key be tried again.
            self.releasing.sent(lease.lane, key);
            return;
        }
        let delivered = events[..delivered].iter().map(|event| event.seq).collect();
        self.releasing.settled.push((lease, Settled { key, delivered, refused }));
    }

    pub(super) fn settled(&mut self, lease: Lease, settled: Settled, left: Option<bool>) {
        let Settled { key, delivered, refused } = settled;
        self.releasing.sent(lease.lane, key.clone());
        if !delivered.is_empty() {
            // What stood in the way is gone, perhaps for the others too.
            self.releasing.next_retry = Instant::now();
            self.releasing.keys = u32::MAX;
            tracing::info!(lane = lease.lane.number(), events = delivered.len(), "parked events published");
        } else if refused.is_some() {
            self.releasing.keys = RETRIED_KEYS;
        }
        let Some(left) = left else { return self.lost(&[lease.lane]) };
        let Some(lane) = self.lanes[lease.lane.index()].as_mut().filter(|lane| lane.lease == lease) else {
            return;
        };
        let Some(key) = key else { return };
        if refused.is_some() {
            lane.parked.set_released(&key, false);
        } else if left {
            self.releasing.look = true;
        } else {
            lane.parked.unpark(&key);
        }
    }
}
