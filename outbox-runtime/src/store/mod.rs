//! The store seam: what a database must offer to hold an outbox. SQL lives below here and nowhere
//! else.

pub(crate) mod inbox;
pub(crate) mod liveness;
pub(crate) mod migrate;
pub(crate) mod names;
pub(crate) mod parked;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod tx_options;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Pool, SqlStr};
use uuid::Uuid;

pub(crate) use migrate::Migration;
pub(crate) use names::{Names, sql};
pub use parked::{Discard, Parking, Released, Retry, Settled, Then};
use tx_options::TxOptions;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::outbox::admin::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::record::{EventRecord, KeyDigest, Lane, StoredEvent};
use crate::tx::Doubt;

/// A database that can hold an outbox: [`sqlx::Postgres`] with the feature `postgres`,
/// [`sqlx::Sqlite`] with the feature `sqlite`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that `outbox` can use",
    note = "turn on the feature `postgres` or `sqlite` of the crate `outbox`"
)]
pub trait OutboxDatabase: sqlx::Database + sealed::Database {}

impl<DB: sealed::Database> OutboxDatabase for DB {}

pub(crate) mod sealed {
    use super::*;

    /// The write side: what runs inside the user's transaction.
    pub trait Database: sqlx::Database {
        /// What the relay reads by.
        type Store: Store;

        /// Whether a connection may go dead without a word, as those over a network do.
        const CAN_GO_SILENT: bool;

        /// The statement that begins a transaction, where plain `BEGIN` is not right.
        fn begin_statement(options: TxOptions) -> Option<SqlStr>;

        /// All migrations, oldest first.
        const MIGRATIONS: &'static [Migration];

        /// The statement that creates the table of the migrations applied, if it is not there.
        const MIGRATION_TABLE: &'static str;

        /// Whether the database accepts these names.
        fn check_names(names: &Names) -> Result<(), OutboxError>;

        /// Inserts the events of one transaction, in order, with one statement (or as few as it
        /// takes).
        fn insert_events(
            connection: &mut Self::Connection,
            names: &Names,
            events: &[EventRecord],
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Notes that `group` handles `event_id` now. `false`: it had already.
        fn insert_inbox(
            connection: &mut Self::Connection,
            names: &Names,
            group: &str,
            event_id: Uuid,
        ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

        /// Forgets what the group handled longer ago than `retention`, and what has waited for
        /// longer: so many rows at most. Returns how many that were.
        fn forget_inbox(
            connection: &mut Self::Connection,
            names: &Names,
            group: &str,
            retention: Duration,
            most: u32,
        ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

        /// Notes that an event failed and is about to be sent to a retry topic: the later ones of
        /// its key wait from now on. `false`, noting nothing: the group has handled it meanwhile,
        /// somewhere else. Within a transaction, that waits for whatever handles it right now.
        fn begin_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            waiting: &Waiting<'_>,
        ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

        /// Notes that the event is in its retry topic, unless it is settled meanwhile.
        fn sent_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            waiting: &Waiting<'_>,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Notes that an event waits no more. Within a transaction: if it did wait, no other parks
        /// behind it until that ends.
        fn end_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            waiting: &Waiting<'_>,
        ) -> impl Future<Output = Result<Others, sqlx::Error>> + Send;

        /// Keeps an event until the earlier ones of its key are done. `false`: none is left. Within
        /// a transaction.
        fn park_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            waiting: &Waiting<'_>,
            content: &Content,
        ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

        /// Topics and keys whose first waiting event is kept here, and has been for a minute.
        fn left_behind(
            connection: &mut Self::Connection,
            names: &Names,
            group: &str,
        ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, sqlx::Error>> + Send;

        /// Whether a commit must [`confirm`](Self::confirm) first.
        fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool;

        /// An error if the transaction is over or aborted, which the database would roll back and
        /// call committed.
        fn confirm(
            connection: &mut Self::Connection,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Whether sqlx counts a rollback when it is asked for, and not only when it is done.
        const COUNTS_ROLLBACKS_AT_ONCE: bool;

        /// The first event of a key that waits.
        fn first_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            of: &GroupKey<'_>,
        ) -> impl Future<Output = Result<Option<FirstWaiting>, sqlx::Error>> + Send;

        /// Applies the migrations that are missing. Two processes may call it at once.
        fn migrate(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<(), OutboxError>> + Send;

        /// Opens the read side for a relay.
        fn open_store(pool: &Pool<Self>, names: &Arc<Names>, lease: Duration) -> Self::Store;

        /// A pool for what a relay does beside the business, so that neither waits for the other's
        /// connections.
        fn own_pool(pool: &Pool<Self>) -> Pool<Self>;

        /// Has such a pool connect as `pool` does now.
        fn follow(own: &Pool<Self>, pool: &Pool<Self>);

        /// The names as connections other than those of `pool` must say them.
        fn located(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<Arc<Names>, OutboxError>> + Send;

        /// The other outboxes of this database, if nothing was ever emitted into this one.
        fn others_if_unused(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<Vec<String>, OutboxError>> + Send;

        /// Takes back the space of events that every lane has published, and that are older than
        /// `retention`. Returns about how many.
        fn reclaim(
            pool: &Pool<Self>,
            names: &Names,
            retention: Duration,
        ) -> impl Future<Output = Result<u64, OutboxError>> + Send;

        fn status(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<Status, OutboxError>> + Send;

        /// By lane, key and number, those behind `after`.
        fn parked(
            pool: &Pool<Self>,
            names: &Names,
            after: Option<(Lane, KeyDigest, i64)>,
            limit: u32,
        ) -> impl Future<Output = Result<Vec<ParkedEvent>, OutboxError>> + Send;

        /// Marks parked keys to be tried again, and tells the relays. Returns how many events they
        /// have.
        fn release_parked(
            pool: &Pool<Self>,
            names: &Names,
            which: Release<'_>,
        ) -> impl Future<Output = Result<u64, OutboxError>> + Send;

        /// Gives up a parked event, even if it merely waits if `insist`, and remembers that.
        fn discard_parked(
            pool: &Pool<Self>,
            names: &Names,
            id: Uuid,
            insist: bool,
        ) -> impl Future<Output = Result<Discard, OutboxError>> + Send;

        /// Parked events that were given up, the latest first.
        fn discarded(
            pool: &Pool<Self>,
            names: &Names,
            limit: u32,
        ) -> impl Future<Output = Result<Vec<DiscardedEvent>, OutboxError>> + Send;

        /// Inserts retained events anew.
        fn replay(
            pool: &Pool<Self>,
            names: &Names,
            which: &Replay,
        ) -> impl Future<Output = Result<u64, OutboxError>> + Send;

        /// Tells relays in other processes whenever `doorbell` was rung for them. Runs until
        /// dropped.
        fn notify_others(
            pool: &Pool<Self>,
            names: &Arc<Names>,
            doorbell: Arc<Doorbell>,
        ) -> impl Future<Output = ()> + Send + 'static;

        /// Rings `doorbell` whenever a process commits events. Runs until dropped.
        fn listen_to_others(
            pool: &Pool<Self>,
            names: &Arc<Names>,
            doorbell: Arc<Doorbell>,
        ) -> impl Future<Output = ()> + Send + 'static;
    }
}

/// The read side: lanes under lease, read in order from a cursor that is saved once their events
/// are delivered.
///
/// It keeps nothing of a lane but what it says here: the relay passes in the lease and the cursor
/// to go on from. An error of any of these means that the relay forgets all its lanes and
/// [claims](Self::claim) them again: cursors are not used over the failure of a connection (why:
/// `postgres/lanes/window.rs`).
pub trait Store: Send + Sync + 'static {
    /// A place in a lane, between two events.
    /// Its text has all of it.
    type Cursor: Clone + Send + Sync + fmt::Debug + fmt::Display + 'static;

    /// Renews the leases of the lanes `held`, and takes free ones up to our share. A relay that
    /// held none before starts from what this returns.
    fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> impl Future<Output = Result<Claimed<Self::Cursor>, OutboxError>> + Send;

    /// The next events of these lanes. A lane without news comes back without events; one that
    /// could not be read in this call, too, but for [`LaneBatch::rest`]. No more bytes are asked of
    /// the database than the lanes' bounds allow.
    fn read(
        &mut self,
        lanes: &[LaneRead<Self::Cursor>],
    ) -> impl Future<Output = Result<Vec<LaneBatch<Self::Cursor>>, OutboxError>> + Send;

    /// The cursor before the event `seq` of a batch that began at `start`.
    fn cursor_before(start: &Self::Cursor, seq: i64) -> Self::Cursor;

    /// Saves how far lanes are delivered, and parks the events passed over, for each lane both or
    /// nothing. A lane whose events the database does not take fails alone.
    fn save(
        &mut self,
        progress: &[Progress<Self::Cursor>],
    ) -> impl Future<Output = Result<Saved, OutboxError>> + Send;

    /// Which of these keys of a lane have parked events. `None`: no key of the lane has any.
    fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> impl Future<Output = Result<Option<Vec<KeyDigest>>, OutboxError>> + Send;

    /// Parked keys of these lanes that are to be tried again, with their first events.
    fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> impl Future<Output = Result<Vec<Released>, OutboxError>> + Send;

    /// Takes delivered events out of the parked ones, and notes a refusal. Returns whether events
    /// of that key are still parked. `None`: the lane is lost.
    fn settle_released(
        &mut self,
        lease: Lease,
        settled: &Settled,
    ) -> impl Future<Output = Result<Option<bool>, OutboxError>> + Send;

    /// Gives lanes back at once, so that another relay need not wait for the lease to run out.
    fn release(
        &mut self,
        held: &[Lease],
        leaving: bool,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

/// A lane that we lease, and the fencing token that every write of its cursor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The lane.
    pub lane: Lane,
    /// Grows with each change of hands.
    pub epoch: i64,
}

/// How many lanes a relay asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// As many as each of the relays alive gets.
    Fair,
    /// Every lane that nobody holds.
    All,
}

/// What a claim found.
#[derive(Debug)]
pub struct Claimed<C> {
    /// Of those held, the lanes that another relay has taken over.
    pub lost: Vec<Lane>,
    /// Lanes that are ours now: the lease, the saved cursor, the keys that have parked events.
    pub taken: Vec<(Lease, C, KnownParked)>,
    /// How many lanes we should hold.
    pub share: usize,
    /// If we asked for all lanes, those that we did not get.
    pub elsewhere: Vec<HeldElsewhere>,
}

/// A lane that another relay holds.
#[derive(Debug, Clone, Copy)]
pub struct HeldElsewhere {
    /// The lane.
    pub lane: Lane,
    /// The relay.
    pub owner: Uuid,
    /// How long its lease lasts, by the database's clock.
    pub for_millis: i64,
}

/// The keys of a lane that have parked events. `None`: there are too many of them to be held in
/// memory.
pub type KnownParked = Option<Vec<KeyDigest>>;

/// Which parked keys to try again at once.
#[derive(Debug, Clone, Copy)]
pub enum Release<'a> {
    /// All of them.
    All,
    /// Those with this key, on whatever topic.
    Key(&'a [u8]),
    /// The key of this digest, in its lane.
    OnTopic(Lane, KeyDigest),
}

/// What to read of a lane.
#[derive(Debug, Clone)]
pub struct LaneRead<C> {
    /// The lane.
    pub lane: Lane,
    /// From where.
    pub from: C,
    /// Events at most.
    pub rows: u32,
    /// Bytes at most, as [`EventRecord::bytes`] counts them. An event that does not fit is not
    /// returned, even if it is the first one: [`LaneBatch::rest`] then says how large it is.
    pub bytes: u64,
    /// The largest event that was read lately; 0: not known. A guess that lets the store choose a
    /// cheaper statement.
    pub largest: u64,
}

/// Consecutive events of one lane.
#[derive(Debug)]
pub struct LaneBatch<C> {
    /// The lane.
    pub lane: Lane,
    /// The events, in order.
    pub events: Vec<StoredEvent>,
    /// The cursor before the first of them.
    pub start: C,
    /// The cursor after the last of them.
    pub end: C,
    /// It is worth saving that the lane is read up to there, even if there are no events.
    pub save: bool,
    /// What is left of the lane.
    pub rest: Rest,
}

/// What is left of a lane after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It was read to the end of what is committed.
    Nothing,
    /// There may be more.
    More,
    /// There is more, and the next event takes this many bytes: more than were left of the bound.
    TooLarge(u64),
}

/// What a save came to. All lanes that are not named are saved.
#[derive(Debug, Default)]
pub struct Saved {
    /// Lanes that are lost: their new holder publishes from the cursor that it found.
    pub lost: Vec<Lane>,
    /// Lanes whose progress could not be saved because their events could not be parked.
    pub failed: Vec<(Lane, OutboxError)>,
}

/// How far a lane is delivered.
#[derive(Debug, Clone)]
pub struct Progress<C> {
    /// The lane.
    pub lease: Lease,
    /// Up to where.
    pub cursor: C,
    /// Events before it that were not delivered.
    pub parked: Vec<Parking>,
}

/// A key, as a consumer group sees it.
#[derive(Debug, Clone, Copy)]
pub struct GroupKey<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a [u8],
}

impl GroupKey<'_> {
    /// What stands for the key in indexes, which do not take keys of any length. Keys with the same
    /// digest would wait for each other, and nothing else would come of it.
    pub(crate) fn digest(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.key)
    }
}

/// An event whose key may have to wait for it. It is known by its id: places begin anew with a
/// topic that is deleted and created again.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Its key.
    pub of: GroupKey<'a>,
    /// Its id.
    pub event_id: Uuid,
    /// The partition it was first in, for the operator.
    pub partition: i32,
    /// The offset it was first at, for the operator.
    pub offset: i64,
}

/// Which other events of a key wait, and where this one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// It was noted itself.
    pub noted: bool,
    /// It was noted as being in a retry topic.
    pub in_retry_topic: bool,
    /// One that waits since before this one did, or any if this one did not.
    pub earlier: bool,
    /// One that waits since after this one did, or any if this one did not.
    pub later: bool,
}

/// What a message is, besides its place and key.
#[derive(Debug, Clone)]
pub struct Content {
    /// The headers, as JSON.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
}

/// The first event of a key that waits.
#[derive(Debug, Clone)]
pub struct FirstWaiting {
    /// Its id.
    pub event_id: Uuid,
    /// The partition it was first in.
    pub partition: i32,
    /// The offset it was first at.
    pub offset: i64,
    /// `None`: it is in a retry topic, or about to be.
    pub content: Option<Content>,
}
