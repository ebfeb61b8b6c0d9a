//! Errors of the outbox's own statements.

use std::fmt;

use super::fault::Fault;
use crate::error::{ErrorKind, OutboxError};

/// The error of a statement of the outbox's own. A column that such a statement names and the
/// tables lack means that the tables are of another version; in a statement of the user's it means
/// nothing of the kind.
#[derive(Debug)]
pub struct StoreError(OutboxError);

/// The error of a statement that took too long.
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite", feature = "mysql")), allow(dead_code))]
pub(super) fn no_answer() -> OutboxError {
    OutboxError::new(ErrorKind::Database, "the database does not answer")
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        OutboxError::from(error).into()
    }
}

impl From<OutboxError> for StoreError {
    fn from(error: OutboxError) -> Self {
        match error.fault() {
            Fault::MissingColumn if error.kind() == ErrorKind::Database => {
                Self(OutboxError::other_version(error))
            }
            _ => Self(error),
        }
    }
}

// Not for users: they cannot have one.
#[diagnostic::do_not_recommend]
impl From<StoreError> for OutboxError {
    fn from(error: StoreError) -> Self {
        error.0
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
