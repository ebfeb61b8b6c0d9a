//! What a relay knows of a lane that it leases.

mod parked;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use parked::ParkedKeys;

use super::memory::Held;
use super::reading::Bounds;
use crate::backoff::Backoff;
use crate::publish::{Batch, DeliveryReport, Position};
use crate::record::{StoredEvent, fnv1a};
use crate::store::{KnownParked, LaneBatch, Lease, Parking, Progress, Rest};

/// A lane has one batch in flight while it reads the next one. It may have several in flight if
/// they have no key in common: then an event of a later batch cannot overtake an earlier event of
/// its key, even if a batch fails. Their reports are taken in the order of the batches.
#[derive(Debug)]
pub(super) struct HeldLane<C> {
    /// Number of this holding of the lane. It differs from any before, even if a database that
    /// failed has forgotten an epoch.
    pub(super) hold: u64,
    pub(super) lease: Lease,
    /// Cursor up to which it is read.
    pub(super) read: C,
    /// Batch that is read, and sent when what is in flight has its reports.
    pub(super) next: Option<LaneBatch<C>>,
    next_held: Held,
    /// Hashes of the keys in `next`.
    next_keys: HashSet<u64>,
    /// Batches with the publisher, in order.
    flights: VecDeque<InFlight<C>>,
    next_flight: u64,
    /// Number of batches sent before an earlier one failed. Their reports are awaited and ignored.
    ghosts: usize,
    /// Progress that is delivered and not saved yet.
    pub(super) unsaved: Option<Progress<C>>,
    /// Memory held by its events that are to be parked.
    parking: Vec<Held>,
    /// Whether there is more of it than was asked for.
    pub(super) in_backlog: bool,
    /// Count of rings at which the lane was last read to its end. `None`: it was not.
    pub(super) quiet_since: Option<u64>,
    /// Number that changes when the lane is read again from an earlier cursor: a read that was
    /// running is then ignored.
    pub(super) generation: u64,
    /// Whether the lane is to be given to another relay.
    pub(super) leaving: bool,
    pub(super) parked: ParkedKeys,
    /// Set if the database did not accept `unsaved`: nothing is sent until it does.
    saving_fails: Option<SavingFails>,
    retry: Option<LaneRetry>,
    /// Topics that the broker refuses. Their events are parked without an attempt until parked ones
    /// are tried again.
    refused_topics: HashSet<String>,
}

#[derive(Debug)]
struct InFlight<C> {
    number: u64,
    /// Hashes of the keys.
    keys: HashSet<u64>,
    events: usize,
    bytes: u64,
    landed: Option<(Flight<C>, Vec<DeliveryReport>)>,
}

#[derive(Debug)]
struct SavingFails {
    backoff: Backoff,
    not_before: Instant,
}

/// The retry of a lane that had an event refused. After a pause, its events are sent alone and one
/// at a time, so that the refused event is known for certain and none overtakes it.
#[derive(Debug)]
struct LaneRetry {
    backoff: Backoff,
    not_before: Instant,
    refusals: u32,
    /// Number of the event that was refused in a batch: events up to it are sent alone. `None`: the
    /// batch failed through no fault of its events.
    alone_up_to: Option<i64>,
}

/// A batch as it is sent, without the events that are passed over.
#[derive(Debug)]
pub(super) struct Flight<C> {
    pub(super) hold: u64,
    pub(super) lease: Lease,
    number: u64,
    pub(super) events: Vec<StoredEvent>,
    alone: bool,
    pub(super) sent: Instant,
    pub(super) passed_over: Vec<Parking>,
    held: Held,
    start: C,
    end: C,
}

impl<C: fmt::Display + Send + Sync> Flight<C> {
    /// What the publisher gets of it.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            events: &self.events,
            lane: self.lease.lane,
            epoch: self.lease.epoch,
            alone: self.alone && self.events.len() == 1,
            progress: Some(Position(&self.end)),
        }
    }
}

/// What a lane concludes from the reports of a batch.
#[derive(Debug)]
pub(super) enum Settlement {
    AllDelivered {
        after_retry: bool,
    },
    /// An event was refused in a batch, or alone but fewer times than it takes to be parked.
    Refused {
        event: StoredEvent,
        report: DeliveryReport,
        attempt: u32,
        alone: bool,
    },
    Parked {
        event: StoredEvent,
        report: DeliveryReport,
        attempt: u32,
    },
    /// The batch is sent again.
    Interrupted,
}

/// Most batches of a lane that are with the publisher.
const MOST_FLIGHTS: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE_WITHOUT_FAULT: Duration = Duration::from_secs(1);

impl<C: Clone> HeldLane<C> {
    pub(super) fn new(hold: u64, lease: Lease, cursor: C, parked: KnownParked) -> Self {
        Self {
            hold,
            lease,
            read: cursor,
            next: None,
            next_held: Held::default(),
            next_keys: HashSet::new(),
            flights: VecDeque::new(),
            next_flight: 0,
            ghosts: 0,
            unsaved: None,
            parking: Vec::new(),
            in_backlog: false,
            quiet_since: None,
            generation: 0,
            leaving: false,
            parked: ParkedKeys::new(parked),
            saving_fails: None,
            retry: None,
            refused_topics: HashSet::new(),
        }
    }

    /// Number of events to read now. `None`: nothing is to be read. `rings` shows whether there may
    /// be new events.
    pub(super) fn wants(&self, rings: u64, rows: u32) -> Option<u32> {
        if self.next.is_some() || self.leaving || self.quiet_since == Some(rings) {
            return None;
        }
        match &self.retry {
            None => Some(rows),
            // What is in flight decides from where to continue.
            Some(_) if self.in_the_air() > 0 => None,
            Some(retry) if retry.alone_up_to.is_some() => Some(1),
            Some(_) => Some(rows),
        }
    }

    /// Takes in what was read. `full`: whether it was as much as was asked for.
    pub(super) fn was_read(&mut self, batch: LaneBatch<C>, held: Held, full: bool, rings: u64) {
        self.read = batch.end.clone();
        self.in_backlog = full;
        self.next_held = held;
        if batch.events.is_empty() {
            if batch.rest == Rest::Nothing {
                self.quiet_since = Some(rings);
            }
            if batch.save {
                self.next_keys.clear();
                self.next = Some(batch);
            }
        } else {
            self.next_keys = batch
                .events
                .iter()
                .filter_map(|event| event.record.key.as_deref())
                .map(fnv1a)
                .collect();
            self.next = Some(batch);
        }
    }

    /// The batch to send now. `most`: the bounds of what may be in flight in several batches.
    pub(super) fn take_off(&mut self, now: Instant, most: Bounds) -> Option<Flight<C>> {
        let blocked = match &self.retry {
            _ if self.ghosts > 0 || self.saving_fails.is_some() => true,
            None => false,
            Some(retry) => retry.not_before > now || !self.flights.is_empty(),
        };
        let batch = self.next.as_ref().filter(|_| !blocked)?;
        let bytes = batch.events.iter().map(|event| event.record.bytes()).sum();
        if !self.flights.is_empty() {
            let events: usize = self.flights.iter().map(|flight| flight.events).sum();
            let in_flight: u64 = self.flights.iter().map(|flight| flight.bytes).sum();
            if events + batch.events.len() > most.rows as usize
                || in_flight + bytes > most.bytes
                || self.flights.len() == MOST_FLIGHTS
                || self.flights.iter().any(|flight| !flight.keys.is_disjoint(&self.next_keys))
            {
                return None;
            }
        }
        self.next_flight += 1;
        let number = self.next_flight;
        let keys = std::mem::take(&mut self.next_keys);
        self.flights.push_back(InFlight {
            number,
            keys,
            events: batch.events.len(),
            bytes,
            landed: None,
        });
        let LaneBatch { events, start, end, .. } = self.next.take()?;
        let mut passed_over = Vec::new();
        let events = events
            .into_iter()
            .filter_map(|event| {
                let topic_refused = self.refused_topics.contains(&*event.record.topic);
                let unread = event.refused_unread();
                if unread.is_none() && !topic_refused && !self.parked.holds(&event.record) {
                    return Some(event);
                }
                let released = self.parked.add(&event.record);
                let reason = match unread {
                    Some(why) => Some(why.to_string()),
                    None => topic_refused
                        .then(|| format!("the topic `{}` is refused", event.record.topic)),
                };
                passed_over.push(Parking { event, reason, attempts: 0, released });
                None
            })
            .collect();
        self.parked.next_is_taken();
        let alone = self.retry.as_ref().is_some_and(|retry| retry.alone_up_to.is_some());
        Some(Flight {
            hold: self.hold,
            lease: self.lease,
            number,
            events,
            alone,
            sent: now,
            passed_over,
            held: std::mem::take(&mut self.next_held),
            start,
            end,
        })
    }

    /// Takes in the reports of a batch, and of later batches that had to wait for it: what to save,
    /// and from where to continue. `park_after`: number of refusals of an event, sent alone, after
    /// which it is parked.
    pub(super) fn land(
        &mut self,
        flight: Flight<C>,
        reports: Vec<DeliveryReport>,
        cursor_before: impl Fn(&C, i64) -> C,
        park_after: Option<u32>,
        now: Instant,
    ) -> Vec<Settlement> {
        let Some(landed) =
            self.flights.iter_mut().find(|in_flight| in_flight.number == flight.number)
        else {
            self.ghosts = self.ghosts.saturating_sub(1);
            self.parked.saved(&flight.passed_over);
            return Vec::new();
        };
        landed.landed = Some((flight, reports));
        let mut settlements = Vec::new();
        while let Some((flight, reports)) =
            self.flights.front_mut().and_then(|first| first.landed.take())
        {
            self.flights.pop_front();
            let settlement = self.settle(flight, reports, &cursor_before, park_after, now);
            let failed = matches!(settlement, Settlement::Refused { .. } | Settlement::Interrupted);
            settlements.push(settlement);
            if failed {
                self.ghosts = self.flights.iter().filter(|flight| flight.landed.is_none()).count();
                for (flight, _) in self.flights.drain(..).filter_map(|flight| flight.landed) {
                    self.parked.saved(&flight.passed_over);
                }
            }
        }
        settlements
    }

    fn settle(
        &mut self,
        flight: Flight<C>,
        reports: Vec<DeliveryReport>,
        cursor_before: &impl Fn(&C, i64) -> C,
        park_after: Option<u32>,
        now: Instant,
    ) -> Settlement {
        let Flight { events, alone, mut passed_over, held, start, end, .. } = flight;
        let bad =
            (0..events.len()).find(|i| !reports.get(*i).is_some_and(DeliveryReport::is_delivered));
        let Some(bad) = bad else {
            let last = events.iter().chain(passed_over.iter().map(|parking| &parking.event));
            let last = last.map(|event| event.seq).max();
            self.delivered(end, passed_over, held);
            return Settlement::AllDelivered { after_retry: self.is_over_it(last, now) };
        };
        // The refusal of a later event may be the reason why this one has no answer. Sent together,
        // they would only fail again.
        let refused_at = reports.iter().position(DeliveryReport::is_refusal);
        let event = &events[refused_at.unwrap_or(bad)];
        let report = refused_at
            .and_then(|at| reports.into_iter().nth(at))
            .unwrap_or(DeliveryReport::NotSent);
        let retry = self.retry.get_or_insert_with(|| LaneRetry {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            refusals: 0,
            alone_up_to: None,
        });
        let refused = refused_at.is_some();
        let attempt = retry.refusals + 1;
        if refused && alone {
            retry.refusals = attempt;
        }
        let at_fault = matches!(report, DeliveryReport::EventRefused(_));
        if refused && alone && park_after.is_some_and(|most| at_fault || attempt >= most) {
            let event = event.clone();
            self.is_over_it(Some(event.seq), now);
            if matches!(report, DeliveryReport::TopicRefused(_)) {
                self.refused_topics.insert(event.record.topic.clone().into_owned());
            }
            self.parked.add(&event.record);
            let reason = Some(report.to_string());
            // It was read alone, so everything before the batch's end is this event, or was passed
            // over.
            passed_over.push(Parking {
                event: event.clone(),
                reason,
                attempts: attempt,
                released: false,
            });
            self.delivered(end, passed_over, held);
            return Settlement::Parked { event, report, attempt };
        }
        let pause = retry.backoff.pause();
        if refused {
            retry.alone_up_to = retry.alone_up_to.max(Some(event.seq));
            retry.not_before = now + pause;
        } else {
            retry.not_before = now + pause.min(LONGEST_PAUSE_WITHOUT_FAULT);
        }
        let up_to = events[bad].seq;
        let (taken, given_up): (Vec<_>, Vec<_>) =
            passed_over.into_iter().partition(|parking| parking.event.seq < up_to);
        self.parked.saved(&given_up);
        let cursor = cursor_before(&start, up_to);
        if bad > 0 || !taken.is_empty() {
            self.delivered(cursor.clone(), taken, held);
        }
        self.read_again_from(cursor);
        if refused {
            Settlement::Refused { event: event.clone(), report, attempt, alone }
        } else {
            Settlement::Interrupted
        }
    }

    /// Whether a retry has ended once everything up to the number `last` is delivered.
    fn is_over_it(&mut self, last: Option<i64>, now: Instant) -> bool {
        match &mut self.retry {
            Some(retry) if retry.alone_up_to > last => {
                retry.backoff.reset();
                retry.not_before = now;
                retry.refusals = 0;
                false
            }
            retry => retry.take().is_some(),
        }
    }

    fn delivered(&mut self, cursor: C, mut parked: Vec<Parking>, held: Held) {
        if !parked.is_empty() {
            self.parking.push(held);
        }
        let lease = self.lease;
        let unsaved = self.unsaved.get_or_insert_with(|| Progress {
            lease,
            cursor: cursor.clone(),
            parked: Vec::new(),
        });
        unsaved.cursor = cursor;
        unsaved.parked.append(&mut parked);
    }

    /// The progress to save. `None`: there is none, or it is too early to try again.
    pub(super) fn take_unsaved(&mut self, now: Instant) -> Option<(Progress<C>, Vec<Held>)> {
        if self.saving_fails.as_ref().is_some_and(|fails| fails.not_before > now) {
            return None;
        }
        let mut progress = self.unsaved.take()?;
        for parking in &mut progress.parked {
            parking.released |= self.parked.is_released(&parking.event.record);
        }
        Some((progress, std::mem::take(&mut self.parking)))
    }

    /// When to try to save again what the database did not accept.
    pub(super) fn save_again(&self) -> Option<Instant> {
        self.saving_fails.as_ref().filter(|_| self.unsaved.is_some()).map(|fails| fails.not_before)
    }

    /// Returns whether saving had failed before.
    pub(super) fn was_saved(&mut self, progress: &Progress<C>) -> bool {
        self.parked.saved(&progress.parked);
        self.saving_fails.take().is_some()
    }

    /// Keeps the progress to be saved, merged with what was delivered since. Returns when to try
    /// again, and whether this is the first failure.
    pub(super) fn was_not_saved(
        &mut self,
        mut progress: Progress<C>,
        held: Vec<Held>,
        now: Instant,
    ) -> (Instant, bool) {
        self.parking.extend(held);
        if let Some(mut later) = self.unsaved.take() {
            progress.cursor = later.cursor;
            progress.parked.append(&mut later.parked);
        }
        self.unsaved = Some(progress);
        let first = self.saving_fails.is_none();
        let fails = self.saving_fails.get_or_insert_with(|| SavingFails {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
        });
        fails.not_before = now + fails.backoff.pause();
        (fails.not_before, first)
    }

    /// Bytes of events that are about to be parked.
    pub(super) fn unsaved_bytes(&self) -> u64 {
        let parked = self.unsaved.iter().flat_map(|progress| &progress.parked);
        parked.map(|parking| parking.event.record.bytes()).sum()
    }

    fn read_again_from(&mut self, cursor: C) {
        self.read = cursor;
        self.drop_next();
        self.quiet_since = None;
        self.generation += 1;
    }

    /// Drops the batch that was read and not sent: it is read again.
    pub(super) fn drop_next(&mut self) {
        self.next = None;
        self.next_held = Held::default();
    }

    /// Whether another relay can have the lane without an event being published twice.
    pub(super) fn is_idle(&self) -> bool {
        self.in_the_air() == 0 && self.unsaved.is_none()
    }

    /// Number of batches with the publisher.
    pub(super) fn in_the_air(&self) -> usize {
        self.ghosts + self.flights.iter().filter(|flight| flight.landed.is_none()).count()
    }

    /// Time before which nothing of it is sent. `None`: nothing waits for a retry.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.retry
            .as_ref()
            .filter(|_| {
                self.next.is_some() && self.in_the_air() == 0 && self.saving_fails.is_none()
            })
            .map(|retry| retry.not_before)
    }

    pub(super) fn try_refused_topics_again(&mut self) {
        self.refused_topics.clear();
    }
}
