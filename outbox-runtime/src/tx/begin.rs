//! How a transaction begins.

use std::future::Future;
use std::sync::Arc;

use sqlx::Pool;

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
