//! The one connection of a relay that delivers exactly once.
//!
//! All that the relay reads and writes of its lanes goes over it, so all of it is of the same file,
//! even if another one is put in its place. And each transaction on it makes sure that the file has
//! not gone back behind what the relay knows of it, as it does when a backup is restored into it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;
use crate::store::error::{StoreError, no_answer};
use crate::store::groups::Groups;
use crate::store::groups::claims::session_was_lost;
use crate::store::names::{Names, sql};
use crate::store::row::row;

/// Time after which a call is abandoned, together with the connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const NORMAL: i64 = 1;

/// Within the transaction that reads or writes, which sees one state of the file.
const KNOWN: &str = "\
select g.claim = $2 as is_ours, coalesce((select w.seq from {witness} w where w.claim = $2), 0) as witness,
       (select e.id from {event} e where e.seq = $3) as last
from {group} g where g.grp = $1";

row! {
    struct KnownRow {
        is_ours: Option<bool>,
        witness: i64,
        last: Option<Uuid>,
    }
}

/// Shared by the store that reads, and the groups that are claimed.
#[derive(Debug, Clone)]
pub(in crate::store::sqlite) struct Session {
    pub(in crate::store::sqlite) groups: Groups,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct State {
    /// `None` during a call, and after one that failed.
    connection: Option<SqliteConnection>,
    /// Counts the connections. What was claimed over an earlier one is not claimed any more.
    number: u64,
    /// What must be in the file, by group.
    known: BTreeMap<u16, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    claim: Uuid,
    /// The witness that is confirmed.
    witness: i64,
    /// Number and id of the last event that was read of the group, unless the witness covers it.
    last: Option<(i64, Uuid)>,
}

impl Session {
    pub(super) fn new(groups: Groups) -> Self {
        Self { groups, state: Arc::default() }
    }

    pub(in crate::store::sqlite) async fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }
}

impl State {
    /// Connects if there is no connection. Returns whether it did: no lane is held over the new one.
    pub(super) async fn open(&mut self, pool: &SqlitePool) -> Result<bool, OutboxError> {
        if self.connection.is_some() {
            return Ok(false);
        }
        // One of the pool's, for what its `after_connect` sets.
        let connect = async {
            let mut connection = pool.acquire().await?;
            // Before it is taken out: a database in memory may be gone with it.
            Durability::of(&mut connection).await?.ensure_enough()?;
            let mut connection = connection.detach();
            // Without a write-ahead log, `FULL` does not wait until the deletion of the journal is on
            // disk, and a journal that comes back takes the last commit away.
            sqlx::query("pragma synchronous = extra").execute(&mut connection).await?;
            Ok(connection)
        };
        self.connection = Some(in_time(connect).await?);
        self.number += 1;
        self.known.clear();
        Ok(true)
    }

    pub(in crate::store::sqlite) fn number(&self) -> u64 {
        self.number
    }

    /// Takes the connection for a call. It is put back if the call succeeds.
    pub(in crate::store::sqlite) fn take(&mut self) -> Result<SqliteConnection, OutboxError> {
        self.connection.take().ok_or_else(session_was_lost)
    }

    /// The same for a group that was claimed over the connection of this number.
    pub(in crate::store::sqlite) fn take_of(
        &mut self,
        number: u64,
    ) -> Result<SqliteConnection, OutboxError> {
        if self.number == number { self.take() } else { Err(session_was_lost()) }
    }

    pub(in crate::store::sqlite) fn put_back(&mut self, connection: SqliteConnection) {
        self.connection = Some(connection);
    }

    pub(in crate::store::sqlite) fn claimed(&mut self, group: u16, claim: Uuid) {
        self.known.insert(group, Known { claim, witness: 0, last: None });
    }

    /// Whether this relay has the group under this claim, and has not given it back.
    pub(in crate::store::sqlite) fn has_claimed(&self, group: u16, claim: Uuid) -> bool {
        self.known.get(&group).is_some_and(|known| known.claim == claim)
    }

    pub(in crate::store::sqlite) fn given_up(&mut self, group: u16) {
        self.known.remove(&group);
    }

    pub(in crate::store::sqlite) fn witnessed(&mut self, group: u16, witness: u64) {
        if let Some(known) = self.known.get_mut(&group) {
            known.witness = witness.cast_signed();
            // Read before: this is one call after the other.
            known.last = None;
        }
    }

    pub(super) fn has_read(&mut self, group: u16, seq: i64, id: Uuid) {
        if let Some(known) = self.known.get_mut(&group)
            && known.last.is_none_or(|(last, _)| last < seq)
        {
            known.last = Some((seq, id));
        }
    }

    /// # Errors
    /// Of a lane whose group is not claimed: what is read or saved of it would not be witnessed.
    pub(super) fn ensure_claimed(
        &self,
        groups: Groups,
        lanes: impl IntoIterator<Item = Lane>,
    ) -> Result<(), OutboxError> {
        let is_claimed = |lane| self.known.contains_key(&groups.of(lane));
        if lanes.into_iter().all(is_claimed) { Ok(()) } else { Err(session_was_lost()) }
    }

    /// To be called first in each transaction: what it sees has all that the relay knows of.
    ///
    /// # Errors
    /// The file is not what it was, or another relay has claimed one of the groups.
    pub(in crate::store::sqlite) async fn ensure_same_file(
        &self,
        connection: &mut SqliteConnection,
        names: &Names,
    ) -> Result<(), OutboxError> {
        for (group, Known { claim, witness, last }) in &self.known {
            let found: Option<KnownRow> = sqlx::query_as(sql(names.fill(KNOWN)))
                .bind(group)
                .bind(claim)
                .bind(last.map(|(seq, _)| seq))
                .fetch_optional(&mut *connection)
                .await?;
            let Some(found) = found.filter(|found| found.is_ours == Some(true)) else {
                return Err(not_ours());
            };
            if found.witness < *witness || last.is_some_and(|(_, id)| found.last != Some(id)) {
                return Err(has_gone_back());
            }
        }
        Ok(())
    }
}

/// The result of a call, or an error if it takes too long.
pub(in crate::store::sqlite) async fn in_time<T>(
    call: impl Future<Output = Result<T, OutboxError>>,
) -> Result<T, OutboxError> {
    let result = timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(no_answer()));
    result.map_err(|error| StoreError::from(error).into())
}

/// Whether what a connection commits outlives a power loss.
pub(in crate::store::sqlite) struct Durability {
    synchronous: i64,
    journal: String,
}

impl Durability {
    pub(in crate::store::sqlite) async fn of(
        connection: &mut SqliteConnection,
    ) -> Result<Self, sqlx::Error> {
        let synchronous =
            sqlx::query_scalar("pragma synchronous").fetch_one(&mut *connection).await?;
        let journal = sqlx::query_scalar("pragma journal_mode").fetch_one(connection).await?;
        Ok(Self { synchronous, journal })
    }

    pub(in crate::store::sqlite) fn is_enough(&self) -> bool {
        self.ensure_enough().is_ok()
    }

    fn ensure_enough(&self) -> Result<(), OutboxError> {
        if ["memory", "off"].contains(&&*self.journal) {
            return Err(without_a_journal(&self.journal));
        }
        if self.synchronous <= NORMAL { Err(not_durable(self.synchronous)) } else { Ok(()) }
    }
}

fn not_durable(synchronous: i64) -> OutboxError {
    let name = if synchronous == NORMAL { "normal" } else { "off" };
    OutboxError::config(format!(
        "this relay is to deliver exactly once, and its connections to SQLite have `pragma synchronous = {name}`: it did not \
         start, and all events are in the outbox. A power loss may take the last commits back then, after their events were \
         published. Have the pool connect with `synchronous = full` (`SqliteConnectOptions::synchronous`, which is the \
         default, and what its `after_connect` sets), or deliver at least once"
    ))
}

fn without_a_journal(journal: &str) -> OutboxError {
    OutboxError::config(format!(
        "this relay is to deliver exactly once, and its SQLite database has `pragma journal_mode = {journal}`: it did not \
         start. Nothing of such a database is certain after a crash, and one in memory is gone with its process. Use a file \
         with `pragma journal_mode = wal`, or deliver at least once"
    ))
}

fn has_gone_back() -> OutboxError {
    OutboxError::new(
        ErrorKind::Database,
        "the file of the database has gone back to an earlier state, as by a backup that was restored into it: the relay takes \
         its lanes over again. Stop relays and services before a file is replaced",
    )
}

fn not_ours() -> OutboxError {
    OutboxError::new(
        ErrorKind::LeaseLost,
        "another relay has claimed a group of lanes of this one, or the file was replaced by a copy: the relay takes its lanes \
         over again",
    )
}

/// Begins a transaction as the writer.
pub(in crate::store::sqlite) async fn writing(
    connection: &mut SqliteConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}
