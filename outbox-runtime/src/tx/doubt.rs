//! Whether a transaction still stands, so that a commit has to ask only where it is in doubt.

use crate::error::{ErrorKind, OutboxError};

/// What is known of a transaction by the answers to its statements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// The last thing known is not the success of a statement.
    pub(crate) now: bool,
    /// A statement failed, or may have failed unseen, at any time.
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

    /// The connection is handed out: what is done on it is not seen.
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

/// For a statement that comes after that.
pub(super) fn ended_before_statement() -> sqlx::Error {
    sqlx::Error::InvalidArgument(format!("this statement was not run: {ENDED}"))
}
