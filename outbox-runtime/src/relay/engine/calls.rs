//! The relay's calls of the database, one at a time, and what it does with the answers.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Ask, Asked, Call, CursorOf, Engine, StoreOf};
use crate::error::{ErrorKind, OutboxError};
use crate::failpoint::failpoint;
use crate::observe;
use crate::observe::target;
use crate::publish::Publisher;
use crate::record::{KeyDigest, LANES, Lane};
use crate::relay::lane::HeldLane;
use crate::relay::memory::Held;
use crate::store::fault::Fault;
use crate::store::{
    Claimed, KnownParked, LaneBatch, LaneRead, LaneStore, Lease, OutboxDatabase, Progress, Saved,
    Share,
};

/// Longest time between two claims. A relay that joins or leaves may be unable to call the others;
/// they notice by then, even with long leases.
const LONGEST_UNTIL_CLAIM: Duration = Duration::from_secs(2);

impl<DB: OutboxDatabase, P: Publisher> Engine<DB, P> {
    /// The next call of the database.
    pub(super) fn next_call(&mut self) -> Option<Call<DB>> {
        let now = Instant::now();
        if self.store.is_none() || self.database_back.is_some_and(|back| back > now) {
            return None;
        }
        let held = self.leases();
        if self.next_claim <= now && !self.stopping {
            self.next_claim = now + (self.settings.lease / 3).min(LONGEST_UNTIL_CLAIM);
            let share = self.share;
            return self.call(move |mut store| async move {
                let claimed = store.claim(&held, share).await;
                (store, claimed.map(Answer::Claimed))
            });
        }
        if self.save_by.is_some_and(|by| by <= now)
            && let Some(save) = self.save()
        {
            return Some(save);
        }
        if let Some(settle) = self.settle(now) {
            return Some(settle);
        }
        let may_go = |lane: &HeldLane<_>| lane.leaving && lane.awaited() == 0;
        let in_a_hurry = self.stopping || self.lanes.iter().flatten().any(may_go);
        if in_a_hurry && let Some(save) = self.save() {
            return Some(save);
        }
        let leaving: Vec<Lease> = self
            .lanes
            .iter()
            .flatten()
            .filter(|lane| lane.leaving && lane.is_idle())
            .map(|lane| lane.lease)
            .collect();
        if !leaving.is_empty() {
            for lease in &leaving {
                self.lanes[lease.lane.index()] = None;
            }
            return self.call(move |mut store| async move {
                let released = store.release(&leaving, false).await;
                (store, released.map(|()| Answer::GaveBack))
            });
        }
        // By turns, since a backlog is read without a pause.
        match self.stopping {
            true => None,
            false if self.has_read => self.look_for_released(now).or_else(|| self.read(now)),
            false => self.read(now).or_else(|| self.look_for_released(now)),
        }
    }

    pub(super) fn call<F>(&mut self, call: impl FnOnce(StoreOf<DB>) -> F) -> Option<Call<DB>>
    where
        F: Future<Output = (StoreOf<DB>, Result<Answer<CursorOf<DB>>, OutboxError>)>
            + Send
            + 'static,
    {
        Some(Box::pin(call(self.store.take()?)))
    }

    fn read(&mut self, now: Instant) -> Option<Call<DB>> {
        // A drain looks once: events that are committed later may have no end.
        if self.next_poll <= now && self.share == Share::Fair {
            self.rings += 1;
            self.next_poll = now + self.settings.poll_interval;
            // A release in another process may not have rung here.
            self.releasing.look |= self.lanes.iter().flatten().any(|lane| !lane.parked.are_none());
        }
        let (rings, rows) = (self.rings, self.settings.batch_rows);
        let wanting = self.lanes.iter().flatten();
        let wanting: Vec<(usize, u32)> = wanting
            .filter_map(|lane| Some((lane.lease.lane.index(), lane.wants(rings, rows)?)))
            .collect();
        if wanting.is_empty() {
            return None;
        }
        // In a backlog, lanes are read together: their events are on the same pages of the table.
        let held = || self.lanes.iter().flatten();
        let in_backlog = wanting
            .iter()
            .all(|(lane, _)| self.lanes[*lane].as_ref().is_some_and(|lane| lane.in_backlog));
        if in_backlog && wanting.len() * 2 < held().count() && held().any(|lane| lane.awaited() > 0)
        {
            return None;
        }
        let asks = self.reading.plan(wanting, &self.memory);
        let reads: Vec<LaneRead<CursorOf<DB>>> = asks
            .iter()
            .filter_map(|ask| {
                let lane = self.lanes[ask.lane].as_ref()?;
                let Ask { rows, bytes, largest, .. } = *ask;
                Some(LaneRead {
                    lane: lane.lease.lane,
                    from: lane.read.clone(),
                    rows,
                    bytes,
                    largest,
                })
            })
            .collect();
        if reads.is_empty() {
            return None;
        }
        self.is_reading = true;
        self.has_read = true;
        let generations = std::array::from_fn(|index| {
            self.lanes[index].as_ref().map_or(0, |lane| lane.generation)
        });
        let asks_parked = std::array::from_fn(|index| {
            self.lanes[index].as_ref().is_some_and(|lane| lane.parked.asks())
        });
        self.call(move |mut store| async move {
            let mut asked =
                Asked { generations, asks, rings, begun: now, parked: [const { None }; LANES] };
            let read = async {
                let batches = store.read(&reads).await?;
                asked.parked = parked_of(&mut store, &batches, asks_parked).await?;
                Ok(Answer::Read(batches, Box::new(asked)))
            };
            let read = read.await;
            (store, read)
        })
    }

    fn save(&mut self) -> Option<Call<DB>> {
        let now = Instant::now();
        let (progress, held): (Vec<_>, Vec<_>) =
            self.lanes.iter_mut().flatten().filter_map(|lane| lane.take_unsaved(now)).unzip();
        self.save_by = self.lanes.iter().flatten().filter_map(HeldLane::save_again_at).min();
        if progress.is_empty() {
            return None;
        }
        self.call(move |mut store| async move {
            let saved = store.save(&progress).await;
            (store, saved.map(|saved| Answer::Saved(progress, held, saved)))
        })
    }

    pub(super) fn leases(&self) -> Vec<Lease> {
        self.lanes.iter().flatten().map(|lane| lane.lease).collect()
    }

    pub(super) fn answered(
        &mut self,
        (store, answer): (StoreOf<DB>, Result<Answer<CursorOf<DB>>, OutboxError>),
    ) -> Result<(), OutboxError> {
        self.store = Some(store);
        let was_reading = std::mem::take(&mut self.is_reading);
        match answer {
            Ok(answer) => {
                self.database.reset();
                self.has_started = true;
                self.trouble = None;
                if self.database_back.take().is_some() {
                    tracing::info!(target: target::RELAY, "the relay can use the database again");
                }
                self.take_in(answer);
                Ok(())
            }
            Err(error) if self.is_final(&error) => Err(error),
            Err(error) => {
                let trouble = Trouble::of(&error);
                if self.trouble.replace(trouble) != Some(trouble) {
                    tracing::warn!(target: target::RELAY, %error, "{}", trouble.what_it_means());
                }
                if was_reading {
                    self.reading.failed();
                }
                // No cursor is used beyond the connection that it was read over.
                for lane in Lane::all() {
                    self.forget(lane);
                }
                self.releasing.unsettle();
                let now = Instant::now();
                self.database_back = Some(now + self.database.pause());
                self.next_claim = now;
                Ok(())
            }
        }
    }

    pub(super) fn take_in(&mut self, answer: Answer<CursorOf<DB>>) {
        match answer {
            Answer::Claimed(claimed) => self.claimed(claimed),
            Answer::Read(batches, asked) => {
                if batches.iter().any(|batch| !batch.events.is_empty()) {
                    failpoint("after-read");
                }
                self.was_read(batches, *asked);
            }
            Answer::Saved(progress, held, saved) => {
                failpoint("after-save");
                self.saved(progress.into_iter().zip(held).collect(), saved);
            }
            Answer::Released(released) => self.send_released(released),
            Answer::Settled(lease, settled, left) => self.settled(lease, settled, left),
            Answer::NotSettled(lease, settled, error) => self.not_settled(lease, settled, &error),
            Answer::GaveBack => failpoint("after-giving-lanes"),
        }
    }

    fn was_read(&mut self, batches: Vec<LaneBatch<CursorOf<DB>>>, mut asked: Asked) {
        let bytes =
            batches.iter().flat_map(|batch| &batch.events).map(|event| event.record.bytes()).sum();
        self.reading.took(asked.begun.elapsed(), bytes, self.settings.lease);
        for batch in batches {
            let index = batch.lane.index();
            let sizes = batch.events.iter().map(|event| event.record.bytes());
            self.reading.learn(index, sizes, batch.rest);
            let Some(lane) = &mut self.lanes[index] else { continue };
            if lane.generation != asked.generations[index] || self.stopping {
                continue;
            }
            let parked = asked.parked[index].take();
            if parked.is_none() && lane.parked.asks() && !batch.events.is_empty() {
                continue;
            }
            let held = self.memory.hold(&batch.events);
            let full =
                asked.asks.iter().any(|ask| ask.lane == index && ask.is_full_of(&batch.events));
            lane.was_read(batch, held, full, asked.rings);
            if let Some(parked) = parked {
                lane.parked.were_asked(parked);
            }
        }
    }

    fn saved(&mut self, progress: Vec<(Progress<CursorOf<DB>>, Vec<Held>)>, saved: Saved) {
        let Saved { lost, mut failed } = saved;
        for (progress, held) in progress {
            let number = progress.lease.lane.number();
            let Some(lane) = &mut self.lanes[progress.lease.lane.index()] else { continue };
            let Some(place) = failed.iter().position(|(lane, _)| *lane == progress.lease.lane)
            else {
                if lane.was_saved(&progress) {
                    tracing::info!(target: target::RELAY, lane = number, "events parked after all: the lane resumes");
                }
                self.releasing.look |= progress.parked.iter().any(|parking| parking.released);
                continue;
            };
            let (_, error) = failed.swap_remove(place);
            let (again, first) = lane.was_not_saved(progress, held, Instant::now());
            self.save_by = Some(self.save_by.map_or(again, |by| by.min(again)));
            if first {
                tracing::error!(
                    target: target::RELAY,
                    lane = number, %error,
                    "the database did not take the events that were to be parked: they are still in the outbox, and their \
                     lane waits until it does; the others continue. Does the relay's role have INSERT and UPDATE on the \
                     outbox's tables?"
                );
            } else {
                tracing::debug!(target: target::RELAY, lane = number, %error, "events still not parked");
            }
            if self.share == Share::All {
                self.refusal = Some(error);
            }
        }
        self.lost(&lost);
    }

    pub(super) fn claimed(&mut self, claimed: Claimed<CursorOf<DB>>) {
        let Claimed { lost, taken, share, elsewhere } = claimed;
        self.elsewhere = elsewhere;
        self.heartbeat.ready();
        self.lost(&lost);
        let before = self.lanes.iter().flatten().count();
        for (lease, cursor, parked) in taken {
            self.holds += 1;
            self.lanes[lease.lane.index()] = Some(HeldLane::new(self.holds, lease, cursor, parked));
            self.releasing.look = true;
        }
        let held = self.lanes.iter().flatten().count();
        if held != before {
            tracing::info!(target: target::RELAY, lanes = held, "relay holds lanes");
        }
        observe::lanes_held(held);
        let to_keep = if self.share == Share::All { LANES } else { share };
        let surplus = self.lanes.iter_mut().flatten().rev().take(held.saturating_sub(to_keep));
        for lane in surplus {
            lane.leaving = true;
            // What was read and not sent is read again by the next holder.
            lane.drop_next();
        }
    }

    /// This is normal after a suspension or a failover, and an operator should see it.
    pub(super) fn lost(&mut self, lost: &[Lane]) {
        if lost.is_empty() {
            return;
        }
        for lane in lost {
            self.forget(*lane);
        }
        self.next_claim = Instant::now();
        tracing::warn!(
            target: target::RELAY,
            lanes = ?lost.iter().map(|lane| lane.number()).collect::<Vec<_>>(),
            "lanes lost: another relay has taken them over; it publishes them from the cursor that is saved, and what \
             was in flight here may arrive twice"
        );
    }

    pub(super) fn forget(&mut self, lane: Lane) {
        if let Some(forgotten) = self.lanes[lane.index()].take() {
            self.aloft[lane.index()] += forgotten.awaited();
        }
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

impl<DB: OutboxDatabase, P: Publisher> Engine<DB, P> {
    /// Whether the error ends the relay. A relay that has worked waits for everything that can
    /// change: credentials are rotated, a failover ends, tables are restored.
    fn is_final(&self, error: &OutboxError) -> bool {
        error.kind() == ErrorKind::Config || !self.has_started && Trouble::of(error).ends_a_start()
    }
}

/// Why the database cannot be used. Changes are logged, not each error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Away,
    ReadOnly,
    /// The server refuses the credentials, or has no such database.
    Refused,
    NoTables,
}

impl Trouble {
    fn of(error: &OutboxError) -> Self {
        match error.fault() {
            _ if error.kind() == ErrorKind::NotMigrated => Self::NoTables,
            Fault::LoginRefused => Self::Refused,
            Fault::ReadOnly => Self::ReadOnly,
            _ => Self::Away,
        }
    }

    /// A wrong password, a database that does not exist, missing tables: at the start, waiting
    /// would not change them.
    fn ends_a_start(self) -> bool {
        matches!(self, Self::Refused | Self::NoTables)
    }

    fn what_it_means(self) -> &'static str {
        match self {
            Self::Away => {
                "the relay cannot use the database: nothing is lost, it tries again until it can. Is the address right?"
            }
            Self::ReadOnly => {
                "the relay cannot use the database, which takes no writes (a standby, as in a failover): nothing is lost, it \
                 connects again until it reaches the primary. Does the address lead there?"
            }
            Self::Refused => {
                "the relay cannot use the database, which refuses its credentials: nothing is lost, it tries again, with \
                 those that the pool has then (`Pool::set_connect_options`)"
            }
            Self::NoTables => {
                "the relay cannot use the database, in which its tables are no more: it tries again until they are back"
            }
        }
    }
}
