//! The relay's loop. Three things run at once: one call of the database (claim, read, save, …), the
//! sending of batches of each lane, and the wait for the next event. The loop handles what ends
//! first, and starts new work.

mod answers;
mod calls;
mod database;
mod drain;
mod parked;
mod pausing;
mod polling;
mod releasing;
mod reports;
mod run;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

pub(in crate::relay) use drain::holders;

use database::Database;
use polling::Polling;
use releasing::Releasing;

use super::lane::{HeldLane, InFlightBatch};
use super::memory::{Held, Memory};
use super::reading::{Ask, Bounds, Reading};
use super::settings::Settings;
use crate::error::OutboxError;
use crate::observe::{Heartbeat, Meter, target};
use crate::publish::{DeliveryReport, Publisher};
use crate::record::{LANES, Lane};
use crate::store::{
    Claimed, HeldElsewhere, KnownParked, LaneBatch, LaneStore, Lease, Pause, Progress, Released,
    RetryResult, Saved, Share,
};

/// What the relay knows and does. It reads by any [`LaneStore`], and publishes by any
/// [`Publisher`].
pub(super) struct Engine<S: LaneStore, P> {
    publisher: Arc<P>,
    settings: Settings,
    heartbeat: Heartbeat,
    meter: Meter,
    share: Share,
    /// The store; `None` while a call of the database has it.
    store: Option<S>,
    database: Database,
    lanes: [Option<HeldLane<S::Cursor>>; LANES],
    /// Number of lanes taken so far.
    holds: u64,
    /// Number of batches in flight of each lane from an earlier holding. Nothing of the lane is
    /// sent until they have their reports.
    abandoned: [usize; LANES],
    sending: JoinSet<Sent<S::Cursor>>,
    memory: Memory,
    reading: Reading,
    /// Whether the open call is a read.
    is_reading: bool,
    /// Whether a read came after the last look for parked events to try again.
    has_read: bool,
    /// Number of rings of the doorbell and of polls.
    rings: u64,
    polling: Polling,
    /// When to look for new events again, however often the doorbell rings.
    next_look: Instant,
    next_claim: Instant,
    save_by: Option<Instant>,
    releasing: Releasing,
    stopping: bool,
    published: u64,
    refusal: Option<OutboxError>,
    /// Lanes that others hold, if all were asked for.
    elsewhere: Vec<HeldElsewhere>,
    /// What is paused, as of the last claim.
    pauses: Vec<Pause>,
}

/// What an engine works with.
pub(super) struct Parts<S, P> {
    pub(super) reader: S,
    pub(super) publisher: P,
    pub(super) memory: Memory,
    pub(super) heartbeat: Heartbeat,
}

/// A call of the database: it returns the store, and the answer.
type Call<S> = Pin<Box<dyn Future<Output = Answered<S>> + Send>>;
type Answered<S> = (S, Result<Answer<<S as LaneStore>::Cursor>, OutboxError>);

enum Answer<C> {
    Claimed(Claimed<C>),
    Read(Vec<LaneBatch<C>>, Box<Asked>),
    Saved(Vec<Progress<C>>, Vec<Vec<Held>>, Saved),
    /// With the memory that was reserved for them.
    Released(Vec<Released>, Held),
    Settled(Lease, RetryResult, Option<bool>),
    NotSettled(Lease, RetryResult, OutboxError),
    GaveBack,
}

/// The state of the lanes when a read began.
struct Asked {
    generations: [u64; LANES],
    asks: Vec<Ask>,
    rings: u64,
    /// Whether a poll alone has asked for it.
    polled: bool,
    begun: Instant,
    /// For lanes with too many parked keys to hold in memory: which keys of the batch are parked.
    parked: [Option<KnownParked>; LANES],
    /// Memory that is reserved for what comes.
    _reserved: Held,
}

/// What was sent.
enum Sent<C> {
    Batch(InFlightBatch<C>, Vec<DeliveryReport>),
    Parked(Lease, Released, Vec<DeliveryReport>, Held),
}

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    pub(super) fn new(parts: Parts<S, P>, settings: Settings, share: Share) -> Self {
        let Parts { reader, publisher, memory, heartbeat } = parts;
        let bounds = Bounds { rows: settings.batch_rows, bytes: settings.batch_bytes };
        let now = Instant::now();
        let meter = heartbeat.meter().clone();
        // A recorder that was installed since the relay was built does not know it yet.
        meter.register_relay();
        meter.database_up(false);
        Self {
            publisher: Arc::new(publisher),
            share,
            store: Some(reader),
            database: Database::new(meter.clone()),
            lanes: [const { None }; LANES],
            holds: 0,
            abandoned: [0; LANES],
            sending: JoinSet::new(),
            reading: Reading::new(bounds, memory.most()),
            memory,
            is_reading: false,
            has_read: false,
            rings: 0,
            polling: Polling::new(settings.poll_interval, now),
            next_look: now,
            next_claim: now,
            save_by: None,
            releasing: Releasing::new(now + settings.retry_parked),
            stopping: false,
            published: 0,
            refusal: None,
            elsewhere: Vec::new(),
            pauses: Vec::new(),
            settings,
            heartbeat,
            meter,
        }
    }

    fn held(&self) -> impl Iterator<Item = &HeldLane<S::Cursor>> {
        self.lanes.iter().flatten()
    }

    fn held_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut HeldLane<S::Cursor>> {
        self.lanes.iter_mut().flatten()
    }

    fn has_all_lanes(&self) -> bool {
        self.lanes.iter().all(Option::is_some)
    }

    fn leases(&self) -> Vec<Lease> {
        self.held().map(|lane| lane.lease).collect()
    }

    fn is_idle(&self) -> bool {
        self.sending.is_empty()
            && !self.releasing.has_results()
            && self.held().all(HeldLane::is_idle)
    }

    /// Sends the batches that are ready.
    fn send_batches(&mut self) {
        if self.stopping {
            return;
        }
        let (now, most) = (Instant::now(), self.reading.of_lane());
        for (lane, abandoned) in self.lanes.iter_mut().zip(self.abandoned) {
            let Some(lane) = lane.as_mut().filter(|_| abandoned == 0) else { continue };
            let Some(batch) = lane.next_batch(now, most) else { continue };
            let (number, events) = (lane.lease.lane.number(), batch.events.len());
            self.meter.batch(events);
            tracing::debug!(target: target::RELAY, lane = number, events, "batch sent");
            let publisher = Arc::clone(&self.publisher);
            let tracing = self.settings.tracing.clone();
            self.sending.spawn(async move {
                let reports = match batch.batch(&tracing) {
                    batch if batch.events.is_empty() && !S::PARKS_FIRST => Vec::new(),
                    batch => publisher.publish(batch).await,
                };
                Sent::Batch(batch, reports)
            });
        }
    }

    /// Forgets a lane, and ignores the reports of its batches in flight.
    fn forget(&mut self, lane: Lane) {
        if let Some(forgotten) = self.lanes[lane.index()].take() {
            self.abandoned[lane.index()] += forgotten.awaited();
        }
    }

    /// The next time at which there may be something to do. While a call of the database is open,
    /// only retries of lanes count.
    fn next_due(&self, is_asking: bool) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let lanes = self.held().filter(|lane| self.abandoned[lane.lease.lane.index()] == 0);
        let mut due = lanes.filter_map(HeldLane::not_before).fold(far, Instant::min);
        if is_asking {
            return due;
        }
        if let Some(back) = self.database.away_until(now) {
            return due.min(back);
        }
        if !self.stopping {
            due = due.min(self.next_claim);
            if self.next_look > now {
                due = due.min(self.next_look);
            }
            if self.share == Share::Fair {
                due = due.min(self.polling.next());
            }
            // Without room, it waits until something is delivered.
            if self.room_for_released().is_some() {
                due = due.min(self.releasing.next_retry);
            }
        }
        due = due.min(self.releasing.settle_again.unwrap_or(far));
        self.save_by.map_or(due, |by| due.min(by))
    }
}
