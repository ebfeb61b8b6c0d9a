//! The reports of what a producer is sending.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::Notify;

use super::producer::Producer;

/// Interval at which a waiting call checks whether the producer has ended, and whether a topic
/// takes nothing.
const CHECK: Duration = Duration::from_secs(1);

/// The acknowledgement of an event: it is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub(super) partition: i32,
    pub(super) at: Instant,
}

/// What librdkafka reported of an event. `None`: nothing yet, or the event was not sent.
pub(super) type Outcome = Option<Result<Ack, KafkaError>>;

/// The events being sent. librdkafka knows each by a number, its slot. Slots are assigned in
/// blocks, one for each call; a late report for a block that was abandoned matches no open block,
/// and is ignored.
#[derive(Default)]
pub(super) struct Reports {
    batches: Mutex<Batches>,
    /// Notified when a message has left librdkafka's queue.
    pub(super) room: Notify,
}

#[derive(Default)]
struct Batches {
    next_slot: usize,
    /// Open batches by their first slots.
    open: BTreeMap<usize, Batch>,
}

struct Batch {
    outcomes: Vec<Outcome>,
    /// Number of events that were sent and have no report yet.
    missing: usize,
    failed: bool,
    changed: Arc<Notify>,
}

impl Reports {
    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, slot: usize, outcome: Result<Ack, KafkaError>) {
        let mut batches = self.batches();
        if let Some((first_slot, batch)) = batches.open.range_mut(..=slot).next_back()
            && let Some(empty @ None) = batch.outcomes.get_mut(slot - first_slot)
        {
            batch.failed |= outcome.is_err();
            *empty = Some(outcome);
            batch.missing = batch.missing.saturating_sub(1);
            if batch.failed || batch.missing == 0 {
                batch.changed.notify_one();
            }
        }
        drop(batches);
        self.room.notify_one();
    }
}

/// One call of `publish`. If it is dropped before its end, what is still queued is purged.
pub(super) struct Sending<'a> {
    producer: &'a Arc<Producer>,
    first_slot: usize,
    changed: Arc<Notify>,
    finished: bool,
}

impl<'a> Sending<'a> {
    pub(super) fn begin(producer: &'a Arc<Producer>, events: usize) -> Self {
        let changed = Arc::<Notify>::default();
        let mut batches = producer.reports.batches();
        let first_slot = batches.next_slot;
        batches.next_slot = first_slot.wrapping_add(events);
        let batch = Batch {
            outcomes: (0..events).map(|_| None).collect(),
            missing: 0,
            failed: false,
            changed: Arc::clone(&changed),
        };
        batches.open.insert(first_slot, batch);
        drop(batches);
        Self { producer, first_slot, changed, finished: false }
    }

    /// The slot of the `i`th event, whose report is awaited from now on.
    pub(super) fn open(&self, i: usize) -> usize {
        if let Some(batch) = self.producer.reports.batches().open.get_mut(&self.first_slot) {
            batch.missing += 1;
        }
        self.first_slot.wrapping_add(i)
    }

    /// Waits until every event that was sent has its report. Returns `false` if one of them failed.
    pub(super) async fn reported(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            {
                let batches = self.producer.reports.batches();
                match batches.open.get(&self.first_slot) {
                    Some(batch) if batch.missing > 0 => {}
                    batch => return batch.is_some_and(|batch| !batch.failed),
                }
            }
            // librdkafka purges its queue after a fatal error, but not what is in flight. An event
            // in flight that the broker refused as out of order would wait for a retry for ever.
            if self.producer.is_over() {
                self.producer.purge();
            } else {
                self.producer.look_for_stalls();
            }
            let _ = tokio::time::timeout(CHECK, changed).await;
        }
    }

    /// The acknowledgements so far, by the indexes of their events.
    pub(super) fn acknowledged(&self) -> Vec<(usize, Ack)> {
        let batches = self.producer.reports.batches();
        let outcomes = batches.open.get(&self.first_slot).map_or(&[][..], |batch| &batch.outcomes);
        let acks = outcomes.iter().enumerate();
        acks.filter_map(|(i, outcome)| Some((i, *outcome.as_ref()?.as_ref().ok()?))).collect()
    }

    pub(super) fn finish(mut self) -> Vec<Outcome> {
        self.finished = true;
        let batch = self.producer.reports.batches().open.remove(&self.first_slot);
        batch.map_or_else(Vec::new, |batch| batch.outcomes)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.producer.reports.batches().open.remove(&self.first_slot);
            self.producer.purge();
        }
    }
}
