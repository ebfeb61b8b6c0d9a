//! The lanes of a MySQL outbox: leased, and read from their starts. What is delivered is deleted.

/// The result of a call that may lose a conflict with a concurrent transaction: a deadlock, or a
/// lock that is not granted in time. It is made again, since an error would have the relay forget
/// its lanes, and publish again what it has not saved. (A macro: the compiler cannot yet tell that
/// the future of an async closure which borrows is `Send`.)
macro_rules! persistently {
    ($call:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            match $call.await.map_err($crate::error::OutboxError::from) {
                Err(error) if !$crate::store::mysql::lanes::gives_up(&error, tries) => {}
                result => break result,
            }
        }
    }};
}

mod chunk;
mod cursor;
mod lease;
pub(super) mod park;
mod retry;
mod save;
mod unacked;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{MySql, MySqlConnection, MySqlPool};
use tokio::time::timeout;
use uuid::Uuid;

use super::connection::{self, CONNECT_TIMEOUT, STATEMENT_TIMEOUT};
use super::server;
use crate::error::{ErrorKind, OutboxError};
use crate::record::{KeyDigest, Lane};
use crate::store::error::{StoreError, no_answer};
use crate::store::fault::Fault;
use crate::store::lanes::{Claimed, LaneBatch, LaneRead, LaneStore, Lease, Progress, Saved, Share};
use crate::store::liveness::Liveness;
use crate::store::names::Names;
use crate::store::parked::{Released, Retry, RetryResult};
use crate::store::relays::RelayProcess;
use crate::store::sealed::{Database, Schema as _};
pub use cursor::MySqlCursor;
use unacked::Unacked;

/// The read side of a MySQL outbox: one connection, separate from the user's pool. A business that
/// uses all connections of its pool must not stop its relay.
#[derive(Debug)]
pub struct MySqlLaneStore {
    /// The user's pool, which knows where to connect.
    pool: MySqlPool,
    /// Whether `names` already has the database, and the server was found to be one that will do.
    checked: bool,
    /// `None` during a call, and after one that failed.
    connection: Option<MySqlConnection>,
    names: Arc<Names>,
    /// This relay's id in the lane table's `owner`.
    owner: Uuid,
    process: RelayProcess,
    lease: Duration,
    /// Time for which copies of what is published are kept. Zero: there are none.
    retention: Duration,
    liveness: Liveness,
    /// What was read and is not deleted of the lanes that are held.
    read: BTreeMap<Lane, Unacked>,
}

impl Database for MySql {
    type LaneStore = MySqlLaneStore;

    fn open_lanes(
        pool: &MySqlPool,
        names: &Arc<Names>,
        lease: Duration,
        retention: Duration,
    ) -> MySqlLaneStore {
        MySqlLaneStore {
            pool: pool.clone(),
            checked: false,
            connection: None,
            names: Arc::clone(names),
            owner: Uuid::now_v7(),
            process: RelayProcess::this(),
            lease,
            retention,
            liveness: Liveness::default(),
            read: BTreeMap::new(),
        }
    }
}

impl MySqlLaneStore {
    async fn connect(&mut self) -> Result<MySqlConnection, OutboxError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if !self.checked {
            self.names = in_time(CONNECT_TIMEOUT, MySql::located(&self.pool, &self.names)).await?;
        }
        let connect = async {
            let mut connection = connection::connect(&self.pool).await?;
            connection::set_up(&mut connection, self.lease * 2).await?;
            if !self.checked {
                server::check(&mut connection, &self.names).await?;
            }
            Ok(connection)
        };
        let connection = in_time(CONNECT_TIMEOUT, connect).await?;
        self.checked = true;
        Ok(connection)
    }

    /// The connection over which the lanes were claimed. After a failure there is none until the
    /// next claim.
    fn open(&mut self) -> Result<MySqlConnection, OutboxError> {
        self.connection.take().ok_or_else(|| {
            OutboxError::new(
                ErrorKind::Database,
                "the connection was lost over which these events were read",
            )
        })
    }

    async fn save_retry_once(
        &self,
        connection: &mut MySqlConnection,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, StoreError> {
        let retains = !self.retention.is_zero();
        let mut tx = connection::begin_on(connection).await?;
        let left =
            retry::save_retry(&mut tx, &self.names, self.owner, lease, result, retains).await?;
        tx.commit().await?;
        Ok(left)
    }

    fn unacked(&mut self, lane: Lane) -> &mut Unacked {
        self.read.entry(lane).or_default()
    }
}

/// The result of a call, or an error if it takes too long.
async fn in_time<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, OutboxError>>,
) -> Result<T, OutboxError> {
    let result = timeout(bound, call).await.unwrap_or_else(|_| Err(no_answer()));
    result.map_err(|error| StoreError::from(error).into())
}

/// How often a call is made that a concurrent transaction prevents.
const TRIES: u32 = 4;

/// Whether a call that failed for the `tries`th time is not made again.
fn gives_up(error: &OutboxError, tries: u32) -> bool {
    let fault = error.fault();
    tries >= TRIES || !(fault == Fault::LockTimeout || fault.is_conflict())
}

impl LaneStore for MySqlLaneStore {
    type Cursor = MySqlCursor;

    async fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> Result<Claimed<MySqlCursor>, OutboxError> {
        let mut connection = self.connect().await?;
        let call = async { persistently!(self.claim_lanes(&mut connection, held, share)) };
        let claimed = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(claimed)
    }

    async fn read(
        &mut self,
        lanes: &[LaneRead<MySqlCursor>],
    ) -> Result<Vec<LaneBatch<MySqlCursor>>, OutboxError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.open()?;
        let call = async { Ok(self.read_lanes(&mut connection, lanes).await?) };
        let batches = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(batches)
    }

    fn cursor_before(start: &MySqlCursor, seq: i64) -> MySqlCursor {
        start.before(seq)
    }

    async fn save(&mut self, progress: &[Progress<MySqlCursor>]) -> Result<Saved, OutboxError> {
        let mut connection = self.open()?;
        let call = async { Ok(self.save_lanes(&mut connection, progress).await?) };
        let saved = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(saved)
    }

    async fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> Result<Option<Vec<KeyDigest>>, OutboxError> {
        let mut connection = self.open()?;
        let call = async { Ok(park::keys_among(&mut connection, &self.names, lane, &keys).await?) };
        let parked = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(parked)
    }

    async fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> Result<Vec<Released>, OutboxError> {
        let mut connection = self.open()?;
        let call =
            async { persistently!(retry::released(&mut connection, &self.names, held, &retry)) };
        let released = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(released)
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<bool>, OutboxError> {
        let mut connection = self.open()?;
        let call = async { persistently!(self.save_retry_once(&mut connection, lease, result)) };
        let left = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(left)
    }

    async fn release(&mut self, held: &[Lease], leaving: bool) -> Result<(), OutboxError> {
        let mut connection = self.connect().await?;
        let call = async { persistently!(self.release_lanes(&mut connection, held, leaving)) };
        in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        held.iter().for_each(|lease| _ = self.read.remove(&lease.lane));
        Ok(())
    }
}
