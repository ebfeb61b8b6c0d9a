//! What a body can return, and how that is taken to the end of its transaction.

use std::error::Error;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::error::{OutboxError, is_conflict};

/// A return type that a transactional method can have: `Result<T, E>` with `E: From<OutboxError>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a `#[transactional_outbox]` function",
    label = "this must be a `Result<_, E>` with `E: From<outbox::OutboxError>`",
    note = "`Ok` commits and `Err` rolls back; when the database itself fails, the error is made from an `OutboxError`",
    note = "an error type of your own: add a variant `#[from] OutboxError` with thiserror, or write `impl From<outbox::OutboxError> for …`",
    note = "an error type of another crate cannot have that: return `OutboxError` or `anyhow::Error`, or a type of your own around it"
)]
pub trait Outcome: Sized {
    /// What the end of the transaction needs to know about the type.
    const VTABLE: Vtable<Self>;
}

#[diagnostic::do_not_recommend]
impl<T, E: From<OutboxError>> Outcome for Result<T, E> {
    const VTABLE: Vtable<Self> = Vtable {
        error: |error| Err(E::from(error)),
        otherwise: ErrorIsHolder(ErrorIsLocalHolder(ErrorIsAnything(NotAResult(PhantomData)))),
    };
}

/// The operations of an [`Outcome`], as values.
///
/// Two of them depend on the type of its error: how that shows its causes, and whether it is
/// `Send`. The compiler chooses them where the annotated function is, as the first method of a name
/// that fits, along [`Deref`] from here to [`NotAResult`].
#[derive(Debug)]
pub struct Vtable<R> {
    error: fn(OutboxError) -> R,
    otherwise: ErrorIsHolder<R>,
}

/// The error holds one that has a `source()`: `anyhow::Error`, `eyre::Report`, `Box<dyn Error +
/// Send + Sync>`.
#[derive(Debug)]
pub struct ErrorIsHolder<R>(ErrorIsLocalHolder<R>);

/// The same, as `Box<dyn Error>`.
#[derive(Debug)]
pub struct ErrorIsLocalHolder<R>(ErrorIsAnything<R>);

/// The error shows nothing: the answers to the queries on `tx` decide.
#[derive(Debug)]
pub struct ErrorIsAnything<R>(NotAResult<R>);

/// There is no error, which the compiler has reported.
#[derive(Debug)]
pub struct NotAResult<R>(PhantomData<fn() -> R>);

impl<R> Vtable<R> {
    /// `None` of the type, from which the compiler can infer.
    #[must_use]
    pub const fn never(&self) -> Option<R> {
        None
    }

    /// The outcome with this error.
    pub fn error(&self, error: OutboxError) -> R {
        (self.error)(error)
    }
}

fn search<T, E>(
    outcome: Result<T, E>,
    is_conflict: impl FnOnce(&E) -> bool,
) -> (Result<T, E>, bool) {
    let conflict = outcome.as_ref().is_err_and(is_conflict);
    (outcome, conflict)
}

impl<T, E: Error + 'static> Vtable<Result<T, E>> {
    /// The outcome, and whether a conflict with a concurrent transaction led to its error.
    pub fn search(&self, outcome: Result<T, E>) -> (Result<T, E>, bool) {
        search(outcome, |error| is_conflict(error))
    }
}

impl<T, E: AsRef<dyn Error + Send + Sync>> ErrorIsHolder<Result<T, E>> {
    /// As that of [`Vtable`].
    pub fn search(&self, outcome: Result<T, E>) -> (Result<T, E>, bool) {
        search(outcome, |error| is_conflict(error.as_ref()))
    }
}

impl<T, E: AsRef<dyn Error>> ErrorIsLocalHolder<Result<T, E>> {
    /// As that of [`Vtable`].
    pub fn search(&self, outcome: Result<T, E>) -> (Result<T, E>, bool) {
        search(outcome, |error| is_conflict(error.as_ref()))
    }
}

impl<R> NotAResult<R> {
    /// As that of [`Vtable`].
    pub fn search(&self, outcome: R) -> (R, bool) {
        (outcome, false)
    }

    /// As that of [`Vtable`].
    ///
    /// # Errors
    /// The outcome.
    pub fn hold(&self, outcome: R) -> Result<Never, R> {
        Err(outcome)
    }
}

impl<T, E: Send> Vtable<Result<T, E>> {
    /// What the future can hold across an await.
    ///
    /// # Errors
    /// An outcome that it cannot hold, since the future would not be `Send`. It is returned at
    /// once, and dropping the transaction rolls it back.
    pub fn hold(&self, outcome: Result<T, E>) -> Result<Result<T, E>, Result<T, E>> {
        Ok(outcome)
    }
}

impl<T, E> ErrorIsAnything<Result<T, E>> {
    /// As that of [`Vtable`].
    ///
    /// # Errors
    /// The error.
    pub fn hold(&self, outcome: Result<T, E>) -> Result<Value<T>, Result<T, E>> {
        match outcome {
            Ok(value) => Ok(Value(value)),
            Err(error) => Err(Err(error)),
        }
    }
}

/// The outcome, or the part of it that can be held across an await.
pub trait Held<R> {
    /// Whether to commit.
    fn is_ok(&self) -> bool;

    /// The outcome.
    fn into_outcome(self) -> R;
}

impl<T, E> Held<Self> for Result<T, E> {
    fn is_ok(&self) -> bool {
        self.is_ok()
    }

    fn into_outcome(self) -> Self {
        self
    }
}

/// The value of an `Ok`.
#[derive(Debug)]
pub struct Value<T>(T);

impl<T, E> Held<Result<T, E>> for Value<T> {
    fn is_ok(&self) -> bool {
        true
    }

    fn into_outcome(self) -> Result<T, E> {
        Ok(self.0)
    }
}

/// Nothing.
#[derive(Debug)]
pub enum Never {}

impl<R> Held<R> for Never {
    fn is_ok(&self) -> bool {
        match *self {}
    }

    fn into_outcome(self) -> R {
        match self {}
    }
}

macro_rules! copy {
    ($here:ident) => {
        impl<R> Clone for $here<R> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<R> Copy for $here<R> {}
    };
}
copy!(NotAResult);

macro_rules! otherwise {
    ($($here:ident $field:tt $next:ident),*) => {$(
        copy!($here);

        impl<R> Deref for $here<R> {
            type Target = $next<R>;

            fn deref(&self) -> &$next<R> {
                &self.$field
            }
        }
    )*};
}
otherwise! {
    Vtable otherwise ErrorIsHolder,
    ErrorIsHolder 0 ErrorIsLocalHolder,
    ErrorIsLocalHolder 0 ErrorIsAnything,
    ErrorIsAnything 0 NotAResult
}
