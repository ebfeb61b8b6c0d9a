//! The batches of a lane that are with the publisher.
//!
//! A lane has one batch in flight while it reads the next one. It may have several in flight if
//! they have no key in common: then an event of a later batch cannot overtake an earlier event of
//! its key, even if a batch fails. Their reports are taken in the order of the batches.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use tokio::time::Instant;

use crate::hashes::AsTheyAre;
use crate::publish::{Batch, DeliveryReport, Place, Position};
use crate::record::{StoredEvent, fnv1a};
use crate::relay::memory::Held;
use crate::relay::reading::Bounds;
use crate::store::{LaneBatch, Lease, Parking};
use crate::trace::Tracing;

/// Most batches of a lane that are with the publisher.
const MOST_BATCHES: usize = 8;

/// A batch that was read, and is sent when those in flight allow it.
#[derive(Debug)]
pub(super) struct NextBatch<C> {
    pub(super) batch: LaneBatch<C>,
    /// Memory of its events.
    pub(super) held: Held,
    load: Load,
}

/// What a batch takes of the room for those in flight.
#[derive(Debug)]
struct Load {
    /// Hashes of the keys.
    keys: HashSet<u64, AsTheyAre>,
    events: usize,
    bytes: u64,
}

/// A batch as it is sent, without the events that are passed over.
#[derive(Debug)]
pub(in crate::relay) struct InFlightBatch<C> {
    /// Number of the holding of the lane that sent it.
    pub(in crate::relay) hold: u64,
    pub(in crate::relay) lease: Lease,
    pub(super) number: u64,
    pub(super) place: Place,
    pub(in crate::relay) events: Vec<StoredEvent>,
    pub(super) alone: bool,
    pub(in crate::relay) sent: Instant,
    /// Events that are to be parked, not sent.
    pub(super) passed_over: Vec<Parking>,
    /// Memory of all its events.
    pub(super) held: Held,
    /// Place in the lane before its first event.
    pub(super) start: C,
    /// Place in the lane after its last event.
    pub(super) end: C,
}

/// Those that wait for their reports, or for the reports of an earlier one.
#[derive(Debug)]
pub(super) struct InFlight<C> {
    batches: VecDeque<Sent<C>>,
    last_number: u64,
    /// Number of batches sent before an earlier one failed. Their reports are awaited and ignored.
    abandoned: usize,
}

#[derive(Debug)]
struct Sent<C> {
    number: u64,
    load: Load,
    reported: Option<(InFlightBatch<C>, Vec<DeliveryReport>)>,
}

impl<C> NextBatch<C> {
    pub(super) fn new(batch: LaneBatch<C>, held: Held) -> Self {
        let records = || batch.events.iter().map(|event| &event.record);
        let load = Load {
            keys: records().filter_map(|record| record.key.as_deref()).map(fnv1a).collect(),
            events: batch.events.len(),
            bytes: records().map(|record| record.bytes()).sum(),
        };
        Self { batch, held, load }
    }
}

impl<C: fmt::Display + Send + Sync> InFlightBatch<C> {
    /// What the publisher gets of it.
    pub(in crate::relay) fn batch<'a>(&'a self, tracing: &'a Tracing) -> Batch<'a> {
        Batch {
            events: &self.events,
            lane: self.lease.lane,
            epoch: self.lease.epoch,
            alone: self.alone && self.events.len() == 1,
            progress: Some(Position(&self.end)),
            place: Some(self.place),
            passed_over: &self.passed_over,
            tracing,
        }
    }
}

impl<C> InFlight<C> {
    pub(super) fn new() -> Self {
        Self { batches: VecDeque::new(), last_number: 0, abandoned: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn has_abandoned(&self) -> bool {
        self.abandoned > 0
    }

    /// Number of batches with the publisher.
    pub(super) fn awaited(&self) -> usize {
        self.abandoned + self.batches.iter().filter(|sent| sent.reported.is_none()).count()
    }

    /// Whether a batch can be sent beside those in flight. `most`: the bounds of all of them.
    pub(super) fn has_room_for(&self, next: &NextBatch<C>, most: Bounds) -> bool {
        if self.batches.is_empty() {
            return true;
        }
        let loads = || self.batches.iter().map(|sent| &sent.load);
        let events: usize = loads().map(|load| load.events).sum();
        let bytes: u64 = loads().map(|load| load.bytes).sum();
        self.batches.len() < MOST_BATCHES
            && events + next.load.events <= most.rows as usize
            && bytes + next.load.bytes <= most.bytes
            && loads().all(|load| load.keys.is_disjoint(&next.load.keys))
    }

    /// Adds a batch that is sent now, and returns its number.
    pub(super) fn add(&mut self, next: NextBatch<C>) -> (u64, LaneBatch<C>, Held) {
        let NextBatch { batch, held, load } = next;
        self.last_number += 1;
        self.batches.push_back(Sent { number: self.last_number, load, reported: None });
        (self.last_number, batch, held)
    }

    /// Takes in the reports of a batch. Gives it back if it was abandoned.
    pub(super) fn reported(
        &mut self,
        batch: InFlightBatch<C>,
        reports: Vec<DeliveryReport>,
    ) -> Option<InFlightBatch<C>> {
        match self.batches.iter_mut().find(|sent| sent.number == batch.number) {
            Some(sent) => {
                sent.reported = Some((batch, reports));
                None
            }
            None => {
                self.abandoned = self.abandoned.saturating_sub(1);
                Some(batch)
            }
        }
    }

    /// The first batch, once it has its reports.
    pub(super) fn next_reported(&mut self) -> Option<(InFlightBatch<C>, Vec<DeliveryReport>)> {
        let reported = self.batches.front_mut()?.reported.take()?;
        self.batches.pop_front();
        Some(reported)
    }

    /// Abandons all batches, as an earlier one failed, and returns those that have their reports.
    pub(super) fn abandon(&mut self) -> Vec<InFlightBatch<C>> {
        self.abandoned += self.batches.iter().filter(|sent| sent.reported.is_none()).count();
        let reported = self.batches.drain(..).filter_map(|sent| sent.reported);
        reported.map(|(batch, _)| batch).collect()
    }
}
