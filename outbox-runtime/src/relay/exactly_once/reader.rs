//! The relay's reader under exactly-once delivery: it leases whole groups, and hands their lanes to
//! the relay once they are taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::group::{Group, ended};
use super::held::Held;
use super::takeover::{TakeOver, Taken};
use super::waves;
use crate::doorbell::Doorbell;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::publish::transactions::TransactionalPublisher;
use crate::record::{KeyDigest, Lane};
use crate::store::groups::{Claimer, ExactlyOnceStore, Groups};
use crate::store::{
    Claimed, KnownParked, LaneBatch, LaneRead, LaneStore, Lease, Progress, Released, Retry,
    RetryResult, Saved, Share,
};

type GroupOf<S, P> = Group<
    <<S as ExactlyOnceStore>::Claimer as Claimer>::Group,
    <P as TransactionalPublisher>::Session,
>;
type TakenOf<S, P> = Taken<<S as ExactlyOnceStore>::Claimer, P>;
type TakeOverResult<S, P> = Result<Option<TakenOf<S, P>>, OutboxError>;
type HeldOf<S, P> = Held<
    <<S as ExactlyOnceStore>::Claimer as Claimer>::Group,
    <P as TransactionalPublisher>::Session,
>;

/// Reads the lanes of `S`, for a relay that publishes exactly once by `P`.
pub struct ExactlyOnceReader<S: ExactlyOnceStore, P: TransactionalPublisher> {
    pub(super) inner: S,
    pub(super) groups: Groups,
    pub(super) held: Arc<HeldOf<S, P>>,
    pub(super) take_over: Arc<TakeOver<S::Claimer, P>>,
    /// Groups that are leased and not taken over yet.
    pub(super) taking: BTreeMap<u16, Taking<S, P>>,
    /// Lanes that the relay has given back, of groups of which it still holds others.
    pub(super) given_back: Vec<Lease>,
    pub(super) waves: JoinSet<()>,
    pub(super) doorbell: Arc<Doorbell>,
    /// Least time from the begin of a wave of a group to that of its next one.
    pub(super) interval: Duration,
    /// How long a claim waits for groups to be taken over. The others are not read meanwhile.
    pub(super) patience: Duration,
}

/// A group that is being taken over.
pub(super) struct Taking<S: ExactlyOnceStore, P: TransactionalPublisher> {
    leases: Vec<Lease>,
    /// `None`: it has failed, and is tried again by the next claim.
    task: Option<JoinHandle<TakeOverResult<S, P>>>,
    abort: Option<AbortHandle>,
    /// Whether a failure was logged.
    told: bool,
}

impl<S: ExactlyOnceStore, P: TransactionalPublisher> Drop for Taking<S, P> {
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

impl<S: ExactlyOnceStore, P: TransactionalPublisher> LaneStore for ExactlyOnceReader<S, P> {
    type Cursor = S::Cursor;

    const PARKS_FIRST: bool = true;

    async fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<S::Cursor>, OutboxError> {
        self.drop_forgotten(held);
        let (kept, reopened): (Vec<Lease>, Vec<Lease>) =
            held.iter().partition(|lease| self.held.group_of(lease.lane, lease.epoch).is_some());
        let being_taken = self.taking.values().flat_map(|taking| &taking.leases);
        let all: Vec<Lease> =
            kept.iter().chain(being_taken).chain(&self.given_back).copied().collect();
        let mut claimed = match self.inner.claim(&all, share).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.end_all();
                return Err(error);
            }
        };
        self.lose(&mut claimed, &kept);
        claimed.reopened = reopened.iter().map(|lease| lease.lane).collect();
        for (group, leases) in self.by_group(std::mem::take(&mut claimed.taken)) {
            let (task, abort, told) = (None, None, false);
            self.taking.insert(group, Taking { leases, task, abort, told });
        }
        claimed.taken = self.take_over().await?;
        self.save_adopted(&claimed.taken).await?;
        Ok(claimed)
    }

    async fn read(
        &mut self,
        lanes: &[LaneRead<S::Cursor>],
    ) -> Result<Vec<LaneBatch<S::Cursor>>, OutboxError> {
        let read = self.inner.read(lanes).await;
        let mut batches = self.or_end(read)?;
        for batch in &mut batches {
            self.leave_out_parked(batch);
        }
        Ok(batches)
    }

    fn cursor_before(start: &S::Cursor, seq: i64) -> S::Cursor {
        S::cursor_before(start, seq)
    }

    async fn save(&mut self, progress: &[Progress<S::Cursor>]) -> Result<Saved, OutboxError> {
        let mut saved = Saved::default();
        let mut to_save = Vec::with_capacity(progress.len());
        for progress in progress {
            let Lease { lane, epoch } = progress.lease;
            // One that has ended is taken over again: see the next claim.
            let Some(group) = self.held.group_of(lane, epoch) else { continue };
            match group.pass_over(progress).await {
                Ok(wave) => {
                    let parked = Vec::new();
                    to_save.push((Progress { parked, ..progress.clone() }, wave));
                }
                Err(error) if error.is_of_one_statement() => saved.failed.push((lane, error)),
                Err(_) => {}
            }
        }
        if !to_save.is_empty() {
            let result = self.inner.save_after(&to_save).await;
            saved.lost = self.or_end(result)?.lost;
        }
        for lane in &saved.lost {
            self.end(self.groups.of(*lane));
        }
        Ok(saved)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        let parked = self.inner.parked_among(lane, keys).await;
        self.or_end(parked)
    }

    /// Without those that no committed progress has passed: sent now, they would be sent again.
    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        let released = self.inner.released(held, retry).await;
        let mut released = self.or_end(released)?;
        let epoch = |lane| held.iter().find(|lease| lease.lane == lane).map(|lease| lease.epoch);
        released.retain_mut(|Released { lane, events, .. }| {
            let group = epoch(*lane).and_then(|epoch| self.held.group_of(*lane, epoch));
            let Some(group) = group else { return false };
            let state = group.state();
            let passed = events.iter().take_while(|event| !state.is_unpassed(event.seq)).count();
            let is_none = events.is_empty();
            events.truncate(passed);
            is_none || passed > 0
        });
        Ok(released)
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        match self.held.group_of(lease.lane, lease.epoch) {
            Some(group) => match group.save_retry(lease, result).await {
                Err(error) if !error.is_of_one_statement() => Ok(None),
                saved => saved,
            },
            None => Ok(None),
        }
    }

    /// A group is given back when all of its lanes are.
    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        self.given_back.extend(held);
        if leaving {
            self.given_back.extend(self.taking.values().flat_map(|taking| &taking.leases));
            self.taking.clear();
        }
        let groups = self.held.all().into_iter().filter(|group| {
            leaving || group.leases.iter().all(|lease| self.given_back.contains(lease))
        });
        let mut given_back = Vec::new();
        for group in groups.collect::<Vec<_>>() {
            self.end(group.number);
            given_back.extend(&group.leases);
        }
        if leaving {
            given_back.append(&mut self.given_back);
            self.end_of_waves().await;
        }
        if given_back.is_empty() && !leaving {
            return Ok(());
        }
        self.inner.release(&given_back, leaving).await
    }
}

impl<S: ExactlyOnceStore, P: TransactionalPublisher> ExactlyOnceReader<S, P> {
    /// An error of the session that windows are read over ends all groups: none of their windows is
    /// used any more.
    fn or_end<T>(&mut self, result: Result<T, OutboxError>) -> Result<T, OutboxError> {
        if result.is_err() {
            self.end_all();
        }
        result
    }

    fn end_all(&mut self) {
        self.groups.all().for_each(|group| self.end(group));
    }

    fn end(&mut self, number: u16) {
        self.given_back.retain(|lease| self.groups.of(lease.lane) != number);
        for group in self.held.all().into_iter().filter(|group| group.number == number) {
            group.end(None);
            self.held.remove(number);
        }
    }

    /// Groups of which the relay has forgotten a lane, without giving it back: it reads all of them
    /// again.
    fn drop_forgotten(&mut self, held: &[Lease]) {
        for group in self.held.all() {
            let is_known = |lease| held.contains(lease) || self.given_back.contains(lease);
            if group.has_ended() || !group.leases.iter().all(is_known) {
                self.end(group.number);
            }
        }
    }

    /// With a lane, its group is lost.
    fn lose(&mut self, claimed: &mut Claimed<S::Cursor>, held: &[Lease]) {
        let groups: BTreeSet<u16> = claimed.lost.iter().map(|lane| self.groups.of(*lane)).collect();
        for number in &groups {
            self.taking.remove(number);
            self.given_back.retain(|lease| self.groups.of(lease.lane) != *number);
            self.end(*number);
        }
        let is_lost = |lease: &&Lease| groups.contains(&self.groups.of(lease.lane));
        claimed.lost = held.iter().filter(is_lost).map(|lease| lease.lane).collect();
    }

    fn by_group(&self, taken: Vec<(Lease, S::Cursor, KnownParked)>) -> BTreeMap<u16, Vec<Lease>> {
        let mut groups = BTreeMap::<u16, Vec<Lease>>::new();
        for (lease, ..) in taken {
            groups.entry(self.groups.of(lease.lane)).or_default().push(lease);
        }
        groups
    }

    /// Takes over what is leased. Returns the lanes of those groups that are taken over by now.
    async fn take_over(&mut self) -> Result<Vec<(Lease, S::Cursor, KnownParked)>, OutboxError> {
        let until = Instant::now() + self.patience;
        for (number, taking) in &mut self.taking {
            if taking.task.is_none() {
                let (take_over, number) = (Arc::clone(&self.take_over), *number);
                let (leases, doorbell) = (taking.leases.clone(), Arc::clone(&self.doorbell));
                let task = tokio::spawn(async move {
                    let taken = take_over.run(number, leases).await;
                    doorbell.ring_for_lanes();
                    taken
                });
                taking.abort = Some(task.abort_handle());
                taking.task = Some(task);
            }
        }
        let mut lanes = Vec::new();
        for number in self.taking.keys().copied().collect::<Vec<_>>() {
            let Some(mut taking) = self.taking.remove(&number) else { continue };
            let Some(mut task) = taking.task.take() else { continue };
            let Ok(result) = timeout_at(until, &mut task).await else {
                taking.task = Some(task);
                self.taking.insert(number, taking);
                continue;
            };
            match result.unwrap_or_else(|_| Err(ended())) {
                Ok(Some(taken)) => lanes.extend(self.begin(taken)),
                // Another relay has it, or this one has it under another epoch: see the next claim.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(error) => {
                    tell_not_taken(number, &error, taking.told);
                    taking.told = true;
                    self.taking.insert(number, taking);
                }
            }
        }
        Ok(lanes)
    }

    /// What was adopted may be ahead of what is saved, also in lanes in which nothing is new.
    async fn save_adopted(
        &mut self,
        taken: &[(Lease, S::Cursor, KnownParked)],
    ) -> Result<(), OutboxError> {
        let progress = taken.iter().filter_map(|(lease, cursor, _)| {
            let group = self.held.group_of(lease.lane, lease.epoch)?;
            let (cursor, parked) = (cursor.clone(), Vec::new());
            Some((Progress { lease: *lease, cursor, parked }, group.state().wave))
        });
        let progress: Vec<_> = progress.collect();
        if progress.is_empty() {
            return Ok(());
        }
        let saved = self.inner.save_after(&progress).await;
        // Whoever has a lane that is lost has claimed its group, too: the next claim says so.
        self.or_end(saved).map(drop)
    }

    /// Publishes what joins the waves of a group from now on.
    fn begin(&mut self, taken: TakenOf<S, P>) -> Vec<(Lease, S::Cursor, KnownParked)> {
        let Taken { group, joins, lanes } = taken;
        let group: Arc<GroupOf<S, P>> = Arc::new(group);
        self.held.add(Arc::clone(&group));
        let (doorbell, interval) = (Arc::clone(&self.doorbell), self.interval);
        while self.waves.try_join_next().is_some() {}
        self.waves.spawn(async move {
            waves::run::<S, _, _>(group, joins, interval).await;
            // It is taken over again.
            doorbell.ring_for_lanes();
        });
        lanes
    }

    /// Events that are parked already, and that progress has not passed: they are met again after a
    /// take-over, and when a wave was aborted.
    fn leave_out_parked(&self, batch: &mut LaneBatch<S::Cursor>) {
        let number = self.groups.of(batch.lane);
        let group = self.held.all().into_iter().find(|group| group.number == number);
        let Some(group) = group else { return };
        let state = group.state();
        let before = batch.events.len();
        batch.events.retain(|event| !state.is_unpassed(event.seq));
        // What is left out is passed, even if nothing else is.
        batch.save |= batch.events.len() < before;
    }

    async fn end_of_waves(&mut self) {
        const AT_MOST: Duration = Duration::from_secs(3);
        let until = Instant::now() + AT_MOST;
        while let Ok(Some(_)) = timeout_at(until, self.waves.join_next()).await {}
        self.waves.abort_all();
    }
}

fn tell_not_taken(group: u16, error: &OutboxError, told: bool) {
    if told {
        tracing::debug!(target: target::RELAY, group, %error, "a group of lanes still cannot be taken over");
    } else {
        tracing::warn!(
            target: target::RELAY,
            group, %error,
            "a group of lanes cannot be taken over: its events wait in the outbox, and the relay tries again until it can"
        );
    }
}
