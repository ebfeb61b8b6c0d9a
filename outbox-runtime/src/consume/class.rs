//! Decides whether another attempt can help.

use std::error::Error;

use sqlx::error::DatabaseError;

use crate::error::OutboxError;
use crate::user_code::causes;

/// Whether an event that a handler failed on is worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// It may succeed later: a service does not answer, a row is not there yet. It is tried again.
    Transient,
    /// It will fail in every attempt: an order for something that does not exist. It becomes a dead
    /// letter at once.
    Permanent,
}

impl ErrorClass {
    /// `transient` or `permanent`, as in the headers of dead letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }
}

/// An error that knows whether another attempt can help. Derive it: `#[derive(Classify)]`, and
/// `#[classify(permanent)]` on the variants that no attempt can fix.
///
/// `#[event_handler]` uses it if the handler's error type implements it. Errors of other types are
/// transient.
///
/// ```
/// use outbox_runtime::consume::{Classify, ErrorClass};
///
/// enum ReserveError {
///     UnknownItem,
///     Database(sqlx::Error),
/// }
///
/// impl Classify for ReserveError {
///     fn class(&self) -> ErrorClass {
///         match self {
///             Self::UnknownItem => ErrorClass::Permanent,
///             Self::Database(_) => ErrorClass::Transient,
///         }
///     }
/// }
/// ```
pub trait Classify {
    /// The class.
    fn class(&self) -> ErrorClass;
}

/// The class of an error, if it has one: `(&Classified(&error)).class()` is that of `Classify`
/// where it is implemented, since the compiler looks there first.
#[derive(Debug)]
pub struct Classified<'e, E>(pub &'e E);

#[doc(hidden)]
pub trait ByClassify {
    fn class(&self) -> ErrorClass;
}

impl<E: Classify> ByClassify for Classified<'_, E> {
    fn class(&self) -> ErrorClass {
        self.0.class()
    }
}

#[doc(hidden)]
pub trait ByDefault {
    fn class(&self) -> ErrorClass;
}

impl<E> ByDefault for &Classified<'_, E> {
    fn class(&self) -> ErrorClass {
        ErrorClass::Transient
    }
}

/// Whether the database was away, and so nothing is known about the event.
pub(super) fn is_database_away(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        if let Some(error) = error.downcast_ref::<OutboxError>() {
            error.as_database_error().is_some_and(is_away)
        } else if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            is_away(error)
        } else {
            // What a variant `#[error(transparent)] Database(sqlx::Error)` shows as its source.
            error
                .downcast_ref::<Box<dyn DatabaseError>>()
                .is_some_and(|error| refuses_everybody(&**error))
        }
    })
}

/// Whether the handler asked a pool for a connection and got none, and its error is only sqlx's
/// short message.
pub(super) fn is_pool_exhausted(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| matches!(error.downcast_ref(), Some(sqlx::Error::PoolTimedOut)))
}

/// Whether Postgres ended a statement of ours after its time-out: `query_canceled` and
/// `lock_not_available`. The statement has waited for another transaction.
pub(super) fn is_cut_off(error: &OutboxError) -> bool {
    let error = error.as_database_error().and_then(|error| error.as_database_error());
    error.and_then(|error| error.code()).is_some_and(|code| matches!(&*code, "57014" | "55P03"))
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => refuses_everybody(&**error),
        _ => false,
    }
}

/// Postgres's connection failures, shutdowns (`57P0x`) and lack of connections; SQLite's errors for
/// a disk that is full or fails.
fn refuses_everybody(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| {
        // SQLite's codes are numbers, of which the lower byte is the kind: SQLITE_FULL and
        // SQLITE_IOERR.
        let sqlite =
            code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 13 | 10)) && code.len() < 5;
        sqlite
            || code.starts_with("08")
            || code.starts_with("57P")
            || matches!(&*code, "53100" | "53300")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unclassified;
    struct Hopeless;

    impl Classify for Hopeless {
        fn class(&self) -> ErrorClass {
            ErrorClass::Permanent
        }
    }

    #[test]
    #[allow(clippy::needless_borrow)] // as the macro writes it: without it, one of the two does not compile
    fn an_error_is_asked_for_its_class_where_it_has_one() {
        assert_eq!((&Classified(&Hopeless)).class(), ErrorClass::Permanent);
        assert_eq!((&Classified(&Unclassified)).class(), ErrorClass::Transient);
    }

    #[test]
    fn a_lost_connection_is_found_behind_the_users_own_error() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(is_database_away(&lost()));
        assert!(is_database_away(&OutboxError::from(lost())));
        assert!(is_database_away(&std::io::Error::other(OutboxError::from(lost()))));
        assert!(!is_database_away(&sqlx::Error::RowNotFound));
    }
}
