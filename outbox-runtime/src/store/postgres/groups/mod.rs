//! Groups of lanes in Postgres: claims, witnesses, and the parked events of exactly-once delivery.
//!
//! A group has a session of its own, opened before any of the windows that it witnesses. Every
//! transaction on it waits for the disk, and names the claim.

mod claim;
mod hand_back;
mod parked;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres};
use uuid::Uuid;

pub(super) use claim::create;

use super::connection::{self, CONNECT_TIMEOUT, STATEMENT_TIMEOUT};
use super::lanes::{PgCursor, in_time};
use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;
use crate::store::groups::claims::session_was_lost;
use crate::store::groups::{
    Claimer, GroupClaim, GroupStore, Groups, HandedBack, ParkedOfGroup, Row,
};
use crate::store::lanes::Lease;
use crate::store::names::Names;
use crate::store::parked::{Parking, RetryResult};
use crate::store::sealed::Schema as _;

/// Claims groups for the relay `owner`.
#[derive(Debug, Clone)]
pub struct PgClaimer {
    pub(super) pool: PgPool,
    pub(super) names: Arc<Names>,
    pub(super) owner: Uuid,
    pub(super) groups: Groups,
}

/// A group that is claimed, and its session.
#[derive(Debug)]
pub struct PgGroup {
    /// `None` during a call, and after one that failed.
    connection: Option<PgConnection>,
    names: Arc<Names>,
    owner: Uuid,
    group: i16,
    claim: Uuid,
}

impl Claimer for PgClaimer {
    type Cursor = PgCursor;
    type Group = PgGroup;

    async fn claim(
        &self,
        group: u16,
        leases: Vec<Lease>,
    ) -> Result<Option<(PgGroup, GroupClaim<PgCursor>)>, OutboxError> {
        let names = in_time(CONNECT_TIMEOUT, Postgres::located(&self.pool, &self.names)).await?;
        let mut connection = in_time(CONNECT_TIMEOUT, session(&self.pool)).await?;
        let mut group = PgGroup {
            connection: None,
            names,
            owner: self.owner,
            group: i16::try_from(group).unwrap_or(i16::MAX),
            claim: Uuid::now_v7(),
        };
        let claim = claim::claim(&mut connection, &group, self.groups, &leases);
        let Some(found) = in_time(STATEMENT_TIMEOUT, claim).await? else { return Ok(None) };
        group.connection = Some(connection);
        Ok(Some((group, found)))
    }
}

/// A connection whose commits all wait for the disk, and for a synchronous standby if there is one.
async fn session(pool: &PgPool) -> Result<PgConnection, OutboxError> {
    let mut connection = connection::connect(pool).await?;
    connection::set_up(&mut connection).await?;
    connection.execute("set synchronous_commit = on").await?;
    Ok(connection)
}

/// Ids that a window has seen were not drawn yet where the witness was written.
fn of_another_server() -> OutboxError {
    OutboxError::new(
        ErrorKind::Database,
        "the sessions of the relay reach different servers, as in a failover: it takes its lanes over again, and nothing is \
         lost",
    )
}

impl PgGroup {
    fn take(&mut self) -> Result<PgConnection, OutboxError> {
        self.connection.take().ok_or_else(session_was_lost)
    }
}

impl GroupStore for PgGroup {
    type Cursor = PgCursor;

    async fn confirm(&mut self) -> Result<bool, OutboxError> {
        self.witness(1).await
    }

    async fn adopted(&mut self, settled: &[i64]) -> Result<Option<u64>, OutboxError> {
        let mut connection = self.take()?;
        let call = claim::adopted(&mut connection, self, settled);
        let ours = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(ours)
    }

    async fn hand_back(&mut self, groups: &[HandedBack<PgCursor>]) -> Result<bool, OutboxError> {
        let mut connection = self.take()?;
        let call = hand_back::hand_back(&mut connection, self, groups);
        let done = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(done)
    }

    async fn parked(&mut self, lanes: &[(Lane, PgCursor)]) -> Result<ParkedOfGroup, OutboxError> {
        let mut connection = self.take()?;
        let call = parked::of_lanes(&mut connection, &self.names, lanes);
        let parked = in_time(STATEMENT_TIMEOUT, call).await?;
        self.connection = Some(connection);
        Ok(parked)
    }

    async fn witness(&mut self, need: u64) -> Result<bool, OutboxError> {
        let mut connection = self.take()?;
        let witness = in_time(STATEMENT_TIMEOUT, record::witness(&mut connection, self)).await?;
        if witness.is_some_and(|witness| witness < need) {
            return Err(of_another_server());
        }
        self.connection = Some(connection);
        Ok(witness.is_some())
    }

    /// A connection that refused a statement and then ended its transaction is still usable.
    async fn park(&mut self, parked: &[Parking]) -> Result<Option<(u64, Vec<Row>)>, OutboxError> {
        let mut connection = self.take()?;
        let call = async {
            let tx =
                connection.begin_with("begin isolation level read committed read write").await?;
            parked::park(tx, self, parked).await
        };
        let result = in_time(STATEMENT_TIMEOUT, call).await;
        match result {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => {}
        }
        self.connection = Some(connection);
        result
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<(u64, bool)>, OutboxError> {
        let mut connection = self.take()?;
        let call = async {
            let tx =
                connection.begin_with("begin isolation level read committed read write").await?;
            parked::save_retry(tx, self, lease, result).await
        };
        let saved = in_time(STATEMENT_TIMEOUT, call).await;
        match saved {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => {}
        }
        self.connection = Some(connection);
        saved
    }
}
