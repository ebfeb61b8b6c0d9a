//! The reports of what a producer is sending.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;

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
    /// Number of events that have a report.
    reported: usize,
    /// Number of events that were sent. `None`: more are being sent.
    sent: Option<usize>,
    failed: bool,
    changed: Arc<Notify>,
}

impl Batch {
    /// Whether all that were sent have a report.
    fn is_complete(&self) -> bool {
        self.sent.is_some_and(|sent| self.reported >= sent)
    }
}

impl Reports {
    /// Opens a batch of `events` events. Returns its first slot, what is notified when all that were
    /// sent have a report, or one has failed, and whether no other batch is open.
    pub(super) fn open(&self, events: usize) -> (usize, Arc<Notify>, bool) {
        let changed = Arc::<Notify>::default();
        let mut batches = self.batches();
        let is_first = batches.open.is_empty();
        let first_slot = batches.next_slot;
        batches.next_slot = first_slot.wrapping_add(events);
        let batch = Batch {
            outcomes: (0..events).map(|_| None).collect(),
            reported: 0,
            sent: None,
            failed: false,
            changed: Arc::clone(&changed),
        };
        batches.open.insert(first_slot, batch);
        (first_slot, changed, is_first)
    }

    /// `sent` events of a batch are sent, and no more are until all of them have a report.
    pub(super) fn expect(&self, first_slot: usize, sent: usize) {
        if let Some(batch) = self.batches().open.get_mut(&first_slot) {
            batch.sent = Some(sent);
        }
    }

    /// Whether every event of a batch that was sent is delivered; `None` while reports are missing.
    pub(super) fn all_delivered(&self, first_slot: usize) -> Option<bool> {
        match self.batches().open.get(&first_slot) {
            Some(batch) if !batch.is_complete() => None,
            batch => Some(batch.is_some_and(|batch| !batch.failed)),
        }
    }

    /// The acknowledgements of a batch so far, by the indexes of their events.
    pub(super) fn acknowledged(&self, first_slot: usize) -> Vec<(usize, Ack)> {
        let batches = self.batches();
        let outcomes = batches.open.get(&first_slot).map_or(&[][..], |batch| &batch.outcomes);
        let acks = outcomes.iter().enumerate();
        acks.filter_map(|(i, outcome)| Some((i, *outcome.as_ref()?.as_ref().ok()?))).collect()
    }

    /// Closes a batch: reports of it that are still to come are ignored.
    pub(super) fn close(&self, first_slot: usize) -> Vec<Outcome> {
        self.batches().open.remove(&first_slot).map_or_else(Vec::new, |batch| batch.outcomes)
    }

    /// Notifies all who wait for reports.
    pub(super) fn wake(&self) {
        self.batches().open.values().for_each(|batch| batch.changed.notify_one());
    }

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
            batch.reported += 1;
            if batch.failed || batch.is_complete() {
                batch.changed.notify_one();
            }
        }
        drop(batches);
        self.room.notify_one();
    }
}
