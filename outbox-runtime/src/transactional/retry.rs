//! `retry = N`: the body runs again when the database refused it because of a conflict with a
//! concurrent transaction.

use std::error::Error;
use std::time::Duration;

use super::{Vtable, roll_back};
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError, is_caused_by_conflict};
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::tx::{OutboxTx, TxOptions};

/// First pause: conflicts of short transactions are over within milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The attempts of one call.
#[derive(Debug)]
pub struct Attempts {
    name: &'static str,
    failed: u32,
    retries: u32,
    options: TxOptions,
    backoff: Backoff,
}

impl Attempts {
    /// One attempt, and up to `retries` more. `name` is the transaction's name in the log.
    #[must_use]
    pub const fn new(name: &'static str, retries: u32, mut options: TxOptions) -> Self {
        options.watch = true;
        Self {
            name,
            failed: 0,
            retries,
            options,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// How each attempt begins.
    #[must_use]
    pub const fn options(&self) -> TxOptions {
        self.options
    }

    /// The transaction of an attempt.
    ///
    /// # Errors
    /// If it could not begin. `None`: SQLite was busy, and there is another attempt.
    pub async fn begun<T>(
        &mut self,
        begun: Result<T, OutboxError>,
    ) -> Result<T, Option<OutboxError>> {
        match begun {
            Err(error) if error.kind() == ErrorKind::Conflict && self.again().await => Err(None),
            begun => begun.map_err(Some),
        }
    }

    /// Commits or rolls back, as [`finish`](super::finish) does. `None`: there was a conflict with
    /// a concurrent transaction, nothing of the attempt is left, and there is another attempt. A
    /// commit that may have happened is never repeated.
    pub async fn finish<DB: OutboxDatabase, R>(
        &mut self,
        tx: OutboxTx<'_, DB>,
        outcome: R,
        refused: bool,
        vtable: Vtable<R>,
    ) -> Option<R> {
        let refused = refused || tx.saw_conflict();
        if (vtable.is_ok)(&outcome) {
            match tx.commit().await {
                Ok(()) => Some(outcome),
                Err(error) if error.kind() == ErrorKind::Conflict && self.again().await => None,
                // The body continued after a refusal, and Postgres accepts no more statements after
                // one.
                Err(error)
                    if error.kind() == ErrorKind::Database && refused && self.again().await =>
                {
                    None
                }
                Err(error) => Some(vtable.error(error)),
            }
        } else {
            roll_back(tx).await;
            if refused && self.again().await { None } else { Some(outcome) }
        }
    }

    /// Whether there is one more attempt, after a pause.
    async fn again(&mut self) -> bool {
        self.failed += 1;
        let Self { name, failed, retries, .. } = *self;
        if failed > retries {
            tracing::warn!(
                target: target::TX,
                transaction = name,
                attempts = failed,
                "another transaction was in the way each time: rolled back, with its events, and given up"
            );
            return false;
        }
        tracing::debug!(
            target: target::TX,
            transaction = name,
            attempt = failed,
            "another transaction was in the way: run again"
        );
        tokio::time::sleep(self.backoff.pause()).await;
        true
    }
}

/// An argument of a `#[transactional_outbox(…, retry = N)]` method: any `Clone` type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given to a body that `retry` may run again",
    label = "every attempt gets a clone of this argument",
    note = "make `{Self}` implement `Clone`, or take `&{Self}`"
)]
pub trait RetryArgument {
    /// The argument of one attempt.
    fn of_attempt(&self) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Clone> RetryArgument for T {
    fn of_attempt(&self) -> T {
        self.clone()
    }
}

/// Whether the error in an outcome was caused by a conflict with a concurrent transaction, by the
/// first of the traits in [`cause`] that the error's type allows (D. Tolnay's autoref
/// specialization).
#[doc(hidden)]
#[macro_export]
macro_rules! is_conflict {
    ($outcome:expr) => {{
        use $crate::__private::cause::*;
        (&&&Cause(&$outcome)).is_conflict()
    }};
}

/// How an error shows what caused it.
pub mod cause {
    use super::{Error, is_caused_by_conflict};

    /// The outcome.
    #[derive(Debug)]
    pub struct Cause<'a, R>(pub &'a R);

    /// As an error that has a `source()`.
    pub trait OfError {
        /// Whether there was a conflict with a concurrent transaction.
        fn is_conflict(&self) -> bool;
    }

    impl<T, E: Error + 'static> OfError for &&Cause<'_, Result<T, E>> {
        fn is_conflict(&self) -> bool {
            self.0.as_ref().is_err_and(|error| is_caused_by_conflict(error))
        }
    }

    /// As something that holds such an error: `anyhow::Error`, `eyre::Report`, `Box<dyn Error +
    /// Send + Sync>`.
    pub trait OfHolder {
        /// As in [`OfError`].
        fn is_conflict(&self) -> bool;
    }

    impl<T, E: AsRef<dyn Error + Send + Sync>> OfHolder for &Cause<'_, Result<T, E>> {
        fn is_conflict(&self) -> bool {
            self.0.as_ref().is_err_and(|error| is_caused_by_conflict(error.as_ref()))
        }
    }

    /// The error shows nothing: the answers to the queries on `tx` decide.
    pub trait OfAnything {
        /// As in [`OfError`].
        fn is_conflict(&self) -> bool;
    }

    impl<R> OfAnything for Cause<'_, R> {
        fn is_conflict(&self) -> bool {
            false
        }
    }
}
