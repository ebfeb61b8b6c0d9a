//! Postgres: an append-only table, read in windows between snapshots.

mod chunk;
mod doorbell;
mod fragments;
#[cfg(test)]
mod held_snapshot;
mod inbox;
mod invariants;
mod lease;
mod look;
mod marks;
mod migrate;
#[cfg(test)]
mod model;
mod operate;
mod park;
mod reclaim;
mod session;
mod tidy;
mod window;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, SqlStr};
use tokio::time::Instant;
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::{ErrorKind, OutboxError};
use crate::operate::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::record::{EventRecord, KeyDigest, Lane};
use crate::store::liveness::Liveness;
use crate::store::sealed::Database;
use crate::store::{
    Claimed, Content, Discard, FirstWaiting, GroupKey, LaneBatch, LaneRead, Lease, Migration,
    Names, Others, Progress, Release, Released, Retry, Saved, Settled, Share, Store, Waiting, sql,
};
use crate::tx::{Doubt, TxOptions};

use marks::Marks;
use window::{PgCursor, Session};

impl Database for Postgres {
    const CAN_GO_SILENT: bool = true;

    type Store = PgStore;

    const MIGRATIONS: &'static [Migration] = migrate::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = migrate::MIGRATION_TABLE;

    fn begin_statement(options: TxOptions) -> Option<SqlStr> {
        Some(session::begin_statement(options))
    }

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        migrate::check_names(names)
    }

    async fn insert_events(
        connection: &mut PgConnection,
        names: &Names,
        events: &[EventRecord],
    ) -> Result<(), sqlx::Error> {
        write::insert_events(connection, names, events).await
    }

    async fn insert_inbox(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> Result<bool, sqlx::Error> {
        inbox::insert(connection, names, group, event_id).await
    }

    async fn forget_inbox(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
        retention: Duration,
        most: u32,
    ) -> Result<u64, sqlx::Error> {
        inbox::forget(connection, names, group, retention, most).await
    }

    async fn begin_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<bool, sqlx::Error> {
        inbox::begin_waiting(connection, names, waiting).await
    }

    async fn sent_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<(), sqlx::Error> {
        inbox::sent_waiting(connection, names, waiting).await
    }

    async fn end_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<Others, sqlx::Error> {
        inbox::end_waiting(connection, names, waiting).await
    }

    async fn park_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
        content: &Content,
    ) -> Result<bool, sqlx::Error> {
        inbox::park_waiting(connection, names, waiting, content).await
    }

    async fn left_behind(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
        inbox::left_behind(connection, names, group).await
    }

    async fn first_waiting(
        connection: &mut PgConnection,
        names: &Names,
        of: &GroupKey<'_>,
    ) -> Result<Option<FirstWaiting>, sqlx::Error> {
        inbox::first_waiting(connection, names, of).await
    }

    /// An insert of events finds out by itself.
    fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool {
        doubt.now && !has_events
    }

    const COUNTS_ROLLBACKS_AT_ONCE: bool = true;

    async fn confirm(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute("select 1").await.map(drop)
    }

    async fn migrate(pool: &PgPool, names: &Names) -> Result<(), OutboxError> {
        migrate::migrate(pool, names).await
    }

    fn open_store(pool: &PgPool, names: &Arc<Names>, lease: Duration) -> PgStore {
        PgStore {
            pool: pool.clone(),
            located: false,
            connection: None,
            backend: 0,
            marks: Marks::default(),
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            lease,
            liveness: Liveness::default(),
        }
    }

    fn own_pool(pool: &PgPool) -> PgPool {
        session::own_pool(pool)
    }

    fn follow(own: &PgPool, pool: &PgPool) {
        session::follow(own, pool);
    }

    async fn located(pool: &PgPool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(session::located(pool, names).await?))
    }

    async fn others_if_unused(pool: &PgPool, names: &Names) -> Result<Vec<String>, OutboxError> {
        operate::others_if_unused(pool, names).await
    }

    async fn reclaim(
        pool: &PgPool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn status(pool: &PgPool, names: &Names) -> Result<Status, OutboxError> {
        operate::status(pool, names).await
    }

    async fn parked(
        pool: &PgPool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        operate::parked(pool, names, after, limit).await
    }

    async fn release_parked(
        pool: &PgPool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, OutboxError> {
        let released = operate::release_parked(pool, names, which).await?;
        doorbell::call_relays(pool, &session::located(pool, names).await?).await?;
        Ok(released)
    }

    async fn discard_parked(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, OutboxError> {
        let discard = operate::discard_parked(pool, names, id, insist).await?;
        doorbell::call_relays(pool, &session::located(pool, names).await?).await?;
        Ok(discard)
    }

    async fn discarded(
        pool: &PgPool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, OutboxError> {
        operate::discarded(pool, names, limit).await
    }

    async fn replay(pool: &PgPool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
        operate::replay(pool, names, which).await
    }

    fn notify_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        doorbell::notify_others(pool.clone(), Arc::clone(names), doorbell)
    }

    fn listen_to_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        doorbell::listen_to_others(pool.clone(), Arc::clone(names), doorbell)
    }
}

/// After which a database is said to be away. sqlx's own 30 s would be a long silence.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After which a statement is given up, and the connection with it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The read side of a Postgres outbox: one connection, beside the user's pool. A business that
/// holds all connections of its pool must not stop its relay; and a window is of use only over the
/// connection that opened it (see [`window`]).
#[derive(Debug)]
pub struct PgStore {
    /// The user's: it knows where to connect, and by what `search_path`.
    pool: PgPool,
    /// Whether `names` has the schema.
    located: bool,
    /// Not here during a call, nor after one that failed.
    connection: Option<PgConnection>,
    /// The process of the server at its other end: always the same one, unless a transaction pooler
    /// is in between.
    backend: i32,
    marks: Marks,
    names: Arc<Names>,
    /// Who we are in the lane table's `owner`.
    owner: Uuid,
    lease: Duration,
    liveness: Liveness,
}

impl PgStore {
    async fn connection(&mut self) -> Result<PgConnection, OutboxError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.marks = Marks::default();
        if !self.located {
            self.names =
                in_time(CONNECT_TIMEOUT, Postgres::located(&self.pool, &self.names)).await?;
            self.located = true;
        }
        let connect = async {
            let mut connection = session::connect(&self.pool).await?;
            let backend = backend(&mut connection).await?;
            // Found out before anything is left behind in a session that is not ours alone.
            let mut another = session::connect(&self.pool).await?;
            if self::backend(&mut another).await? == backend
                || self::backend(&mut connection).await? != backend
            {
                return Err(window::through_a_pooler());
            }
            another.close().await?;
            session::set_up(&mut connection).await?;
            Ok((connection, backend))
        };
        let (connection, backend) = in_time(CONNECT_TIMEOUT, connect).await?;
        self.backend = backend;
        Ok(connection)
    }

    /// Begins what concerns one lane: a lock on the parked events must not keep the others waiting.
    fn begin_for_one_lane(&self) -> SqlStr {
        let millis = (self.lease / 8).as_millis().clamp(10, 1_000);
        sql(format!("begin; set local lock_timeout = {millis}"))
    }

    fn lease_millis(&self) -> i64 {
        i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Which of the server's processes is at the other end.
async fn backend(connection: &mut PgConnection) -> Result<i32, OutboxError> {
    Ok(sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?)
}

/// What a session without a pooler never says: there is no such prepared statement, or there is one
/// already.
const OF_A_POOLER: [&str; 2] = ["26000", "42P05"];

/// Our own statements name a column, a function or a type that is not there.
const OF_ANOTHER_VERSION: [&str; 3] = ["42703", "42883", "42704"];

/// The result of a call, unless it takes too long.
async fn in_time<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, OutboxError>>,
) -> Result<T, OutboxError> {
    let result = tokio::time::timeout(bound, call).await.unwrap_or_else(|_| Err(no_answer()));
    result.map_err(|error| {
        let database = error.as_database_error().and_then(|error| error.as_database_error());
        match database.and_then(|error| error.code()) {
            Some(code) if OF_A_POOLER.contains(&&*code) => window::through_a_pooler(),
            Some(code) if OF_ANOTHER_VERSION.contains(&&*code) => OutboxError::other_version(error),
            _ => error,
        }
    })
}

fn no_answer() -> OutboxError {
    OutboxError::new(ErrorKind::Database, "the database does not answer")
}

impl Store for PgStore {
    type Cursor = PgCursor;

    async fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<PgCursor>, OutboxError> {
        let mut connection = self.connection().await?;
        let claimed =
            in_time(STATEMENT_TIMEOUT, self.claim_over(&mut connection, held, share)).await?;
        let windows = claimed.taken.iter().flat_map(|(_, at, _)| at.cur.iter().chain([&at.prev]));
        self.marks.note_saved(windows.map(|snapshot| &**snapshot));
        self.connection = Some(connection);
        Ok(claimed)
    }

    async fn read(
        &mut self,
        lanes: &[LaneRead<PgCursor>],
    ) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
        let mut connection = self.connection().await?;
        let mut session = Session {
            connection: &mut connection,
            backend: self.backend,
            names: &self.names,
            marks: &mut self.marks,
            until: Instant::now() + self.lease / 8,
        };
        let batches = in_time(STATEMENT_TIMEOUT, window::read(&mut session, lanes)).await?;
        self.connection = Some(connection);
        Ok(batches)
    }

    fn cursor_before(start: &PgCursor, seq: i64) -> PgCursor {
        start.clone().advanced_to(seq - 1)
    }

    /// Over no other connection than the one that the windows were opened over (see [`window`]).
    async fn save(&mut self, progress: &[Progress<PgCursor>]) -> Result<Saved, OutboxError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(OutboxError::new(
                ErrorKind::Database,
                "the connection was lost over which these events were read",
            ));
        };
        let saved = in_time(STATEMENT_TIMEOUT, self.save_over(&mut connection, progress)).await?;
        self.connection = Some(connection);
        Ok(saved)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = park::keys_among(&mut connection, &self.names, lane, &keys);
        let parked = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(parked)
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = park::released(&mut connection, &self.names, held, &retry);
        let released = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(released)
    }

    /// The connection that refused a statement and then ended its transaction is still of use.
    async fn settle_released(
        &mut self,
        lease: Lease,
        settled: &Settled,
    ) -> Result<Option<bool>, OutboxError> {
        let mut connection = self.connection().await?;
        let call = async {
            let tx = connection.begin_with(self.begin_for_one_lane()).await?;
            park::settle(tx, &self.names, self.owner, lease, settled).await
        };
        let left = in_time(STATEMENT_TIMEOUT, call).await;
        match left {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => {}
        }
        self.connection = Some(connection);
        left
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        let mut connection = self.connection().await?;
        in_time(STATEMENT_TIMEOUT, self.release_over(&mut connection, held, leaving)).await?;
        self.connection = Some(connection);
        Ok(())
    }
}
