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

/// A lane has one batch with the publisher, and reads the next meanwhile. It may have several if
/// they have no key in common: then an event of the later one cannot overtake an earlier event of
/// its key, whatever becomes of the batches. They are taken in, as delivered or not, in their
/// order.
#[derive(Debug)]
pub(super) struct HeldLane<C> {
    /// Tells this holding of the lane from any before, even if a failed database forgot the epoch
    /// of one.
    pub(super) hold: u64,
    pub(super) lease: Lease,
    /// Up to where it is read.
    pub(super) read: C,
    /// Read, and to be sent when what is in flight has its reports.
    pub(super) next: Option<LaneBatch<C>>,
    next_held: Held,
    /// Hashes of its keys.
    next_keys: HashSet<u64>,
    /// With the publisher, in order.
    flights: VecDeque<InFlight<C>>,
    next_flight: u64,
    /// With the publisher, and of no use any more, since a batch before them failed. They are
    /// waited for.
    ghosts: usize,
    /// Delivered, and not saved yet.
    pub(super) unsaved: Option<Progress<C>>,
    /// The memory of its parked events.
    parking: Vec<Held>,
    /// There is more of it than was asked for.
    pub(super) in_backlog: bool,
    /// Read to the end, when the doorbell had rung so often.
    pub(super) quiet_since: Option<u64>,
    /// Changes when the lane is read again from an earlier place: what was being read is of no use
    /// then.
    pub(super) generation: u64,
    /// Another relay is to have it.
    pub(super) leaving: bool,
    pub(super) parked: ParkedKeys,
    /// The database did not take `unsaved`: nothing is sent until it does.
    saving_fails: Option<SavingFails>,
    retry: Option<LaneRetry>,
    /// Topics that the broker refuses: their events are parked without a try until the parked ones
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

/// A lane that had an event refused. It is tried again after a pause, alone and one event at a
/// time: so the event at fault is known for sure, and none overtakes it.
#[derive(Debug)]
struct LaneRetry {
    backoff: Backoff,
    not_before: Instant,
    refusals: u32,
    /// The event that was refused in a batch: those up to it are sent alone. `None`: the batch
    /// failed for no fault of its events.
    alone_up_to: Option<i64>,
}

/// A batch as it is sent: without the events that are passed over.
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

/// What a lane makes of the reports.
#[derive(Debug)]
pub(super) enum Settlement {
    AllDelivered {
        after_retry: bool,
    },
    /// An event was refused in a batch, or alone but not often enough to be parked.
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

/// How many batches of a lane are with the publisher at most.
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

    /// How many events to read now, if it is to be read; `rings` tells whether there may be news.
    pub(super) fn wants(&self, rings: u64, rows: u32) -> Option<u32> {
        if self.next.is_some() || self.leaving || self.quiet_since == Some(rings) {
            return None;
        }
        match &self.retry {
            None => Some(rows),
            // What is in flight decides from where to go on.
            Some(_) if self.in_the_air() > 0 => None,
            Some(retry) if retry.alone_up_to.is_some() => Some(1),
            Some(_) => Some(rows),
        }
    }

    /// Takes in what was read. `full`: as much as was asked for.
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

    /// The batch to send now. `most`: what may be with the publisher in several batches.
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

    /// Takes in the reports of a flight, and of those behind it that had to wait for it: what to
    /// save, and from where to go on. `park_after`: refusals of an event alone after which it is
    /// parked.
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
        // The refusal of a later event may have cost this one its answer. Together they would only
        // fail again.
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
            // It was read alone, so all before the batch's end is this event, or was passed over.
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

    /// Whether a retry has ended, with all up to the number `last` delivered.
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

    /// What is to be saved, unless it is too early to try that again.
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

    /// When to try again what the database did not take.
    pub(super) fn save_again(&self) -> Option<Instant> {
        self.saving_fails.as_ref().filter(|_| self.unsaved.is_some()).map(|fails| fails.not_before)
    }

    /// Returns whether that failed before.
    pub(super) fn was_saved(&mut self, progress: &Progress<C>) -> bool {
        self.parked.saved(&progress.parked);
        self.saving_fails.take().is_some()
    }

    /// It stays to be saved, before what was delivered since. Returns when to try again, and
    /// whether it is the first time.
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

    /// How much is on the way to be parked.
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

    /// What was read, and not sent, is read again.
    pub(super) fn drop_next(&mut self) {
        self.next = None;
        self.next_held = Held::default();
    }

    /// Whether another relay can have it without an event published twice.
    pub(super) fn is_idle(&self) -> bool {
        self.in_the_air() == 0 && self.unsaved.is_none()
    }

    /// How many batches are with the publisher.
    pub(super) fn in_the_air(&self) -> usize {
        self.ghosts + self.flights.iter().filter(|flight| flight.landed.is_none()).count()
    }

    /// The time before which nothing of it is to be sent.
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
