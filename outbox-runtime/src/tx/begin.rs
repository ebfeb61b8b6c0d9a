//! How a transaction begins.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool, SqlStr};
use sqlx_core::transaction::TransactionManager;

use super::{OutboxTx, TxOptions};
use crate::error::OutboxError;
use crate::outbox::{DEFAULT_MAX_EVENT_BYTES, Outbox};
use crate::store::{Names, OutboxDatabase};

/// What `#[transactional_outbox(tx in …)]` can begin a transaction on:
///
/// - an [`Outbox`], or whatever else is [`BeginTransaction`];
/// - a `&mut OutboxTx`: the body then runs in a savepoint of it.
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

/// What a transaction of its own can begin on:
///
/// - an [`Outbox`];
/// - a pool: the tables are `outbox_…`, and a relay finds the events at its next poll, since a pool
///   has no doorbell;
/// - a reference, a `Box` or an `Arc` of one of these;
/// - a type of your own, such as the state of an application, that passes the call on to its
///   `Outbox`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot begin an outbox transaction",
    label = "`#[transactional_outbox(tx in …)]` cannot begin a transaction on this",
    note = "after `in`, name an `Outbox`, a sqlx pool, or a reference to one of them"
)]
pub trait BeginTransaction: Sync {
    /// The database.
    type Database: OutboxDatabase;

    /// Begins a transaction: [`Outbox::begin_with`].
    fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> impl Future<Output = Result<OutboxTx<'static, Self::Database>, OutboxError>> + Send;
}

#[diagnostic::do_not_recommend]
impl<T: BeginTransaction + ?Sized> BeginOutbox for &T {
    type Transaction = OutboxTx<'static, T::Database>;

    async fn begin_outbox(self) -> Result<OutboxTx<'static, T::Database>, OutboxError> {
        self.begin_transaction(TxOptions::new()).await
    }
}

impl<'c, DB: OutboxDatabase> BeginOutbox for &'c mut OutboxTx<'_, DB> {
    type Transaction = OutboxTx<'c, DB>;

    async fn begin_outbox(self) -> Result<OutboxTx<'c, DB>, OutboxError> {
        self.savepoint().await
    }
}

impl<DB: OutboxDatabase> BeginTransaction for Outbox<DB> {
    type Database = DB;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.begin_with(options).await
    }
}

impl<DB: OutboxDatabase> BeginTransaction for Pool<DB> {
    type Database = DB;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        let outbox = Outbox::from_parts(
            self.clone(),
            Names::default(),
            DEFAULT_MAX_EVENT_BYTES,
            None,
            false,
        );
        outbox.begin_with(options).await
    }
}

macro_rules! begin_transaction_through {
    ($([$($generics:tt)*] $holder:ty;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($generics)*> BeginTransaction for $holder {
            type Database = T::Database;

            async fn begin_transaction(
                &self,
                options: TxOptions,
            ) -> Result<OutboxTx<'static, T::Database>, OutboxError> {
                (**self).begin_transaction(options).await
            }
        }
    )*};
}
begin_transaction_through! {
    [T: BeginTransaction + ?Sized] &T;
    [T: BeginTransaction + ?Sized] &mut T;
    [T: BeginTransaction + ?Sized] Box<T>;
    [T: BeginTransaction + Send + ?Sized] Arc<T>;
}

/// Takes a connection and begins, such that a future dropped at any point leaves no connection in
/// the pool that has a transaction open.
///
/// sqlx 0.9.0 counts a Postgres transaction only after the answer to `BEGIN`: dropped before it,
/// the connection goes back to the pool with the transaction open (launchbadge/sqlx #4385). So
/// until `BEGIN` is answered, dropping the connection closes it. A connection that refuses to begin
/// is closed as well: it may be to a server that is a standby now, and the pool's next one is to
/// the new primary.
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
}

impl<DB: Database> Begun<DB> {
    /// As [`begin_on_pool`].
    pub(crate) async fn on(
        pool: &Pool<DB>,
        statement: Option<SqlStr>,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: begin_on_pool(pool, statement).await?, open: true })
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
