//! A group that this relay holds: what the reader, the publisher and the waves share of it.

use std::cmp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::join::{Admission, Join, Member, Outcome, Part};
use super::record::ProgressRecord;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::publish::Place;
use crate::publish::transactions::GroupSession;
use crate::record::Lane;
use crate::store::groups::{ExactlyOnceStore, GroupStore, Row, Wave};
use crate::store::{Lease, Parking, Progress, RetryResult};

/// A group under one claim. Once it has ended, nothing is sent or parked in its name any more.
pub(super) struct Group<G, S> {
    pub(super) number: u16,
    /// Its lanes, all of them.
    pub(super) leases: Vec<Lease>,
    pub(super) session: S,
    pub(super) store: tokio::sync::Mutex<G>,
    state: Mutex<State>,
    joining: mpsc::UnboundedSender<Join>,
    /// Notified when it has ended.
    pub(super) over: Notify,
    /// The highest transaction id that this relay has seen by reading.
    seen: Arc<AtomicU64>,
}

/// What a wave is made of, and what is committed.
pub(super) struct State {
    ended: bool,
    pub(super) wave: Wave,
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    /// Parked events that no committed progress has passed.
    pub(super) unpassed: BTreeMap<i64, (Lane, u64)>,
    /// Those of them, and others, that were parked before the relay's own record of it is saved.
    parked_early: BTreeSet<i64>,
    /// Parked events that are published, and perhaps not deleted.
    settled: BTreeSet<i64>,
    /// The highest witness that is confirmed.
    witness: u64,
    /// The highest id of our own transactions that progress rests on.
    own: u64,
    /// Number of parked events that are to be tried alone, as one of several was refused.
    retries_alone: u32,
}

#[derive(Debug, Clone)]
pub(super) struct LaneState {
    /// Up to where it is published, as text.
    pub(super) position: String,
    /// What is sent next must be of this generation, or of a later one.
    generation: u64,
    /// Number of the next batch of the generation.
    next: u64,
}

/// What the group begins with.
pub(super) struct Start {
    pub(super) wave: Wave,
    pub(super) positions: BTreeMap<Lane, String>,
    /// The witness that is confirmed, and that progress rests on.
    pub(super) witness: u64,
    pub(super) beyond: Vec<(Lane, Row)>,
}

impl<G: GroupStore, S: GroupSession> Group<G, S> {
    pub(super) fn new(
        (number, leases): (u16, Vec<Lease>),
        (store, session): (G, S),
        seen: Arc<AtomicU64>,
        start: Start,
    ) -> (Self, mpsc::UnboundedReceiver<Join>) {
        let (joining, joins) = mpsc::unbounded_channel();
        let lane = |(lane, position)| (lane, LaneState { position, generation: 0, next: 0 });
        let state = State {
            ended: false,
            wave: start.wave,
            lanes: start.positions.into_iter().map(lane).collect(),
            unpassed: start
                .beyond
                .into_iter()
                .map(|(lane, row)| (row.seq, (lane, row.xid)))
                .collect(),
            parked_early: BTreeSet::new(),
            settled: BTreeSet::new(),
            witness: start.witness,
            own: start.witness,
            retries_alone: 0,
        };
        let group = Self {
            number,
            leases,
            session,
            store: tokio::sync::Mutex::new(store),
            state: Mutex::new(state),
            joining,
            over: Notify::new(),
            seen,
        };
        (group, joins)
    }

    pub(super) fn has(&self, lane: Lane, epoch: i64) -> bool {
        self.leases.contains(&Lease { lane, epoch })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, and says why if it did not end before.
    pub(super) fn end(&self, why: Option<&OutboxError>) {
        if std::mem::replace(&mut self.state().ended, true) {
            return;
        }
        self.over.notify_one();
        if let Some(error) = why {
            tracing::warn!(
                target: target::RELAY,
                group = self.number, %error,
                "the relay takes a group of lanes over again: nothing is lost, and nothing is published twice"
            );
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Asks for a part in the next wave. `None`: there is none, and there will be none.
    pub(super) async fn join(&self, part: Part) -> Option<Admission> {
        let (join, admission) = Join::new(part);
        if self.has_ended() {
            return None;
        }
        self.joining.send(join).ok()?;
        admission.await.ok()
    }

    /// Takes in that a batch will not ask for a part: what is behind it must not wait for it.
    pub(super) fn withdraw(&self, lane: Lane, place: Option<Place>) {
        self.state().overtake(lane, place);
        // Whoever makes the waves looks again, and finds that this one came too late as well.
        let (join, _) = Join::new(Part::nothing(lane, place));
        let _ = self.joining.send(join);
    }

    /// Raises the witness to all that was seen by now. Returns what progress needs.
    ///
    /// # Errors
    /// The group is lost, or its database is away.
    pub(super) async fn witness(&self) -> Result<u64, OutboxError> {
        let need = {
            let state = self.state();
            let need = self.seen.load(Ordering::Relaxed).max(state.own);
            if need <= state.witness {
                return Ok(need);
            }
            need
        };
        match self.store.lock().await.witness(need).await {
            Ok(true) => {
                let mut state = self.state();
                state.witness = state.witness.max(need);
                Ok(need)
            }
            Ok(false) => Err(lost()),
            Err(error) => Err(error),
        }
    }

    /// Parks events that later progress passes over. An error of the database that is about these
    /// rows alone leaves the group as it was.
    pub(super) async fn park(&self, parked: &[Parking], early: bool) -> Result<(), OutboxError> {
        let new: Vec<Parking> = {
            let known = &mut self.state().parked_early;
            let is_new = |parking: &&Parking| {
                let seq = parking.event.seq;
                // The relay's own record of it forgets that it was early.
                if early { !known.contains(&seq) } else { !known.remove(&seq) }
            };
            parked.iter().filter(is_new).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let (own, rows) = match self.store.lock().await.park(&new).await {
            Ok(Some(parked)) => parked,
            Ok(None) => return Err(self.ended_by(lost())),
            Err(error) if error.is_of_one_statement() => return Err(error),
            Err(error) => return Err(self.ended_by(error)),
        };
        let mut state = self.state();
        state.rests_on(own);
        for parking in &new {
            // The row of an event is gone only if saved progress has passed it.
            let row = rows.iter().find(|row| row.seq == parking.event.seq);
            let xid = row.map_or(0, |row| row.xid);
            state.unpassed.insert(parking.event.seq, (parking.event.lane, xid));
            if early {
                state.parked_early.insert(parking.event.seq);
            }
        }
        Ok(())
    }

    /// Parks what progress passes over, and has the progress pass over it. Returns the last wave
    /// that is committed.
    pub(super) async fn pass_over<C: fmt::Display + Sync>(
        &self,
        progress: &Progress<C>,
    ) -> Result<Wave, OutboxError> {
        self.park(&progress.parked, false).await?;
        let is_behind = |parking: &Parking| self.state().is_unpassed(parking.event.seq);
        // The wave may be aborted for what others have in it.
        while progress.parked.iter().any(is_behind) {
            let part = Part::position(progress.lease.lane, &progress.cursor);
            let Some(admission) = self.join(part).await else { return Err(ended()) };
            let _ = admission.reported.send(true);
            match admission.outcome.await {
                Ok(Outcome::Committed) => break,
                Ok(Outcome::Aborted) => {}
                Err(_) => return Err(ended()),
            }
        }
        Ok(self.state().wave)
    }

    /// Saves what became of parked events that were tried again. `None`: the group is lost.
    pub(super) async fn save_retry(
        &self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        let saved = self.store.lock().await.save_retry(lease, result).await;
        match saved {
            Ok(Some((own, left))) => {
                let mut state = self.state();
                state.rests_on(own);
                result.delivered.iter().for_each(|seq| _ = state.settled.remove(seq));
                Ok(Some(left))
            }
            Ok(None) => {
                self.end(Some(&lost()));
                Ok(None)
            }
            Err(error) if error.is_of_one_statement() => Err(error),
            Err(error) => Err(self.ended_by(error)),
        }
    }

    pub(super) fn ended_by(&self, error: OutboxError) -> OutboxError {
        self.end(Some(&error));
        error
    }
}

/// The group was given up, for a reason that is in the log.
pub(super) fn ended() -> OutboxError {
    OutboxError::new(ErrorKind::LeaseLost, "the group of lanes is taken over again")
}

fn lost() -> OutboxError {
    OutboxError::new(
        ErrorKind::LeaseLost,
        "another relay has claimed this group of lanes, and publishes its events",
    )
}

/// Whether a batch may be part of the wave that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// An earlier batch of its lane is not there yet.
    Later,
    /// Its lane was read again from an earlier cursor.
    Never,
}

impl State {
    fn rests_on(&mut self, own: u64) {
        self.own = self.own.max(own);
        self.witness = self.witness.max(own);
    }

    pub(super) fn turn_of(&self, part: &Part) -> Turn {
        let Some(place) = part.place else { return Turn::Now };
        let Some(state) = self.lanes.get(&part.lane) else { return Turn::Never };
        match place.generation.cmp(&state.generation) {
            cmp::Ordering::Less => Turn::Never,
            cmp::Ordering::Equal if place.number == state.next => Turn::Now,
            cmp::Ordering::Greater if place.number == 0 => Turn::Now,
            _ => Turn::Later,
        }
    }

    /// Whether it must be the only one in its wave.
    pub(super) fn must_be_alone(&self, part: &Part) -> bool {
        part.alone && (!part.is_retry() || self.retries_alone > 0)
    }

    /// Of several parked events that were tried together, one was refused: which one is found out
    /// by trying them alone.
    pub(super) fn try_retries_alone(&mut self) {
        const RETRIES: u32 = 100;
        self.retries_alone = RETRIES;
    }

    /// Takes in that a batch is part of the wave.
    pub(super) fn admitted(&mut self, part: &Part) {
        if part.is_retry() {
            self.retries_alone = self.retries_alone.saturating_sub(1);
        }
        let (lane, place) = (part.lane, part.place);
        if let (Some(Place { generation, number }), Some(state)) =
            (place, self.lanes.get_mut(&lane))
        {
            (state.generation, state.next) = (generation, number + 1);
        }
    }

    /// The progress of a wave with these members.
    pub(super) fn progress(&self, members: &[Member], need: u64) -> ProgressRecord {
        let positions = self.lanes.iter().map(|(lane, state)| (*lane, state.position.clone()));
        let mut lanes: BTreeMap<Lane, String> = positions.collect();
        for member in members {
            if let Some(position) = &member.part.position {
                lanes.insert(member.part.lane, position.clone());
            }
        }
        let settled =
            members.iter().flat_map(|member| &member.part.settles).chain(&self.settled).copied();
        let settled: BTreeSet<i64> = settled.collect();
        let wave = Wave { number: self.wave.number + 1, ..self.wave };
        ProgressRecord { wave, need, lanes, settled: settled.into_iter().collect() }
    }

    /// Takes in that a wave is committed with this progress.
    pub(super) fn committed<S: ExactlyOnceStore>(
        &mut self,
        members: &[Member],
        progress: ProgressRecord,
    ) -> Result<(), OutboxError> {
        self.wave = progress.wave;
        self.settled.extend(members.iter().flat_map(|member| &member.part.settles));
        for (lane, position) in progress.lanes {
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            if state.position == position {
                continue;
            }
            if self.unpassed.values().any(|(of, _)| *of == lane) {
                let cursor: S::Cursor = position.parse()?;
                let is_passed = |seq, xid| S::has_passed(&cursor, Row { seq, xid });
                self.unpassed.retain(|seq, (of, xid)| *of != lane || !is_passed(*seq, *xid));
            }
            state.position = position;
        }
        Ok(())
    }

    /// Takes in that a wave was aborted: what was to follow it must not be published.
    pub(super) fn aborted(&mut self, members: &[Member]) {
        for Member { part, .. } in members {
            self.overtake(part.lane, part.place);
        }
    }

    /// Nothing that follows a batch in its generation is published.
    fn overtake(&mut self, lane: Lane, place: Option<Place>) {
        if let (Some(place), Some(state)) = (place, self.lanes.get_mut(&lane)) {
            (state.generation, state.next) = (place.generation + 1, 0);
        }
    }

    /// Whether an event is parked, and no committed progress has passed it.
    pub(super) fn is_unpassed(&self, seq: i64) -> bool {
        self.unpassed.contains_key(&seq)
    }
}
