//! Whether a transaction is still open and not aborted, so that a commit has to ask only if that is
//! in doubt.

use crate::error::{ErrorKind, OutboxError};

/// What the answers to its statements say about a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Whether the last known answer is not the success of a statement.
    pub(crate) now: bool,
    /// Whether a statement ever failed, or may have failed unseen.
    pub(crate) ever: bool,
}

impl Doubt {
    pub(super) fn statement_began(&mut self) {
        self.now = true;
    }

    pub(super) fn statement_succeeded(&mut self) {
        self.now = false;
    }

    pub(super) fn statement_refused(&mut self) {
        *self = Self { now: true, ever: true };
    }

    /// The connection is handed out, and what happens on it is not seen.
    pub(super) fn out_of_sight(&mut self) {
        self.statement_refused();
    }
}

const ENDED: &str = "the transaction was rolled back before its commit: a savepoint of it could not begin or was given up \
                     as it began, or it was ended by a statement or a nested transaction that is not ours. Nothing of it is \
                     kept, and none of its events; begin again";

pub(super) fn ended() -> OutboxError {
    OutboxError::new(ErrorKind::Database, ENDED)
}

/// The error for a statement that comes after that.
pub(super) fn ended_before_statement() -> sqlx::Error {
    sqlx::Error::InvalidArgument(format!("this statement was not run: {ENDED}"))
}
