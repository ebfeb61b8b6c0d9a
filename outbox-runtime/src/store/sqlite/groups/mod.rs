//! Groups of lanes in SQLite: claims, witnesses, and the parked events of exactly-once delivery.
//!
//! All groups of a relay share its one connection (see `lanes/session.rs`), on which every commit
//! waits for the disk. Every transaction here names the claim.

mod claim;
mod hand_back;
mod parked;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlx::{Connection, Sqlite};
use uuid::Uuid;

pub(super) use claim::{create, refuse};

use super::lanes::SqliteCursor;
use super::lanes::session::{Session, in_time, writing};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::Lane;
use crate::store::groups::{Claimer, GroupClaim, GroupStore, HandedBack, ParkedOfGroup, Row};
use crate::store::lanes::Lease;
use crate::store::names::Names;
use crate::store::parked::{Parking, RetryResult};

type Transaction<'c> = sqlx::Transaction<'c, Sqlite>;

/// Claims groups for the relay `owner`.
#[derive(Debug, Clone)]
pub struct SqliteClaimer {
    pub(super) session: Session,
    pub(super) names: Arc<Names>,
    pub(super) owner: Uuid,
}

/// A group that is claimed.
#[derive(Debug)]
pub struct SqliteGroup {
    session: Session,
    /// Number of the connection over which it was claimed.
    number: u64,
    names: Arc<Names>,
    owner: Uuid,
    group: u16,
    claim: Uuid,
}

impl Claimer for SqliteClaimer {
    type Cursor = SqliteCursor;
    type Group = SqliteGroup;

    async fn claim(
        &self,
        group: u16,
        leases: Vec<Lease>,
    ) -> Result<Option<(SqliteGroup, GroupClaim<SqliteCursor>)>, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take()?;
        let group = SqliteGroup {
            session: self.session.clone(),
            number: state.number(),
            names: Arc::clone(&self.names),
            owner: self.owner,
            group,
            claim: Uuid::now_v7(),
        };
        let found = in_time(claim::claim(&mut connection, &group, &leases)).await?;
        if found.is_some() {
            state.claimed(group.group, group.claim);
        }
        state.put_back(connection);
        drop(state);
        Ok(found.map(|found| (group, found)))
    }
}

impl GroupStore for SqliteGroup {
    type Cursor = SqliteCursor;

    async fn confirm(&mut self) -> Result<bool, OutboxError> {
        self.witness(1).await
    }

    async fn adopted(&mut self, settled: &[i64]) -> Result<Option<u64>, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            let witness = claim::adopted(&mut tx, &state, self, settled).await?;
            ended(tx, witness).await
        };
        let witness = in_time(call).await?;
        state.put_back(connection);
        witness.iter().for_each(|witness| state.witnessed(self.group, *witness));
        Ok(witness)
    }

    async fn hand_back(
        &mut self,
        groups: &[HandedBack<SqliteCursor>],
    ) -> Result<bool, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            let done = hand_back::hand_back(&mut tx, &state, &self.names, groups).await?;
            Ok(ended(tx, done.then_some(())).await?.is_some())
        };
        let done = in_time(call).await?;
        state.put_back(connection);
        if done {
            groups.iter().for_each(|group| state.given_up(group.group));
        }
        Ok(done)
    }

    async fn parked(
        &mut self,
        lanes: &[(Lane, SqliteCursor)],
    ) -> Result<ParkedOfGroup, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = connection.begin().await?;
            state.ensure_same_file(&mut tx, &self.names).await?;
            let parked = parked::of_lanes(&mut tx, &self.names, lanes).await?;
            tx.rollback().await?;
            Ok(parked)
        };
        let parked = in_time(call).await?;
        state.put_back(connection);
        Ok(parked)
    }

    async fn witness(&mut self, need: u64) -> Result<bool, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            let witness = record::witness(&mut tx, &state, self, need).await?;
            ended(tx, witness).await
        };
        let witness = in_time(call).await?;
        state.put_back(connection);
        witness.iter().for_each(|witness| state.witnessed(self.group, *witness));
        Ok(witness.is_some())
    }

    /// A connection that refused a statement and then ended its transaction is still usable.
    async fn park(&mut self, parked: &[Parking]) -> Result<Option<(u64, Vec<Row>)>, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            let witness = parked::park(&mut tx, &state, self, parked).await?;
            ended(tx, witness).await
        };
        let result = in_time(call).await;
        match result {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => state.put_back(connection),
        }
        let Some(witness) = result? else { return Ok(None) };
        failpoint("after-group-parking");
        state.witnessed(self.group, witness);
        let rows = parked.iter().map(|parking| Row { seq: parking.event.seq, xid: 0 });
        Ok(Some((witness, rows.collect())))
    }

    async fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> Result<Option<(u64, bool)>, OutboxError> {
        let mut state = self.session.lock().await;
        let mut connection = state.take_of(self.number)?;
        let call = async {
            let mut tx = writing(&mut connection).await?;
            let saved = parked::save_retry(&mut tx, &state, self, lease, result).await?;
            ended(tx, saved).await
        };
        let saved = in_time(call).await;
        match saved {
            Err(error) if !error.is_of_one_statement() => return Err(error),
            _ => state.put_back(connection),
        }
        let saved = saved?;
        saved.iter().for_each(|(witness, _)| state.witnessed(self.group, *witness));
        Ok(saved)
    }
}

/// Commits a transaction whose claim is ours.
async fn ended<T>(tx: Transaction<'_>, ours: Option<T>) -> Result<Option<T>, OutboxError> {
    match ours {
        Some(_) => tx.commit().await?,
        None => tx.rollback().await?,
    }
    Ok(ours)
}
