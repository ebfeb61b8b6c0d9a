//! The relay's calls of the database, one at a time.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Answered, Ask, Asked, Call, Engine};
use crate::error::OutboxError;
use crate::publish::Publisher;
use crate::record::{KeyDigest, LANES};
use crate::relay::lane::HeldLane;
use crate::relay::memory::Held;
use crate::store::{KnownParked, LaneBatch, LaneRead, LaneStore, Lease, Retry, Share};

/// Longest time between two claims. A relay that joins or leaves may be unable to call the others;
/// they notice by then, even with long leases.
const LONGEST_UNTIL_CLAIM: Duration = Duration::from_secs(2);

/// Begins a call of the database, if there is something to ask.
type Step<S, P> = fn(&mut Engine<S, P>, Instant) -> Option<Call<S>>;

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// The next call of the database: the first of these steps that has something to ask.
    pub(super) fn next_call(&mut self) -> Option<Call<S>> {
        let now = Instant::now();
        if self.store.is_none() || self.database.away_until(now).is_some() {
            return None;
        }
        let before_reading: [Step<S, P>; 5] = [
            Self::claim_if_due,
            Self::save_if_due,
            Self::settle,
            Self::save_if_urgent,
            Self::give_lanes_back,
        ];
        // By turns, since a backlog is read without a pause.
        let reading: [Step<S, P>; 2] = match self.has_read {
            true => [Self::look_for_released, Self::read],
            false => [Self::read, Self::look_for_released],
        };
        before_reading.into_iter().chain(reading).find_map(|step| step(self, now))
    }

    /// Has the store asked by `call`.
    fn call<F>(&mut self, call: impl FnOnce(S) -> F) -> Option<Call<S>>
    where
        F: Future<Output = Answered<S>> + Send + 'static,
    {
        Some(Box::pin(call(self.store.take()?)))
    }

    fn claim_if_due(&mut self, now: Instant) -> Option<Call<S>> {
        if self.next_claim > now || self.stopping {
            return None;
        }
        self.next_claim = now + (self.settings.lease / 3).min(LONGEST_UNTIL_CLAIM);
        let (held, share) = (self.leases(), self.share);
        self.call(move |mut store| async move {
            let claimed = store.claim(&held, share).await;
            (store, claimed.map(Answer::Claimed))
        })
    }

    fn save_if_due(&mut self, now: Instant) -> Option<Call<S>> {
        if self.save_by.is_none_or(|by| by > now) { None } else { self.save(now) }
    }

    /// Saves at once what keeps the relay from stopping, or from giving a lane away.
    fn save_if_urgent(&mut self, now: Instant) -> Option<Call<S>> {
        let may_go = |lane: &HeldLane<_>| lane.leaving && lane.awaited() == 0;
        if self.stopping || self.held().any(may_go) { self.save(now) } else { None }
    }

    fn save(&mut self, now: Instant) -> Option<Call<S>> {
        let (progress, held): (Vec<_>, Vec<_>) =
            self.held_mut().filter_map(|lane| lane.take_unsaved(now)).unzip();
        self.save_by = self.held().filter_map(HeldLane::save_again_at).min();
        if progress.is_empty() {
            return None;
        }
        self.call(move |mut store| async move {
            let saved = store.save(&progress).await;
            (store, saved.map(|saved| Answer::Saved(progress, held, saved)))
        })
    }

    /// Saves what became of parked events that were tried again.
    fn settle(&mut self, now: Instant) -> Option<Call<S>> {
        let (lease, settled) = self.releasing.next_result(now)?;
        self.call(move |mut store| async move {
            let answer = match store.save_retry(lease, &settled).await {
                Ok(left) => Ok(Answer::Settled(lease, settled, left)),
                Err(error) if error.is_of_one_statement() => {
                    Ok(Answer::NotSettled(lease, settled, error))
                }
                Err(error) => Err(error),
            };
            (store, answer)
        })
    }

    fn give_lanes_back(&mut self, _: Instant) -> Option<Call<S>> {
        // A lane that was forgotten and taken again may still have batches of before in flight.
        let is_idle =
            |lane: &HeldLane<_>| lane.is_idle() && self.abandoned[lane.lease.lane.index()] == 0;
        let leaving = self.held().filter(|lane| lane.leaving && is_idle(lane));
        let leaving: Vec<Lease> = leaving.map(|lane| lane.lease).collect();
        if leaving.is_empty() {
            return None;
        }
        for lease in &leaving {
            self.lanes[lease.lane.index()] = None;
        }
        self.call(move |mut store| async move {
            let released = store.release(&leaving, false).await;
            (store, released.map(|()| Answer::GaveBack))
        })
    }

    fn look_for_released(&mut self, now: Instant) -> Option<Call<S>> {
        let due = self.releasing.next_retry <= now;
        if self.stopping || !due && !self.releasing.look {
            return None;
        }
        let bytes = self.room_for_released()?;
        let reserved = self.memory.reserve(bytes, true).unwrap_or_default();
        self.releasing.look = false;
        self.has_read = false;
        let unpaused = self.held().filter(|lane| !lane.is_paused());
        let (held, except) =
            (unpaused.map(|lane| lane.lease).collect::<Vec<_>>(), self.releasing.in_progress());
        let mut retry = Retry { after: self.settings.retry_parked, keys: 0, bytes, except };
        if due {
            self.releasing.next_retry = now + self.settings.retry_parked;
            retry.keys = self.releasing.keys;
            self.held_mut().for_each(HeldLane::try_refused_topics_again);
        }
        self.call(move |mut store| async move {
            let released = store.released(&held, retry).await;
            (store, released.map(|released| Answer::Released(released, reserved)))
        })
    }

    fn read(&mut self, now: Instant) -> Option<Call<S>> {
        if self.stopping {
            return None;
        }
        self.poll_if_due(now);
        let in_backlog = self.held().any(|lane| lane.in_backlog);
        if self.next_look > now && !in_backlog {
            return None;
        }
        let (asks, reserved) = self.plan_read()?;
        // A backlog is read without any.
        let polled = self.polling.asked() && !in_backlog;
        let reads = self.reads_of(&asks);
        self.is_reading = true;
        self.has_read = true;
        let mut asked = Asked {
            generations: self.of_each_lane(|lane| lane.generation),
            asks,
            rings: self.rings,
            polled,
            begun: now,
            parked: [const { None }; LANES],
            _reserved: reserved,
        };
        let asks_parked = self.of_each_lane(|lane| lane.parked.asks());
        self.call(move |mut store| async move {
            let read = async {
                let batches = store.read(&reads).await?;
                asked.parked = parked_of(&mut store, &batches, asks_parked).await?;
                Ok(Answer::Read(batches, Box::new(asked)))
            };
            let read = read.await;
            (store, read)
        })
    }

    /// What to read now, and the memory for it. `None`: nothing.
    fn plan_read(&self) -> Option<(Vec<Ask>, Held)> {
        let wanting = self.lanes_to_read();
        loop {
            let asks = self.reading.plan(wanting.clone(), &self.memory);
            let bytes = asks.iter().map(|ask| ask.bytes).sum();
            if asks.is_empty() {
                return None;
            }
            // Otherwise a relay that shares the budget has taken the room at this moment.
            if let Some(reserved) = self.memory.reserve(bytes, asks.len() == 1) {
                return Some((asks, reserved));
            }
        }
    }

    fn poll_if_due(&mut self, now: Instant) {
        // A drain looks once: events that are committed later may have no end.
        if self.share != Share::Fair {
            return;
        }
        let Some(due) = self.polling.due(now) else { return };
        self.rings += 1;
        // A release in another process may not have rung here.
        let any_parked = due.parked && self.held().any(|lane| !lane.parked.are_none());
        self.releasing.look |= any_parked;
    }

    /// Lanes to read now, with the most rows of each. In a backlog, none while less than half of
    /// the lanes want to be read and others are in flight: lanes are then read together, since
    /// their events are on the same pages of the table.
    fn lanes_to_read(&self) -> Vec<(usize, u32)> {
        let (rings, rows) = (self.rings, self.settings.batch_rows);
        let index = |lane: &HeldLane<_>| lane.lease.lane.index();
        let wants = |lane| Some((index(lane), HeldLane::wants(lane, rings, rows)?));
        let wanting: Vec<_> = self.held().filter_map(wants).collect();
        let in_backlog = |(lane, _): &(usize, u32)| {
            self.lanes[*lane].as_ref().is_some_and(|lane| lane.in_backlog)
        };
        let waits_for_others = wanting.iter().all(in_backlog)
            && wanting.len() * 2 < self.held().filter(|lane| !lane.is_paused()).count()
            && self.held().any(|lane| lane.awaited() > 0);
        if waits_for_others { Vec::new() } else { wanting }
    }

    fn reads_of(&self, asks: &[Ask]) -> Vec<LaneRead<S::Cursor>> {
        let read = |ask: &Ask| {
            let lane = self.lanes[ask.lane].as_ref()?;
            let Ask { rows, bytes, largest, .. } = *ask;
            let (lane, from) = (lane.lease.lane, lane.read.clone());
            Some(LaneRead { lane, from, rows, bytes, largest })
        };
        asks.iter().filter_map(read).collect()
    }

    fn of_each_lane<T: Default>(&self, of: impl Fn(&HeldLane<S::Cursor>) -> T) -> [T; LANES] {
        std::array::from_fn(|index| self.lanes[index].as_ref().map(&of).unwrap_or_default())
    }
}

/// For lanes that ask: which keys of their batches are parked.
async fn parked_of<S: LaneStore>(
    store: &mut S,
    batches: &[LaneBatch<S::Cursor>],
    asks: [bool; LANES],
) -> Result<[Option<KnownParked>; LANES], OutboxError> {
    let mut parked = [const { None }; LANES];
    for batch in batches.iter().filter(|batch| asks[batch.lane.index()] && !batch.events.is_empty())
    {
        let keys: BTreeSet<KeyDigest> =
            batch.events.iter().filter_map(|event| event.record.key_digest()).collect();
        parked[batch.lane.index()] =
            Some(store.parked_among(batch.lane, keys.into_iter().collect()).await?);
    }
    Ok(parked)
}
