//! The one error type of the crate.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use outbox_event::CodecError;
use sqlx::error::DatabaseError;

use crate::store::databases::{fault_of, fault_of_database};
use crate::store::fault::Fault;
use crate::store::names::are_named_in;
use crate::store::tls;
use crate::user_code::causes;

/// What went wrong, what it means for your events, and what to do next. All three are in its
/// message.
///
/// Give your own error type a `From<OutboxError>`, and `?` and `#[transactional_outbox]` do the
/// rest:
///
/// ```
/// # use outbox::OutboxError;
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
    /// Whether the message has the source's words already.
    source_is_said: bool,
}

/// The kinds of [`OutboxError`], for decisions in programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database refused or could not be reached. The transaction was rolled back, with its
    /// events.
    Database,
    /// The database refused because of a conflict with a concurrent transaction: a serialization
    /// failure or a deadlock in Postgres, a lock held too long in SQLite. The transaction was
    /// rolled back, with its events; run again from its beginning, it may well succeed. `retry = N`
    /// of `#[transactional_outbox]` does that.
    Conflict,
    /// `COMMIT` itself failed or its answer was lost: the transaction may or may not have been
    /// committed, its data and its events alike.
    CommitUnknown,
    /// The outbox's tables are not there, or are of an older version.
    NotMigrated,
    /// The event could not be serialized. It was not emitted.
    Serialize,
    /// A payload could not be read back as the event it should be.
    Deserialize,
    /// The event has a topic, name, version, id, time or header that Kafka or a database cannot
    /// accept. It was not emitted.
    InvalidEvent,
    /// The event is larger than the limit. It was not emitted.
    EventTooLarge,
    /// A setting is wrong: nothing was started.
    Config,
    /// Kafka refused, or could not be reached. The events stay in the outbox.
    Kafka,
    /// Another relay has taken over the lanes. It publishes the events that this one did not.
    LeaseLost,
    /// The outbox's tables were to be removed or changed, and hold events that would be lost.
    /// Nothing was changed.
    EventsWait,
    /// An operator has paused what was to be published. The events stay in the outbox.
    Paused,
    /// A consumer's handler failed.
    Handler,
    /// An event that is parked only behind another one was to be discarded. It is still parked.
    NotAtFault,
}

impl OutboxError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None, source_is_said: false }))
    }

    /// What it was made of, whose own words are part of its message.
    #[cfg(feature = "kafka")]
    pub(crate) fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
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

    /// An error of `migrate`: the database's message, and what it means for the tables.
    pub(crate) fn migration(error: Self) -> Self {
        let Some(sqlx::Error::Database(cause)) = error.as_sqlx_error() else { return error };
        if error.fault().is_of_connecting() {
            return error;
        }
        let code = cause.code().unwrap_or_default();
        let meaning = if error.fault() == Fault::Denied {
            "Migrate once as their owner, by `outbox.migrate()` or what `Outbox::migration_sql()` prints; a role that only \
             uses the tables needs `select` on `…migration` to see that they are there (docs/guide/postgres.md, docs/guide/mysql.md)"
        } else {
            "Correct that, and migrate again"
        };
        let message = format!(
            "the database refused: {} ({code}). The outbox's tables could not be looked at or created by this role, and \
             nothing was changed. {meaning}",
            cause.message()
        );
        let mut failed = Self::new(ErrorKind::Database, message);
        failed.0.source = error.0.source;
        failed.0.source_is_said = true;
        failed
    }

    /// The error of a question of an operator's that was not answered in time.
    pub(crate) fn no_answer(asked: &str, within: Duration) -> Self {
        let message = format!(
            "the database did not answer within {within:?} when it was asked for {asked}: no connection of the pool became \
             free, or the server cannot be reached or is busy. Events stay in the outbox, and asking again does no harm. Is the \
             address right, and has the pool a connection to spare?"
        );
        let mut error =
            Self::new(ErrorKind::Database, message).with_source(sqlx::Error::PoolTimedOut);
        error.0.source_is_said = true;
        error
    }

    /// An error of our own statements, which do not match the tables.
    pub(crate) fn other_version(error: Self) -> Self {
        Self::new(
            ErrorKind::NotMigrated,
            "the outbox's tables are of another version than this program; nothing was written. Bring them to this version \
             with `outbox.migrate().await`, or deploy the program that migrated them",
        )
        .with_source(error)
    }

    /// The kind, for decisions in programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error of sqlx, when the database is where it went wrong.
    #[must_use]
    pub fn as_sqlx_error(&self) -> Option<&sqlx::Error> {
        let source = self.0.source.as_deref()?;
        source.downcast_ref().or_else(|| source.downcast_ref::<Self>()?.as_sqlx_error())
    }

    /// Whether the database or Kafka did not answer, so that the same may succeed later without any
    /// change. An answer that refuses is not meant.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        #[cfg(feature = "kafka")]
        if self.0.source.as_deref().is_some_and(|source| crate::kafka::is_no_answer(source)) {
            return true;
        }
        self.fault().is_unavailable()
    }
}

impl OutboxError {
    /// What the database's error means.
    pub(crate) fn fault(&self) -> Fault {
        self.as_sqlx_error().map_or(Fault::Other, fault_of)
    }

    /// Whether the database refused only one statement: the tables exist, and the server answers
    /// and accepts writes.
    pub(crate) fn is_of_one_statement(&self) -> bool {
        let fault = self.fault();
        let kind = self.0.kind;
        let refused = matches!(self.as_sqlx_error(), Some(sqlx::Error::Database(_)));
        refused
            && fault != Fault::ReadOnly
            && (matches!(kind, ErrorKind::Database | ErrorKind::Conflict)
                || fault == Fault::MissingColumn)
    }
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // Logs often print only the outermost message, so it has the words of the database or of
        // Kafka.
        match &self.0.source {
            Some(source) if !self.0.source_is_said => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

/// With the message: a `main` that returns the error, and an `unwrap` in a test, print this.
impl fmt::Debug for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl Error for OutboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The source's own words are in `Display` already: a reporter continues with the source's
        // source.
        self.0.source.as_deref().and_then(Error::source)
    }
}

/// An error of the database outside of `COMMIT`, with what it means for the outbox.
impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(cause) = &error else {
            return Self::new(ErrorKind::Database, without_an_answer(&error)).with_source(error);
        };
        let code = cause.code().unwrap_or_default();
        let fault = fault_of(&error);
        let (kind, meaning) = match fault {
            Fault::MissingTable if are_named_in(cause.message()) => (
                ErrorKind::NotMigrated,
                "It is one of the outbox's; nothing was written. Create them with `outbox.migrate().await` (or run what \
                 `Outbox::migration_sql()` prints), with the same schema and prefix as here",
            ),
            Fault::Conflict | Fault::RolledBack => (
                ErrorKind::Conflict,
                "Another transaction was in the way: this one is rolled back with its events. Run all of it again, as \
                 `retry = N` of `#[transactional_outbox]` does",
            ),
            _ => (ErrorKind::Database, refusal(fault)),
        };
        let message = format!("the database refused: {} ({code}). {meaning}", cause.message());
        let mut refused = Self::new(kind, message).with_source(error);
        refused.0.source_is_said = true;
        refused
    }
}

fn without_an_answer(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => {
            "no database connection became free in time (sqlx's `acquire_timeout`); nothing was written. Is the database up, \
             and is the pool larger than the work that holds its connections? Each transaction and each running handler \
             holds one; a body or a handler that asks the pool for another while it holds its own should use its `tx`, or \
             the pool needs two for each (`max_connections`)"
        }
        error => tls::trouble(error).unwrap_or(
            "the database could not be asked; the transaction is rolled back with its events",
        ),
    }
}

/// What it means, and what to do next.
fn refusal(fault: Fault) -> &'static str {
    match fault {
        Fault::Aborted => {
            "An earlier statement of the transaction failed, and its error was not returned: all of it is rolled back, with \
             its events. Return that error, or run what may fail in a savepoint (`tx.savepoint()`)"
        }
        Fault::Denied => {
            "Nothing was written, and no event. If it is a table of the outbox: docs/guide/postgres.md and \
             docs/guide/mysql.md list what each role needs"
        }
        Fault::ReadOnly => {
            "The server takes no writes: it is a standby, as in the middle of a failover. Nothing was written, and no event; \
             try again when the address leads to the primary"
        }
        Fault::LoginRefused => {
            "The server does not accept this user or its password, or has no such database. Nothing was written, and no \
             event: correct the options with which the pool connects"
        }
        _ => "Nothing of the transaction is kept, and none of its events",
    }
}

/// For methods that return `std::io::Result`.
impl From<OutboxError> for std::io::Error {
    fn from(error: OutboxError) -> Self {
        Self::other(error)
    }
}

/// The databases' errors in an error and its causes.
pub(crate) fn faults(error: &(dyn Error + 'static)) -> impl Iterator<Item = Fault> {
    causes(error).filter_map(|error| {
        if let Some(error) = error.downcast_ref::<OutboxError>() {
            Some(error.fault())
        } else if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            Some(fault_of(error))
        } else {
            // What a variant `#[error(transparent)] Database(sqlx::Error)` shows as its source.
            error.downcast_ref::<Box<dyn DatabaseError>>().map(|error| fault_of_database(&**error))
        }
    })
}

/// Whether a conflict with a concurrent transaction led to `error`: a serialization failure or a
/// deadlock in Postgres, a lock held too long in SQLite. It is looked for in the error, which may
/// be of any type, and in its `source()`s.
///
/// Nothing of such a transaction is kept, so all of it may run again, from its beginning. `retry =
/// N` of `#[transactional_outbox]` does that; this is for a loop of your own, and for tests. Give
/// it an `anyhow::Error` or a boxed error as `&*error`.
///
/// ```
/// # use std::error::Error;
/// # async fn order() -> Result<(), outbox::OutboxError> { Ok(()) }
/// # async fn run() -> Result<(), outbox::OutboxError> {
/// for _ in 0..3 {
///     match order().await {
///         Err(error) if outbox::is_conflict(&error) => continue,
///         ended => return ended,
///     }
/// }
/// order().await
/// # }
/// ```
#[must_use]
pub fn is_conflict(error: &(dyn Error + 'static)) -> bool {
    faults(error).any(Fault::is_conflict)
}
