//! The functions that expansions of `#[transactional_outbox]` call. The macro is sugar for
//! [`Outbox::begin`](crate::Outbox::begin), `emit` and `commit`.

mod retry;

pub use retry::{Attempts, RetryArgument, cause};

use crate::error::OutboxError;
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;

/// A return type that a transactional method can have: `Result<T, E>` with `E: From<OutboxError>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a `#[transactional_outbox]` function",
    label = "this must be a `Result<_, E>` with `E: From<outbox::OutboxError>`",
    note = "`Ok` commits and `Err` rolls back; when the database itself fails, the error is made from an `OutboxError`: write `impl From<outbox::OutboxError> for …` for your error type, or add a variant `#[from] OutboxError` with thiserror"
)]
pub trait Outcome: Sized {
    /// What the end of the transaction needs to know about the type.
    const VTABLE: Vtable<Self>;
}

#[diagnostic::do_not_recommend]
impl<T, E: From<OutboxError>> Outcome for Result<T, E> {
    const VTABLE: Vtable<Self> =
        Vtable { error: |error| Err(E::from(error)), is_ok: Result::is_ok };
}

/// The operations of an [`Outcome`], as values: they fix the return type of the body before it is
/// checked.
#[derive(Debug)]
pub struct Vtable<R> {
    error: fn(OutboxError) -> R,
    is_ok: fn(&R) -> bool,
}

impl<R> Clone for Vtable<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Vtable<R> {}

impl<R> Vtable<R> {
    /// `None` of the type, from which the compiler can infer.
    #[must_use]
    pub const fn never(self) -> Option<R> {
        None
    }

    /// The outcome with this error.
    pub fn error(self, error: OutboxError) -> R {
        (self.error)(error)
    }
}

/// Returns the body itself. The compiler learns from it the type of the closure's `tx`.
pub fn body<T, R, F: AsyncFnOnce(&mut T) -> R>(_: &T, _: Vtable<R>, body: F) -> F {
    body
}

/// `Ok` commits, with the events; `Err` rolls back, without them.
pub async fn finish<DB: OutboxDatabase, R>(
    tx: OutboxTx<'_, DB>,
    outcome: R,
    vtable: Vtable<R>,
) -> R {
    if (vtable.is_ok)(&outcome) {
        match tx.commit().await {
            Ok(()) => outcome,
            Err(error) => vtable.error(error),
        }
    } else {
        roll_back(tx).await;
        outcome
    }
}

async fn roll_back<DB: OutboxDatabase>(tx: OutboxTx<'_, DB>) {
    if let Err(error) = tx.rollback().await {
        tracing::debug!(target: target::TX, %error, "rolled back by the database, not by us");
    }
}
