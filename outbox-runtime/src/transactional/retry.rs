//! `retry = N`: the body runs again when the database refused it because of a conflict with a
//! concurrent transaction.

use std::time::Duration;

use super::outcome::{Held, Vtable};
use super::roll_back;
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
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
    /// Whether there was a conflict with a concurrent transaction in this attempt.
    refused: bool,
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
            refused: false,
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
            Err(error) if error.kind() == ErrorKind::Conflict && self.has_another() => {
                self.pause().await;
                Err(None)
            }
            begun => begun.map_err(Some),
        }
    }

    /// What the future can hold until the attempt's end. `None`: an error that it cannot hold, and
    /// there is another attempt. `conflict`: one led to the error.
    ///
    /// # Errors
    /// The outcome to return at once.
    pub fn hold<DB: OutboxDatabase, H, R>(
        &mut self,
        tx: &OutboxTx<'_, DB>,
        conflict: bool,
        held: Result<H, R>,
    ) -> Result<Option<H>, R> {
        self.refused = conflict || tx.saw_conflict();
        match held {
            Ok(held) => Ok(Some(held)),
            Err(_) if self.refused && self.has_another() => Ok(None),
            Err(outcome) => Err(outcome),
        }
    }

    /// Commits or rolls back, as [`finish`](super::finish) does. `None`: there was a conflict with
    /// a concurrent transaction, nothing of the attempt is left, and there is another attempt. A
    /// commit that may have happened is never repeated.
    pub async fn finish<DB: OutboxDatabase, R, H: Held<R>>(
        &mut self,
        tx: OutboxTx<'_, DB>,
        held: Option<H>,
        vtable: Vtable<R>,
    ) -> Option<R> {
        let again = match &held {
            Some(held) if held.is_ok() => match tx.commit().await {
                Ok(()) => false,
                Err(error) if self.is_worth_another(&error) && self.has_another() => true,
                Err(error) => return Some(vtable.error(error)),
            },
            Some(_) => {
                roll_back(tx).await;
                self.refused && self.has_another()
            }
            None => {
                roll_back(tx).await;
                true
            }
        };
        if again {
            self.pause().await;
            return None;
        }
        held.map(Held::into_outcome)
    }

    /// Whether the commit failed because of a conflict. If the body continued after a refusal, the
    /// commit is refused without one: Postgres accepts no more statements.
    fn is_worth_another(&self, failed: &OutboxError) -> bool {
        match failed.kind() {
            ErrorKind::Conflict => true,
            ErrorKind::Database => self.refused,
            _ => false,
        }
    }

    /// Whether there is one more attempt, after this one failed.
    fn has_another(&mut self) -> bool {
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
        true
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.pause()).await;
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
