//! What exactly-once delivery asks of a database: groups of lanes, each with a claim that only its
//! holder knows, and a witness of how far the database's history reaches.
//!
//! The rules are in `docs/decisions/17-exactly-once.md`.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) mod claims;
#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
pub(super) mod tests;

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::lanes::{KnownParked, LaneStore, Lease, Progress, Saved};
use super::parked::{Parking, RetryResult};
use crate::error::OutboxError;
use crate::record::{LANES, Lane};

/// Number of groups that the lanes are divided into: 1, 2, 4, 8 or 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(u16);

impl Groups {
    /// The largest of the possible numbers that is not above `number`.
    pub(crate) fn at_most(number: u16) -> Self {
        Self([16, 8, 4, 2, 1].into_iter().find(|groups| *groups <= number).unwrap_or(1))
    }

    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// Lanes of a group.
    pub(crate) fn lanes_each(self) -> usize {
        LANES / usize::from(self.0)
    }

    /// Neighbours are in one group: a relay gives back the last of its lanes.
    pub(crate) fn of(self, lane: Lane) -> u16 {
        (lane.index() / self.lanes_each()) as u16
    }

    pub(crate) fn all(self) -> impl Iterator<Item = u16> {
        0..self.0
    }
}

/// A store whose events can be delivered exactly once.
#[diagnostic::on_unimplemented(
    message = "events of this database cannot be delivered exactly once",
    label = "there is no such relay for it",
    note = "MySQL and MariaDB cannot: a relay deletes what it has delivered, so the database keeps no position with which the one on the brokers could be compared. Call `build` in place of `build_exactly_once`: consumers of outbox skip what comes twice"
)]
pub trait ExactlyOnceStore: LaneStore<Cursor: FromStr<Err = OutboxError>> {
    /// Who claims groups.
    type Claimer: Claimer<Cursor = Self::Cursor>;

    /// From now on, whole groups are leased, and no single lanes.
    fn in_groups(&mut self, groups: Groups) -> Self::Claimer;

    /// The highest transaction id that was seen by reading; on SQLite, the highest number. Progress
    /// rests on all up to it being spent.
    fn seen(&self) -> Arc<AtomicU64>;

    /// Saves how far lanes are delivered, each with the last wave that is committed. Nothing is
    /// parked by it.
    fn save_after(
        &mut self,
        progress: &[(Progress<Self::Cursor>, Wave)],
    ) -> impl Future<Output = Result<Saved, OutboxError>> + Send;

    /// Whether the cursor is behind a row of this number, written by this transaction.
    fn has_passed(cursor: &Self::Cursor, row: Row) -> bool;
}

/// A row of the table of the events, as far as a cursor knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Number of the event.
    pub seq: i64,
    /// The transaction that wrote it. 0 on SQLite, where the number says all.
    pub xid: u64,
}

/// Claims groups for a relay.
pub trait Claimer: Clone + Send + Sync + 'static {
    /// As the store's.
    type Cursor: Send;
    /// A group that was claimed.
    type Group: GroupStore<Cursor = Self::Cursor>;

    /// Claims a group whose lanes this relay leases, in a transaction that waits for the disk, over
    /// a session of its own. `None`: the lanes are not leased any more.
    fn claim(
        &self,
        group: u16,
        leases: Vec<Lease>,
    ) -> impl Future<Output = ClaimResult<Self>> + Send;
}

type ClaimResult<C> =
    Result<Option<(<C as Claimer>::Group, GroupClaim<<C as Claimer>::Cursor>)>, OutboxError>;

/// What a claim finds.
#[derive(Debug)]
pub struct GroupClaim<C> {
    /// Identity of the outbox, drawn when it was first delivered exactly once.
    pub outbox: Uuid,
    /// This claim.
    pub claim: Uuid,
    /// Earlier ones whose progress may be adopted, with their witnesses.
    pub earlier: Vec<(Uuid, u64)>,
    /// Whether progress was ever adopted: then there must be some.
    pub adopted: bool,
    /// The claim that was ended by a change of delivery.
    pub ended: Option<Uuid>,
    /// The cursors that are saved.
    pub saved: Vec<SavedLane<C>>,
}

/// The saved cursor of a lane.
#[derive(Debug)]
pub struct SavedLane<C> {
    /// The lane.
    pub lane: Lane,
    /// The cursor.
    pub cursor: C,
    /// The wave that it was saved after. `None`: at-least-once delivery has saved it.
    pub after: Option<Wave>,
}

/// A wave of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wave {
    /// The claim.
    pub claim: Uuid,
    /// Its number: the first is 1.
    pub number: i64,
}

/// What the group's lanes have parked, after a take-over.
#[derive(Debug, Default)]
pub struct ParkedOfGroup {
    /// The keys with parked events, by lane.
    pub keys: Vec<(Lane, KnownParked)>,
    /// Parked events that the progress has not passed yet.
    pub beyond: Vec<(Lane, Row)>,
}

/// A group whose delivery exactly once ends.
#[derive(Debug)]
pub struct HandedBack<C> {
    /// Its number.
    pub group: u16,
    /// The claim under which it was taken over.
    pub claim: Uuid,
    /// Up to where its lanes are published.
    pub lanes: Vec<(Lane, C)>,
    /// Numbers of events that are parked, and not passed by these cursors.
    pub beyond: Vec<i64>,
}

/// A group that was claimed, and a session for it. Each of these waits for the disk. `None` and
/// `false`: the claim is not ours any more. After an error, the session is not used any more.
pub trait GroupStore: Send + 'static {
    /// As the store's.
    type Cursor: Send;

    /// Step 4 of a take-over: leaves a trace that the claim was ours after the fence.
    fn confirm(&mut self) -> impl Future<Output = Result<bool, OutboxError>> + Send;

    /// Step 7: notes that progress was adopted, forgets earlier claims, and deletes those of the
    /// parked events that are settled. Returns the transaction's own id, to which the witness is
    /// raised.
    fn adopted(
        &mut self,
        settled: &[i64],
    ) -> impl Future<Output = Result<Option<u64>, OutboxError>> + Send;

    /// Ends the claims of all groups of the outbox, this one among them, and saves how far their
    /// lanes are published: relays that deliver at least once go on from there.
    fn hand_back(
        &mut self,
        groups: &[HandedBack<Self::Cursor>],
    ) -> impl Future<Output = Result<bool, OutboxError>> + Send;

    /// The parked events of the group, as these cursors see them.
    fn parked(
        &mut self,
        lanes: &[(Lane, Self::Cursor)],
    ) -> impl Future<Output = Result<ParkedOfGroup, OutboxError>> + Send;

    /// Raises the witness to `need`.
    fn witness(&mut self, need: u64) -> impl Future<Output = Result<bool, OutboxError>> + Send;

    /// Parks events, and raises the witness to the transaction's own id. Returns both.
    fn park(
        &mut self,
        parked: &[Parking],
    ) -> impl Future<Output = Result<Option<(u64, Vec<Row>)>, OutboxError>> + Send;

    /// As [`LaneStore::save_retry`], and raises the witness to the transaction's own id, which is
    /// returned, too.
    fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> impl Future<Output = Result<Option<(u64, bool)>, OutboxError>> + Send;
}
