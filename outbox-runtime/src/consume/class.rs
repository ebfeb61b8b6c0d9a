//! Decides whether another attempt can help.

use std::error::Error;
use std::sync::Arc;

use crate::error::{OutboxError, faults};
use crate::store::fault::Fault;
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
/// `#[classify(permanent)]` on the variants that no attempt can fix. A variant with another error
/// in it has that one's class if it says `#[classify(transparent)]`.
///
/// `#[event_handler]` uses it if the handler's error type implements it. Errors of other types are
/// transient.
///
/// ```
/// use outbox::consume::{Classify, ErrorClass};
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no class",
    label = "`Classify` is not implemented for `{Self}`",
    note = "add `#[derive(outbox::consume::Classify)]` to `{Self}`, or, if it is not yours, write `#[classify(transient)]` or `#[classify(permanent)]` instead of `#[classify(transparent)]`"
)]
pub trait Classify {
    /// The class.
    fn class(&self) -> ErrorClass;
}

/// What the database said may be said of any event, and may be otherwise later.
impl Classify for sqlx::Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Transient
    }
}

/// As [`sqlx::Error`].
impl Classify for OutboxError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Transient
    }
}

macro_rules! pointers {
    ($($pointer:ty)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<T: Classify + ?Sized> Classify for $pointer {
            fn class(&self) -> ErrorClass {
                (**self).class()
            }
        }
    )*};
}
pointers!(&T Box<T> Arc<T>);

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
    faults(error).any(Fault::is_unavailable)
}

/// Whether the handler asked a pool for a connection and got none, and its error is only sqlx's
/// short message.
pub(super) fn is_pool_exhausted(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| matches!(error.downcast_ref(), Some(sqlx::Error::PoolTimedOut)))
}

/// Whether the database ended a statement of ours after its time-out: on Postgres
/// `query_canceled` and `lock_not_available`. The statement has waited for another transaction.
pub(super) fn is_cut_off(error: &OutboxError) -> bool {
    matches!(error.fault(), Fault::Cancelled | Fault::Interrupted | Fault::LockTimeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unclassified;
    struct Lasting;

    impl Classify for Lasting {
        fn class(&self) -> ErrorClass {
            ErrorClass::Permanent
        }
    }

    #[test]
    #[allow(clippy::needless_borrow)] // as the macro writes it: without it, one of the two does not compile
    fn an_error_is_asked_for_its_class_where_it_has_one() {
        assert_eq!((&Classified(&Lasting)).class(), ErrorClass::Permanent);
        assert_eq!((&Classified(&Box::new(Lasting))).class(), ErrorClass::Permanent);
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
