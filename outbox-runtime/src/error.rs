//! The one error type of the crate.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::codec::CodecError;
use crate::user_code::causes;

/// What went wrong, what it means for your events, and what to do next: all three are in its message.
///
/// Give your own error type a `From<OutboxError>`, and `?` and `#[transactional_outbox]` do the rest:
///
/// ```
/// # use outbox_runtime::OutboxError;
/// enum OrderError {
///     OutOfStock,
///     Outbox(OutboxError),
/// }
///
/// impl From<OutboxError> for OrderError {
///     fn from(error: OutboxError) -> Self {
///         Self::Outbox(error)
///     }
/// }
/// ```
pub struct OutboxError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kinds of [`OutboxError`], for programs to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database refused or could not be reached. The transaction was rolled back, with its events.
    Database,
    /// The database refused because another transaction was in the way: a serialization failure or a deadlock in
    /// Postgres, a lock held too long in SQLite. The transaction was rolled back, with its events; run again from its
    /// beginning, it may well succeed. `retry = N` of `#[transactional_outbox]` does that.
    Conflict,
    /// `COMMIT` itself failed or its answer was lost: the transaction may or may not have been committed,
    /// its data and its events alike.
    CommitUnknown,
    /// The outbox's tables are not there, or are of an older version.
    NotMigrated,
    /// The event could not be serialized. It was not emitted.
    Serialize,
    /// A payload could not be read back as the event it should be.
    Deserialize,
    /// The event has a topic, name, version, id, time or header that Kafka or a database cannot take. It was not emitted.
    InvalidEvent,
    /// The event is larger than the limit. It was not emitted.
    EventTooLarge,
    /// A setting is wrong: nothing was started.
    Config,
    /// Kafka refused, or could not be reached. The events stay in the outbox.
    Kafka,
    /// Another relay has taken over the lanes. It publishes the events that this one did not.
    LeaseLost,
    /// A consumer's handler failed.
    Handler,
}

impl OutboxError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn serialize(event: &str, source: CodecError) -> Self {
        Self::new(
            ErrorKind::Serialize,
            format!(
                "event `{event}` could not be serialized, and was not emitted; return the error to roll back"
            ),
        )
        .with_source(source)
    }

    /// Of `migrate`: what the database said, in the words of what was to be done.
    pub(crate) fn migration(error: Self) -> Self {
        let error = match error.into_database_error() {
            Ok(error) => error,
            Err(error) => return error,
        };
        let denied = matches!(code(&error).as_deref(), Some("42501"));
        let message = if denied {
            "the outbox's tables could not be looked at or created by this role; nothing was changed. Migrate once as their \
             owner, by `outbox.migrate()` or what `Outbox::migration_sql()` prints; a role that only uses them needs \
             `select` on the table `…migration` to see that they are there"
        } else {
            "the outbox's tables could not be looked at or created; nothing was changed"
        };
        Self::new(ErrorKind::Database, message).with_source(error)
    }

    fn into_database_error(mut self) -> Result<sqlx::Error, Self> {
        match self.0.source.take().map(|source| source.downcast()) {
            Some(Ok(error)) => Ok(*error),
            Some(Err(source)) => Err(self.with_source(source)),
            None => Err(self),
        }
    }

    /// The kind, for programs to decide by.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error of sqlx, when the database is where it went wrong.
    #[must_use]
    pub fn as_database_error(&self) -> Option<&sqlx::Error> {
        self.0.source.as_deref().and_then(|source| source.downcast_ref())
    }
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // Logs often print only the outermost message; what the database or Kafka said belongs in it.
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// The message as well: it is what a `main` that returns the error, and an `unwrap` in a test, print.
impl fmt::Debug for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl Error for OutboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The source's own words are in `Display` already: a reporter goes on with what is behind it.
        self.0.source.as_deref().and_then(Error::source)
    }
}

/// An error of the database outside of `COMMIT`, in the words of the outbox.
impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        let (kind, message) = match &error {
            sqlx::Error::PoolTimedOut => (
                ErrorKind::Database,
                "no database connection became free in time (sqlx's `acquire_timeout`); nothing was written. \
                 Is the database up, and is the pool larger than the work that holds its connections?",
            ),
            sqlx::Error::Database(cause) if is_missing_table(&**cause) => (
                ErrorKind::NotMigrated,
                "a table is missing; nothing was written. If it is one of the outbox's, create them with \
                 `outbox.migrate().await` (or run what `Outbox::migration_sql()` prints), with the same \
                 schema and prefix as here",
            ),
            _ if is_conflict(&error) => (
                ErrorKind::Conflict,
                "another transaction was in the way, and the database refused this one; it is rolled back with its \
                 events. Run all of it again, as `retry = N` of `#[transactional_outbox]` does",
            ),
            _ => {
                (ErrorKind::Database, "the database refused; the transaction is rolled back with its events")
            }
        };
        Self::new(kind, message).with_source(error)
    }
}

/// For methods that return `std::io::Result`.
impl From<OutboxError> for std::io::Error {
    fn from(error: OutboxError) -> Self {
        Self::other(error)
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(|error| error.code())
}

/// `42P01` is Postgres's `undefined_table`; `3F000` its `invalid_schema_name`. SQLite has only words.
fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("42P01" | "3F000")) || error.message().starts_with("no such table")
}

/// Whether the database refused for another transaction's sake. `40001` and `40P01` are Postgres's
/// `serialization_failure` and `deadlock_detected`; the numbers are SQLite's `SQLITE_BUSY` and `SQLITE_LOCKED` with
/// their extended codes.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(is_conflict_of_database)
}

pub(crate) fn is_conflict_of_database(error: &dyn sqlx::error::DatabaseError) -> bool {
    matches!(
        error.code().as_deref(),
        Some("40001" | "40P01" | "5" | "261" | "517" | "773" | "6" | "262" | "518")
    )
}

/// Whether such a refusal is what led to `error`.
pub(crate) fn is_caused_by_conflict(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        if let Some(error) = error.downcast_ref::<OutboxError>() {
            error.kind() == ErrorKind::Conflict
        } else if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            is_conflict(error)
        } else {
            // What a variant `#[error(transparent)] Database(sqlx::Error)` shows as its source.
            error
                .downcast_ref::<Box<dyn sqlx::error::DatabaseError>>()
                .is_some_and(|error| is_conflict_of_database(&**error))
        }
    })
}
