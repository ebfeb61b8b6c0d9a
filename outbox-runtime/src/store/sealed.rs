//! The parts of a database. Only this crate implements them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use sqlx::{Pool, SqlStr};
use uuid::Uuid;

use super::admin::{DiscardedEvent, ParkedEvent, Replay};
use super::diagnosis::Diagnosis;
use super::doubt::Doubt;
use super::error::StoreError;
use super::events::{EventCopy, EventFilter, GroupEvent, ListedEvent};
use super::inbox::{
    GroupKey, InboxStats, QueueHead, QueuePosition, QueuedEvent, StoredMessage, WaitingKeys,
};
use super::lanes::LaneStore;
use super::migrate::{Migrate, Migration, MigrationStatus, MigrationStep};
use super::names::Names;
use super::parked::{Discard, Release};
use super::parked_filter::{ParkedFilter, ParkedGroup, ParkedGrouping};
use super::pause::{Pause, PauseScope};
use super::status::{ParkedTopic, Status};
use super::tail::{Moment, TailFilter, TailPage, TailWindow};
use super::tx_options::TxOptions;
use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::record::{EventRecord, KeyDigest, Lane, StoredEvent};

/// All that a database offers.
pub trait Database:
    Schema
    + EventWriter
    + Inbox
    + Admin
    + Lookup
    + Tail
    + Monitor
    + Diagnose
    + ParkedAdmin
    + Pausing
    + Wakeup
    + Inspect
{
    /// How a relay reads the outbox.
    type LaneStore: LaneStore;

    /// Opens the read side for a relay, whose leases last for `lease`, and that retains what is
    /// published for `retention`.
    fn open_lanes(
        pool: &Pool<Self>,
        names: &Arc<Names>,
        lease: Duration,
        retention: Duration,
    ) -> Self::LaneStore;
}

/// The tables: what they are called, where they are, and how they are created.
pub trait Schema: sqlx::Database {
    /// What identifiers are quoted with.
    const QUOTE: char = '"';

    /// All migrations, oldest first.
    const MIGRATIONS: &'static [Migration];

    /// The statement that creates the table of applied migrations unless it exists.
    const MIGRATION_TABLE: &'static str;

    /// Whether the database accepts these names.
    fn check_names(names: &Names) -> Result<(), OutboxError>;

    /// Runs the migrations of `all` that are needed, and returns them. Several processes may
    /// call it at once.
    fn migrate(
        pool: &Pool<Self>,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> impl Future<Output = Result<Vec<MigrationStep>, OutboxError>> + Send;

    /// The migrations that [`migrate`](Self::migrate) would run.
    fn plan_migration(
        pool: &Pool<Self>,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> impl Future<Output = Result<Vec<MigrationStep>, OutboxError>> + Send;

    /// Where the tables are, and which migrations they have.
    fn migrations(
        pool: &Pool<Self>,
        names: &Names,
        all: &'static [Migration],
    ) -> impl Future<Output = Result<MigrationStatus, OutboxError>> + Send;

    /// The names as connections other than those of `pool` must spell them.
    fn located(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Arc<Names>, OutboxError>> + Send;
}

/// The write side: what runs in the user's transaction, and how that begins and ends.
pub trait EventWriter: sqlx::Database {
    /// Whether a connection may die silently, as connections over a network do.
    const CAN_GO_SILENT: bool;

    /// Whether sqlx counts a rollback when it is requested, and not only when it is done.
    const COUNTS_ROLLBACKS_AT_ONCE: bool;

    /// Whether a statement that is given up in the middle of its answer leaves the connection
    /// unusable.
    const CANCELLED_IS_UNUSABLE: bool = false;

    /// Whether an error may end the transaction, and the database then takes each statement that
    /// follows as a transaction of its own.
    const GOES_ON_AFTER_ITS_END: bool;

    /// Most bytes of the events in one statement: both sides hold the whole of it. (Postgres
    /// accepts a gigabyte at most.)
    const MOST_BYTES_AT_ONCE: usize = 16 << 20;

    /// Most events in one statement.
    const MOST_EVENTS_AT_ONCE: usize = usize::MAX;

    /// The statement that begins a transaction. `None`: plain `BEGIN`.
    fn begin_statement(options: TxOptions) -> Option<SqlStr>;

    /// Prepares a transaction of the user's, in which a savepoint has just begun, for
    /// [`insert_events`](Self::insert_events).
    fn joined(_: &mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Inserts events of one transaction, in order, with as few statements as possible. `more`:
    /// other events of it follow. Otherwise, its commit does.
    fn insert_events(
        connection: &mut Self::Connection,
        names: &Names,
        events: &[EventRecord],
        more: bool,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether a commit must [`ensure_not_aborted`](Self::ensure_not_aborted) first.
    fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool;

    /// Returns an error if the transaction is over or aborted: the database would roll it back
    /// and report success.
    fn ensure_not_aborted(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What a consumer group has handled, and the queues of its keys.
pub trait Inbox: sqlx::Database {
    /// Whether a commit is visible before it is on disk. Then what was read must be
    /// [flushed](Self::flush) before anything rests on it that is not in the database.
    const SHOWS_BEFORE_DISK: bool = false;

    /// Has the commit of this transaction wait until all that it can see is on disk.
    fn flush(
        _: &mut Self::Connection,
        _: &Names,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Records that `group` handles `event_id` now. Returns `false` if it had handled it
    /// before.
    fn insert_inbox(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Records that `group` handles these events now, each of which is given once. Returns those
    /// that it had not handled before.
    fn insert_inbox_all(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
        event_ids: &[Uuid],
    ) -> impl Future<Output = Result<Vec<Uuid>, StoreError>> + Send;

    /// Whether the queue of any of these keys of a topic has an event. They are given by their
    /// digests.
    fn any_queued(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
        topic: &str,
        keys: &[Uuid],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Forgets up to `most` events that the group handled longer ago than `retention`, and all
    /// that are noted as being in a retry topic for longer. Returns the number of handled
    /// events forgotten.
    fn forget_inbox(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
        retention: Duration,
        most: u32,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Records that an event failed and is about to be sent to a retry topic: later events of
    /// its key queue behind it from now on. Returns `false`, recording nothing, if the group
    /// has handled it. Runs in a transaction, and waits for one that is handling the event
    /// right now.
    fn enqueue_failed(
        connection: &mut Self::Connection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Records that the event is in its retry topic, unless it is settled already.
    fn mark_sent(
        connection: &mut Self::Connection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes an event out of the queue of its key. Runs in a transaction: if the event was
    /// queued, no other one queues behind it until the transaction ends.
    fn dequeue(
        connection: &mut Self::Connection,
        names: &Names,
        event: &QueuedEvent<'_>,
    ) -> impl Future<Output = Result<QueuePosition, StoreError>> + Send;

    /// Keeps an event until the earlier ones of its key are done. Returns `false`, keeping
    /// nothing, if there are none. Runs in a transaction.
    fn enqueue_behind(
        connection: &mut Self::Connection,
        names: &Names,
        event: &QueuedEvent<'_>,
        message: &StoredMessage,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Topics and keys whose queues have begun with an event that is kept here for a minute.
    fn stranded_keys(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
    ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, StoreError>> + Send;

    /// What each group remembers as handled, by group.
    fn inbox_stats(
        connection: &mut Self::Connection,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<InboxStats>, StoreError>> + Send;

    /// The keys whose events wait, by group and topic.
    fn waiting_keys(
        connection: &mut Self::Connection,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<WaitingKeys>, StoreError>> + Send;

    /// Number of events that the group handled longer ago than `retention`, counted up to
    /// [`InboxStats::COUNTED`].
    fn handled_before(
        connection: &mut Self::Connection,
        names: &Names,
        group: &str,
        retention: Duration,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The first event in the queue of a key.
    fn queue_head(
        connection: &mut Self::Connection,
        names: &Names,
        of: &GroupKey<'_>,
    ) -> impl Future<Output = Result<Option<QueueHead>, StoreError>> + Send;
}

/// What an operator asks, and what a relay does besides publishing.
pub trait Admin: sqlx::Database {
    /// A pool for what a relay does besides publishing, so that it and the business do not wait
    /// for each other's connections.
    fn own_pool(pool: &Pool<Self>) -> Pool<Self>;

    /// Makes such a pool connect as `pool` does now.
    fn follow(own: &Pool<Self>, pool: &Pool<Self>);

    /// The other outboxes of this database, if nothing was ever emitted into this one.
    fn others_if_unused(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;

    /// Takes back the space of events that every lane has published and that are older than
    /// `retention`. Returns about how many events.
    fn reclaim(
        pool: &Pool<Self>,
        names: &Names,
        retention: Duration,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Inserts retained events again, all in one transaction.
    fn replay(
        pool: &Pool<Self>,
        names: &Names,
        which: &Replay,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The rows that [`replay`](Self::replay) would insert again, by their numbers, at most
    /// `limit`.
    fn to_replay(
        pool: &Pool<Self>,
        names: &Names,
        which: &Replay,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(Lane, i64)>, StoreError>> + Send;

    /// Inserts these rows again, unless they are parked or gone, and returns how many it did.
    fn replay_rows(
        pool: &Pool<Self>,
        names: &Names,
        rows: &[(Lane, i64)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Where an event is.
pub trait Lookup: sqlx::Database {
    /// The newest events that are meant, with numbers below `before`.
    fn list_events(
        pool: &Pool<Self>,
        names: &Names,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ListedEvent>, StoreError>> + Send;

    /// The rows of an event in order, and what the last of them has.
    fn copies(
        pool: &Pool<Self>,
        names: &Names,
        id: Uuid,
    ) -> impl Future<Output = Result<(Vec<EventCopy>, Option<StoredEvent>), StoreError>> + Send;

    /// When the event was given up.
    fn discarded_as(
        pool: &Pool<Self>,
        names: &Names,
        id: Uuid,
    ) -> impl Future<Output = Result<Vec<DiscardedEvent>, StoreError>> + Send;

    /// What consumer groups know of an event.
    fn groups_of(
        pool: &Pool<Self>,
        names: &Names,
        id: Uuid,
    ) -> impl Future<Output = Result<Vec<GroupEvent>, StoreError>> + Send;
}

/// Events as they are committed. Each function is a short transaction of its own.
pub trait Tail: sqlx::Database {
    /// What is visible now. `before`: the last moment, if there was one.
    fn moment(
        pool: &Pool<Self>,
        names: &Names,
        before: Option<&Moment>,
    ) -> impl Future<Output = Result<Moment, StoreError>> + Send;

    /// A moment before all events that occurred at that time or later.
    fn before_all_since(
        pool: &Pool<Self>,
        names: &Names,
        since: SystemTime,
    ) -> impl Future<Output = Result<Moment, StoreError>> + Send;

    /// The next events of a window, in the order of their numbers.
    fn page(
        pool: &Pool<Self>,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> impl Future<Output = Result<TailPage, StoreError>> + Send;

    /// Number of events that are left in a window. At most [`COUNTED`](super::tail::COUNTED)
    /// are counted.
    fn count(
        pool: &Pool<Self>,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// How far the relays are.
pub trait Monitor: sqlx::Database {
    /// The state of lanes, relays and parked events, at a cost that does not grow with the
    /// backlog.
    fn status(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Status, StoreError>> + Send;

    /// The topics with most parked events, paused ones included. At most
    /// [`Status::COUNTED`] events are counted.
    fn parked_topics(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<ParkedTopic>, StoreError>> + Send;
}

/// What a server and its settings mean for an outbox.
pub trait Diagnose: sqlx::Database {
    /// Facts on the server, and on the tables if there are any. It changes nothing.
    fn diagnose(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Diagnosis, StoreError>> + Send;
}

/// What an operator sees and does of parked events.
pub trait ParkedAdmin: sqlx::Database {
    /// Those that are meant, by lane, key and number: those after `after`.
    fn parked(
        pool: &Pool<Self>,
        names: &Names,
        filter: &ParkedFilter,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Counts those that are meant, by what they have in common: the largest groups.
    fn parked_groups(
        pool: &Pool<Self>,
        names: &Names,
        filter: &ParkedFilter,
        by: ParkedGrouping,
    ) -> impl Future<Output = Result<Vec<ParkedGroup>, StoreError>> + Send;

    /// Number of those that are meant.
    fn count_parked(
        pool: &Pool<Self>,
        names: &Names,
        filter: &ParkedFilter,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Marks parked keys to be tried again, unless their topic is paused, and calls the relays.
    /// Returns how many events the keys have.
    fn release_parked(
        pool: &Pool<Self>,
        names: &Names,
        which: Release<'_>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Discards a parked event, and remembers that. An event that merely waits is discarded
    /// only if `insist`.
    fn discard_parked(
        pool: &Pool<Self>,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> impl Future<Output = Result<Discard, StoreError>> + Send;

    /// Discarded events, the latest first.
    fn discarded(
        pool: &Pool<Self>,
        names: &Names,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DiscardedEvent>, StoreError>> + Send;
}

/// What relays are to leave unpublished.
pub trait Pausing: sqlx::Database {
    /// Records a pause in place of an earlier one of the same scope, and calls the relays.
    fn pause(
        pool: &Pool<Self>,
        names: &Names,
        scope: &PauseScope,
        reason: &str,
        by: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a pause, and calls the relays. Returns `false` if there was none.
    fn resume(
        pool: &Pool<Self>,
        names: &Names,
        scope: &PauseScope,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// All pauses.
    fn pauses(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<Pause>, StoreError>> + Send;
}

/// What the test kit asks.
pub trait Inspect: sqlx::Database {
    /// All events that are stored, in the order of their numbers.
    fn events(
        pool: &Pool<Self>,
        names: &Names,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// A connection beside those of the pool, if the database would be gone with the last one
    /// of these: an SQLite in memory.
    fn keep(pool: &Pool<Self>) -> impl Future<Output = Option<Self::Connection>> + Send;

    /// Has the connection give no answer while `polling` is true. A database of the same
    /// process may otherwise answer within the poll that asks it, and the future never waits.
    fn hold_answers(
        connection: &mut Self::Connection,
        polling: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The transactions that are open while nothing runs in them, of this connection and, as
    /// far as it sees them, of others. As text, the same for the same transaction.
    fn open_transactions(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;
}

/// How relays of other processes learn of a commit.
pub trait Wakeup: sqlx::Database {
    /// Calls relays in other processes whenever `doorbell` was rung for them. Runs until
    /// dropped.
    fn notify_others(
        pool: Pool<Self>,
        names: Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Rings `doorbell` whenever a process commits events. Runs until dropped.
    fn listen_to_others(
        pool: Pool<Self>,
        names: Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static;
}
