//! What expansions of `#[event_handler]` name.

use super::handler::BoxError;

pub use super::class::{ByClassify, ByDefault, Classified};

/// What a handler can return: `Result<(), E>`, under any alias.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by an `#[event_handler]` function",
    label = "this must be a `Result<(), E>` with `E: Into<Box<dyn Error + Send + Sync>>`",
    note = "`Ok(())` commits, and `Err` rolls back; the event is then tried again, later, or becomes a dead letter. For your own error type, write `impl std::error::Error for …`, or `#[derive(thiserror::Error)]`"
)]
pub trait HandlerResult {
    /// Why an event was not handled.
    type Error: Into<BoxError>;

    /// The `Result`.
    ///
    /// # Errors
    /// Its own.
    fn into_result(self) -> Result<(), Self::Error>;
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> HandlerResult for Result<(), E> {
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}
