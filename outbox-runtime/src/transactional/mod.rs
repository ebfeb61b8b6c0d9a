//! The functions that expansions of `#[transactional_outbox]` call. The macro is sugar for
//! [`Outbox::begin`](crate::Outbox::begin), `emit` and `commit`.

mod outcome;
mod retry;

pub use outcome::Outcome;
pub use retry::{Attempts, RetryArgument};

use self::outcome::{Held, Vtable};
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;

/// Returns the body itself. The compiler learns from it the type of the closure's `tx`.
pub fn body<T, R, F: AsyncFnOnce(&mut T) -> R>(_: &T, body: F) -> F {
    body
}

/// `Ok` commits, with the events; `Err` rolls back, without them.
pub async fn finish<DB: OutboxDatabase, R, H: Held<R>>(
    tx: OutboxTx<'_, DB>,
    held: H,
    vtable: Vtable<R>,
) -> R {
    if held.is_ok() {
        if let Err(error) = tx.commit().await {
            return vtable.error(error);
        }
    } else {
        roll_back(tx).await;
    }
    held.into_outcome()
}

async fn roll_back<DB: OutboxDatabase>(tx: OutboxTx<'_, DB>) {
    if let Err(error) = tx.rollback().await {
        tracing::debug!(target: target::TX, %error, "rolled back by the database, not by us");
    }
}
