//! A group that this relay holds: what the reader, the publisher and the waves share of it.

use std::cmp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::record::ProgressRecord;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::publish::transactions::GroupSession;
use crate::publish::{Batch, Place};
use crate::record::Lane;
use crate::store::groups::{ExactlyOnceStore, GroupStore, Row, Wave};
use crate::store::{Lease, Parking, RetryResult};

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

/// What asks to be part of a wave.
pub(super) struct Join {
    pub(super) lane: Lane,
    /// `None`: it has no place among the batches of the lane.
    pub(super) place: Option<Place>,
    /// Whether it must be the only one in its wave. A parked event that is tried again need not,
    /// as long as none is refused.
    alone: bool,
    pub(super) events: usize,
    pub(super) bytes: u64,
    /// Up to where the lane is published by it.
    pub(super) position: Option<String>,
    /// Parked events that are published by it.
    pub(super) settles: Vec<i64>,
    admitted: oneshot::Sender<Admission>,
}

/// The right to send in the wave that is open.
pub(super) struct Admission {
    /// Whether it is the only one in its wave.
    pub(super) alone: bool,
    /// Says whether all of it is reported as delivered. Dropped, it was not.
    pub(super) reported: oneshot::Sender<bool>,
    pub(super) outcome: oneshot::Receiver<Outcome>,
}

/// What became of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
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
        self.over.notify_waiters();
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
    pub(super) async fn join(&self, of: JoinOf<'_>) -> Option<Admission> {
        let (admitted, admission) = oneshot::channel();
        let JoinOf { lane, place, alone, events, bytes, position, settles } = of;
        let position = position.map(|position| position.to_string());
        let join = Join { lane, place, alone, events, bytes, position, settles, admitted };
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
        let (admitted, _) = oneshot::channel();
        let (alone, events, bytes, position, settles) = (false, 0, 0, None, Vec::new());
        let _ = self.joining.send(Join {
            lane,
            place,
            alone,
            events,
            bytes,
            position,
            settles,
            admitted,
        });
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
            let mut state = self.state();
            let is_new = |parking: &&Parking| !state.parked_early.remove(&parking.event.seq);
            if early {
                parked
                    .iter()
                    .filter(|p| !state.parked_early.contains(&p.event.seq))
                    .cloned()
                    .collect()
            } else {
                parked.iter().filter(is_new).cloned().collect()
            }
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

/// What asks to be part of a wave, before it is sent to those who make it.
pub(super) struct JoinOf<'a> {
    pub(super) lane: Lane,
    pub(super) place: Option<Place>,
    pub(super) alone: bool,
    pub(super) events: usize,
    pub(super) bytes: u64,
    pub(super) position: Option<&'a (dyn fmt::Display + Sync)>,
    pub(super) settles: Vec<i64>,
}

impl<'a> JoinOf<'a> {
    pub(super) fn batch(batch: &'a Batch<'a>) -> Self {
        let settles = match batch.progress {
            Some(_) => Vec::new(),
            None => batch.events.iter().map(|event| event.seq).collect(),
        };
        Self {
            lane: batch.lane,
            place: batch.place,
            alone: batch.alone,
            events: batch.events.len(),
            bytes: batch.events.iter().map(|event| event.record.bytes()).sum(),
            position: batch.progress.as_ref().map(|at| at as &(dyn fmt::Display + Sync)),
            settles,
        }
    }

    /// Progress alone: what is before it is parked.
    pub(super) fn position(lane: Lane, at: &'a (dyn fmt::Display + Sync)) -> Self {
        let (place, settles) = (None, Vec::new());
        Self { lane, place, alone: false, events: 0, bytes: 0, position: Some(at), settles }
    }
}

impl Join {
    fn is_retry(&self) -> bool {
        !self.settles.is_empty()
    }

    pub(super) fn admit(self, alone: bool) -> Member {
        let (reported, report) = oneshot::channel();
        let (outcome, outcome_of) = oneshot::channel();
        // Whoever asked may be gone; then its report never comes, and the wave is aborted.
        let _ = self.admitted.send(Admission { alone, reported, outcome: outcome_of });
        let Self { lane, place, position, settles, .. } = self;
        Member { lane, place, position, settles, report, outcome }
    }
}

/// A part of the wave that is open.
pub(super) struct Member {
    pub(super) lane: Lane,
    pub(super) place: Option<Place>,
    pub(super) position: Option<String>,
    pub(super) settles: Vec<i64>,
    pub(super) report: oneshot::Receiver<bool>,
    pub(super) outcome: oneshot::Sender<Outcome>,
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

    pub(super) fn turn_of(&self, lane: Lane, place: Option<Place>) -> Turn {
        let Some(place) = place else { return Turn::Now };
        let Some(state) = self.lanes.get(&lane) else { return Turn::Never };
        match place.generation.cmp(&state.generation) {
            cmp::Ordering::Less => Turn::Never,
            cmp::Ordering::Equal if place.number == state.next => Turn::Now,
            cmp::Ordering::Greater if place.number == 0 => Turn::Now,
            _ => Turn::Later,
        }
    }

    /// Whether it must be the only one in its wave.
    pub(super) fn must_be_alone(&self, join: &Join) -> bool {
        join.alone && (!join.is_retry() || self.retries_alone > 0)
    }

    /// Of several parked events that were tried together, one was refused: which one is found out
    /// by trying them alone.
    pub(super) fn try_retries_alone(&mut self) {
        const RETRIES: u32 = 100;
        self.retries_alone = RETRIES;
    }

    /// Takes in that a batch is part of the wave.
    pub(super) fn admitted(&mut self, join: &Join) {
        if join.is_retry() {
            self.retries_alone = self.retries_alone.saturating_sub(1);
        }
        let (lane, place) = (join.lane, join.place);
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
            if let Some(position) = &member.position {
                lanes.insert(member.lane, position.clone());
            }
        }
        let settled =
            members.iter().flat_map(|member| &member.settles).chain(&self.settled).copied();
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
        self.settled.extend(members.iter().flat_map(|member| &member.settles));
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
        members.iter().for_each(|member| self.overtake(member.lane, member.place));
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
