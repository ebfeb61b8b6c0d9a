//! Errors of a transaction that was ended before its commit.

use crate::error::{ErrorKind, OutboxError};

const ENDED: &str = "the transaction was rolled back before its commit: the database gave it up for a concurrent one (a deadlock), a \
                     statement or a savepoint of it was given up in the middle, or a statement or a nested transaction that is \
                     not ours ended it. Nothing of it is kept, and none of its events; begin again";

pub(super) fn ended() -> OutboxError {
    OutboxError::new(ErrorKind::Database, ENDED)
}

/// The error for a statement that comes after that.
pub(super) fn ended_before_statement() -> sqlx::Error {
    sqlx::Error::InvalidArgument(format!("this statement was not run: {ENDED}"))
}
