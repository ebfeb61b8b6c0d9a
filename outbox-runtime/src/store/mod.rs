//! The store seam: what a database must offer to hold an outbox. SQL lives below here and nowhere else.

pub(crate) mod migrate;
mod names;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Pool, SqlStr};
use uuid::Uuid;

pub(crate) use migrate::Migration;
pub(crate) use names::{Names, sql};

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::record::{EventRecord, LANES, Lane, StoredEvent};
use crate::tx::TxOptions;

/// A database that can hold an outbox: [`sqlx::Postgres`] with the feature `postgres`, [`sqlx::Sqlite`] with the
/// feature `sqlite`.
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

        /// The statement that begins a transaction, where plain `BEGIN` is not right.
        fn begin_statement(options: TxOptions) -> Option<SqlStr>;

        /// All migrations, oldest first.
        const MIGRATIONS: &'static [Migration];

        /// The statement that creates the table of the migrations applied, if it is not there.
        const MIGRATION_TABLE: &'static str;

        /// Whether the database accepts these names.
        fn check_names(names: &Names) -> Result<(), OutboxError>;

        /// Inserts the events of one transaction, in order, with one statement (or as few as it takes).
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

        /// Applies the migrations that are missing. Two processes may call it at once.
        fn migrate(pool: &Pool<Self>, names: &Names) -> impl Future<Output = Result<(), OutboxError>> + Send;

        /// Opens the read side for a relay.
        fn open_store(pool: &Pool<Self>, names: &Arc<Names>, lease: Duration) -> Self::Store;

        /// Tells relays in other processes whenever `doorbell` was rung for them. Runs until dropped.
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

/// The read side: lanes under lease, read in order from a cursor that is saved once their events are delivered.
///
/// A store keeps two positions for each lane: the *saved* one, in the database, and the one *read up to*, in
/// memory. [`read`](Self::read) moves the second; [`save`](Self::save) brings the first after it;
/// [`rewind`](Self::rewind) sets the second back to the first.
pub trait Store: Send + Sync + 'static {
    /// A place in a lane, between two events.
    type Cursor: Clone + Send + Sync + std::fmt::Debug + 'static;

    /// Takes the lanes that nobody leases, renews the lease of those it holds, and forgets the lost ones.
    /// Returns how many it holds.
    fn claim(&mut self) -> impl Future<Output = Result<usize, OutboxError>> + Send;

    /// The next events of the lanes held, within `limits`. Empty: there is nothing new.
    ///
    /// Dropping the future leaves the position where it was.
    fn read(
        &mut self,
        limits: &ReadLimits,
    ) -> impl Future<Output = Result<Vec<LaneBatch<Self::Cursor>>, OutboxError>> + Send;

    /// The cursor after `batch.events[..delivered]`.
    fn cursor_after(&self, batch: &LaneBatch<Self::Cursor>, delivered: usize) -> Self::Cursor;

    /// Saves how far lanes are delivered. Lanes whose lease was lost meanwhile are not touched, and are forgotten:
    /// their new holder publishes from the cursor that it found.
    fn save(
        &mut self,
        cursors: Vec<(Lane, Self::Cursor)>,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Reads the lane again from its saved cursor.
    fn rewind(&mut self, lane: Lane);

    /// Gives all lanes back at once, so that another relay need not wait for the lease to run out.
    fn release(&mut self) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

/// How much of each lane a read may return.
#[derive(Debug, Clone)]
pub struct ReadLimits {
    /// Events per lane; 0 leaves a lane out.
    pub rows: [u32; LANES],
    /// Payload bytes per lane. The first event is returned whatever its size.
    pub bytes: u64,
}

/// Consecutive events of one lane.
#[derive(Debug)]
pub struct LaneBatch<C> {
    /// The lane.
    pub lane: Lane,
    /// The events, in order; never empty.
    pub events: Vec<StoredEvent>,
    /// The cursor before the first of them.
    pub start: C,
    /// The cursor after the last of them.
    pub end: C,
}

/// Says it once for all stores: it is normal after a pause or a failover, and an operator should see it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn warn_of_lost_lanes(lost: &[Lane]) {
    if !lost.is_empty() {
        tracing::warn!(
            lanes = ?lost.iter().map(|lane| lane.number()).collect::<Vec<_>>(),
            "lanes lost: another relay has taken them over, or the database went back to an older state; they are \
             published from the cursor that is saved, and what was in flight here may arrive twice"
        );
    }
}
