//! How a transaction begins.

use std::future::Future;
use std::sync::Arc;

use sqlx::Pool;
use sqlx_core::transaction::TransactionManager;

use super::{Enclosing, Link, OutboxTx};
use crate::error::OutboxError;
use crate::outbox::core::{Core, DEFAULT_MAX_EVENT_BYTES};
use crate::store::OutboxDatabase;
use crate::store::begun::begin_on_pool;
use crate::store::doubt::Doubt;
use crate::store::names::Names;
use crate::store::tx_options::TxOptions;
use crate::trace::Tracing;

impl<DB: OutboxDatabase> OutboxTx<'static, DB> {
    /// A transaction of its own, on a connection of the outbox's pool.
    pub(crate) async fn begin(
        core: Arc<Core<DB>>,
        options: TxOptions,
    ) -> Result<Self, OutboxError> {
        let connection = begin_on_pool(&core.pool, DB::begin_statement(options)).await?;
        let mut tx = OutboxTx::new(Link::Pool(connection), Enclosing::Nothing, core);
        tx.watch_conflicts(options.watch);
        tx.close_if_dropped(DB::CAN_GO_SILENT && options.limit.is_some());
        Ok(tx)
    }
}

impl<'c, DB: OutboxDatabase> OutboxTx<'c, DB> {
    /// A savepoint of a transaction that sqlx has open.
    pub(crate) async fn attach(
        core: Arc<Core<DB>>,
        transaction: &'c mut sqlx::Transaction<'_, DB>,
    ) -> Result<Self, OutboxError> {
        let connection: &'c mut DB::Connection = &mut *transaction;
        // In SQLite, a savepoint outside of a transaction is itself a transaction, and would commit
        // the events alone.
        if DB::asks_before_commit(Doubt::of_what_is_not_seen(), true) {
            DB::ensure_not_aborted(connection).await?;
        }
        DB::TransactionManager::begin(connection, None).await?;
        DB::joined(connection).await?;
        Ok(OutboxTx::new(Link::Borrowed(connection), Enclosing::SqlxTransaction, core))
    }
}

/// What `#[transactional_outbox(tx in …)]` can begin a transaction on:
///
/// - an [`Outbox`](crate::Outbox), or another type that is [`BeginTransaction`];
/// - a `&mut OutboxTx`: the body then runs in a savepoint of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot begin an outbox transaction",
    label = "`#[transactional_outbox(tx in …)]` cannot begin a transaction on this",
    note = "after `in`, name an `Outbox`, a sqlx pool, a reference to one of them, or an outer `&mut OutboxTx`",
    note = "an outer `OutboxTx` in a field is named `tx in &mut *self.tx`, in a method that takes `&mut self`"
)]
pub trait BeginOutbox {
    /// The transaction: an [`OutboxTx`].
    type Transaction;

    /// Begins a transaction, or a savepoint in one.
    fn begin_outbox(self) -> impl Future<Output = Result<Self::Transaction, OutboxError>> + Send;
}

/// What a transaction can begin on:
///
/// - an [`Outbox`](crate::Outbox);
/// - a pool: the tables are `outbox_…`, and a relay finds the events at its next poll, since a pool
///   has no doorbell;
/// - a reference, a `Box` or an `Arc` of one of these;
/// - a type of your own, such as the state of an application, that passes the call on to its
///   `Outbox`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot begin an outbox transaction",
    label = "`#[transactional_outbox(tx in …)]` cannot begin a transaction on this",
    note = "after `in`, name an `Outbox`, a sqlx pool, a reference to one of them, or an outer `OutboxTx`: that begins a savepoint, which takes no options"
)]
pub trait BeginTransaction: Sync {
    /// The database.
    type Database: OutboxDatabase;

    /// Begins a transaction: [`Outbox::begin_with`](crate::Outbox::begin_with).
    fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> impl Future<Output = Result<OutboxTx<'static, Self::Database>, OutboxError>> + Send;
}

/// All that a transaction can begin on. Where it may also be an [`OutboxTx`],
/// `#[transactional_outbox]` calls the method here or the one there: a method call borrows each as
/// it needs.
pub trait Lend {
    /// The same.
    #[doc(hidden)]
    fn __outbox_lend(&self) -> &Self;
}

#[diagnostic::do_not_recommend]
impl<T: BeginTransaction + ?Sized> Lend for T {
    fn __outbox_lend(&self) -> &Self {
        self
    }
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

impl<DB: OutboxDatabase> BeginTransaction for Pool<DB> {
    type Database = DB;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        let tracing = Tracing::default();
        let core =
            Core::new(self.clone(), Names::default(), DEFAULT_MAX_EVENT_BYTES, tracing, false);
        OutboxTx::begin(Arc::new(core), options).await
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
