//! How a transaction begins.

use std::future::Future;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Pool, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;

use super::OutboxTx;
use crate::error::OutboxError;
use crate::outbox::{DEFAULT_MAX_EVENT_BYTES, Outbox};
use crate::store::{Names, OutboxDatabase};

/// What `#[transactional_outbox(tx in …)]` can begin a transaction on:
///
/// - an [`Outbox`], or a reference to one;
/// - a `&mut OutboxTx`: the body then runs in a savepoint of it;
/// - a pool: the tables are `outbox_…`, and a relay finds the events at its next poll, since a pool has no doorbell.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot begin an outbox transaction",
    label = "`#[transactional_outbox(tx in …)]` cannot begin a transaction on this",
    note = "after `in`, name an `Outbox`, a sqlx pool, a reference to one of them, or an outer `&mut OutboxTx`"
)]
pub trait BeginOutbox {
    /// The transaction: an [`OutboxTx`].
    type Transaction;

    /// Begins a transaction, or a savepoint in one.
    fn begin_outbox(self) -> impl Future<Output = Result<Self::Transaction, OutboxError>> + Send;
}

impl<DB: OutboxDatabase> BeginOutbox for &Outbox<DB> {
    type Transaction = OutboxTx<'static, DB>;

    async fn begin_outbox(self) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.begin().await
    }
}

impl<DB: OutboxDatabase> BeginOutbox for &Pool<DB> {
    type Transaction = OutboxTx<'static, DB>;

    async fn begin_outbox(self) -> Result<OutboxTx<'static, DB>, OutboxError> {
        Outbox::from_parts(self.clone(), Names::default(), DEFAULT_MAX_EVENT_BYTES, None, false).begin().await
    }
}

impl<'c, DB: OutboxDatabase> BeginOutbox for &'c mut OutboxTx<'_, DB> {
    type Transaction = OutboxTx<'c, DB>;

    async fn begin_outbox(self) -> Result<OutboxTx<'c, DB>, OutboxError> {
        self.savepoint().await
    }
}

/// The same through a reference or an `Arc` that a service holds.
macro_rules! begin_outbox_through {
    ($($holder:ty),*) => {$(
        impl<DB: OutboxDatabase> BeginOutbox for $holder {
            type Transaction = OutboxTx<'static, DB>;

            async fn begin_outbox(self) -> Result<OutboxTx<'static, DB>, OutboxError> {
                (&**self).begin_outbox().await
            }
        }
    )*};
}
begin_outbox_through!(&&Outbox<DB>, &Arc<Outbox<DB>>, &&Pool<DB>);

/// Takes a connection and begins, such that a future dropped at any point leaves no connection in the pool that has
/// a transaction open.
///
/// sqlx 0.9.0 counts a Postgres transaction only after the answer to `BEGIN`: dropped before it, the connection goes
/// back to the pool with the transaction open (launchbadge/sqlx #4385). So until `BEGIN` is answered, dropping the
/// connection closes it.
pub(crate) async fn begin_transaction<DB: OutboxDatabase>(
    pool: &Pool<DB>,
) -> Result<PoolConnection<DB>, OutboxError> {
    let mut connection = pool.acquire().await?;
    let mut guard = CloseUnlessBegun { connection: &mut connection, begun: false };
    DB::TransactionManager::begin(guard.connection, DB::BEGIN.map(SqlSafeStr::into_sql_str)).await?;
    guard.begun = true;
    drop(guard);
    Ok(connection)
}

struct CloseUnlessBegun<'a, DB: OutboxDatabase> {
    connection: &'a mut PoolConnection<DB>,
    begun: bool,
}

impl<DB: OutboxDatabase> Drop for CloseUnlessBegun<'_, DB> {
    fn drop(&mut self) {
        if !self.begun {
            self.connection.close_on_drop();
        }
    }
}
