//! The store seam: what a database must offer to hold an outbox. SQL lives below here and nowhere
//! else.
//!
//! A database is one folder, and each part of [`sealed::Database`] is implemented in the file that
//! has its SQL.

pub(crate) mod admin;
pub(crate) mod begun;
pub(crate) mod doubt;
pub(crate) mod inbox;
pub(crate) mod lanes;
pub(crate) mod liveness;
pub(crate) mod migrate;
pub(crate) mod names;
pub(crate) mod parked;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod tx_options;

pub use inbox::{Content, FirstWaiting, GroupKey, Others, Waiting};
pub use lanes::{
    Claimed, HeldElsewhere, KnownParked, LaneBatch, LaneRead, LaneStore, Lease, Progress, Rest,
    Saved, Share,
};
pub(crate) use names::{Names, sql};
pub use parked::{Parking, Released, Retry, Settled, Then};

/// A database that can hold an outbox: [`sqlx::Postgres`] with the feature `postgres`,
/// [`sqlx::Sqlite`] with the feature `sqlite`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that `outbox` can use",
    note = "turn on the feature `postgres` or `sqlite` of the crate `outbox`"
)]
pub trait OutboxDatabase: sqlx::Database + sealed::Database {}

impl<DB: sealed::Database> OutboxDatabase for DB {}

pub(crate) mod sealed {
    use std::future::Future;
    use std::sync::Arc;
    use std::time::Duration;

    use sqlx::{Pool, SqlStr};
    use uuid::Uuid;

    use super::admin::{DiscardedEvent, ParkedEvent, Replay, Status};
    use super::doubt::Doubt;
    use super::inbox::{Content, FirstWaiting, GroupKey, Others, Waiting};
    use super::lanes::LaneStore;
    use super::migrate::Migration;
    use super::names::Names;
    use super::parked::{Discard, Release};
    use super::tx_options::TxOptions;
    use crate::doorbell::Doorbell;
    use crate::error::OutboxError;
    use crate::record::{EventRecord, KeyDigest, Lane};

    /// All that a database offers.
    pub trait Database: Schema + EventWriter + Inbox + Admin + Wakeup {
        /// What the relay reads by.
        type LaneStore: LaneStore;

        /// Opens the read side for a relay, whose leases last for `lease`.
        fn open_lanes(pool: &Pool<Self>, names: &Arc<Names>, lease: Duration) -> Self::LaneStore;
    }

    /// The tables: what they are called, where they are, and how they are created.
    pub trait Schema: sqlx::Database {
        /// All migrations, oldest first.
        const MIGRATIONS: &'static [Migration];

        /// The statement that creates the table of the migrations applied, if it is not there.
        const MIGRATION_TABLE: &'static str;

        /// Whether the database accepts these names.
        fn check_names(names: &Names) -> Result<(), OutboxError>;

        /// Applies the migrations that are missing. Two processes may call it at once.
        fn migrate(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<(), OutboxError>> + Send;

        /// The names as connections other than those of `pool` must say them.
        fn located(
            pool: &Pool<Self>,
            names: &Names,
        ) -> impl Future<Output = Result<Arc<Names>, OutboxError>> + Send;
    }

    /// The write side: what runs in the user's transaction, and how that begins and ends.
    pub trait EventWriter: sqlx::Database {
        /// Whether a connection may go dead without a word, as those over a network do.
        const CAN_GO_SILENT: bool;

        /// Whether sqlx counts a rollback when it is asked for, and not only when it is done.
        const COUNTS_ROLLBACKS_AT_ONCE: bool;

        /// The statement that begins a transaction, where plain `BEGIN` is not right.
        fn begin_statement(options: TxOptions) -> Option<SqlStr>;

        /// Inserts the events of one transaction, in order, with one statement (or as few as it
        /// takes).
        fn insert_events(
            connection: &mut Self::Connection,
            names: &Names,
            events: &[EventRecord],
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Whether a commit must [`confirm`](Self::confirm) first.
        fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool;

        /// An error if the transaction is over or aborted, which the database would roll back and
        /// call committed.
        fn confirm(
            connection: &mut Self::Connection,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    }

    /// What a consumer group has handled, and which of its events wait for an earlier one.
    pub trait Inbox: sqlx::Database {
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

        /// The first event of a key that waits.
        fn first_waiting(
            connection: &mut Self::Connection,
            names: &Names,
            of: &GroupKey<'_>,
        ) -> impl Future<Output = Result<Option<FirstWaiting>, sqlx::Error>> + Send;
    }

    /// What an operator asks, and what a relay does beside publishing.
    pub trait Admin: sqlx::Database {
        /// A pool for what a relay does beside the business, so that neither waits for the other's
        /// connections.
        fn own_pool(pool: &Pool<Self>) -> Pool<Self>;

        /// Has such a pool connect as `pool` does now.
        fn follow(own: &Pool<Self>, pool: &Pool<Self>);

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

        /// How far the relays are.
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
    }

    /// How relays of other processes learn of a commit.
    pub trait Wakeup: sqlx::Database {
        /// Tells relays in other processes whenever `doorbell` was rung for them. Runs until
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
}
