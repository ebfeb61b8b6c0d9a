//! Transactions on a connection of a pool.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool, SqlStr};
use sqlx_core::transaction::TransactionManager;

/// Takes a connection and begins. A future that is dropped at any point leaves no connection with
/// an open transaction in the pool.
///
/// sqlx 0.9.0 counts a Postgres transaction only after the answer to `BEGIN`: dropped before that,
/// the connection goes back to the pool with the transaction open (launchbadge/sqlx #4385). So
/// until `BEGIN` is answered, dropping the connection closes it. A connection that refuses to begin
/// is closed as well: it may lead to a server that is a standby now, while the pool's next one
/// leads to the new primary.
pub(crate) async fn begin_on_pool<DB: Database>(
    pool: &Pool<DB>,
    statement: Option<SqlStr>,
) -> Result<PoolConnection<DB>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut guard = CloseUnlessBegun { connection: &mut connection, begun: false };
    DB::TransactionManager::begin(guard.connection, statement).await?;
    guard.begun = true;
    drop(guard);
    Ok(connection)
}

/// A transaction of ours on a connection of a pool. Dropped, it rolls back.
pub(crate) struct Begun<DB: Database> {
    connection: PoolConnection<DB>,
    open: bool,
    /// Whether dropping it before its end closes its connection.
    closes_if_dropped: bool,
}

impl<DB: Database> Begun<DB> {
    /// As [`begin_on_pool`].
    pub(crate) async fn on(
        pool: &Pool<DB>,
        statement: Option<SqlStr>,
    ) -> Result<Self, sqlx::Error> {
        let connection = begin_on_pool(pool, statement).await?;
        Ok(Self { connection, open: true, closes_if_dropped: false })
    }

    /// Dropped before its end, it closes its connection: one of its statements may have been given
    /// up in the middle of the answer.
    #[cfg_attr(not(feature = "mysql"), allow(dead_code))]
    pub(crate) fn closing_if_dropped(mut self) -> Self {
        self.closes_if_dropped = true;
        self
    }

    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::commit(&mut self).await?;
        self.open = false;
        Ok(())
    }

    #[cfg_attr(not(feature = "postgres"), allow(dead_code))] // SQLite's only write
    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::rollback(&mut self).await?;
        self.open = false;
        Ok(())
    }
}

impl<DB: Database> Deref for Begun<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Begun<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Begun<DB> {
    fn drop(&mut self) {
        if self.open {
            DB::TransactionManager::start_rollback(self);
            if self.closes_if_dropped {
                self.connection.close_on_drop();
            }
        }
    }
}

struct CloseUnlessBegun<'a, DB: Database> {
    connection: &'a mut PoolConnection<DB>,
    begun: bool,
}

impl<DB: Database> Drop for CloseUnlessBegun<'_, DB> {
    fn drop(&mut self) {
        if !self.begun {
            self.connection.close_on_drop();
        }
    }
}
