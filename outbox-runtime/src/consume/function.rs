//! The handler that `#[event_handler]` makes of a function.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::class::ErrorClass;
use super::context::EventContext;
use super::handler::{EventHandler, HandlerError, HandlerEvent};
use super::options::HandlerOptions;
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;

/// The handler that `#[event_handler]` makes of a function. Its fields are for the macro.
pub struct FunctionHandler<DB: OutboxDatabase, S, T: HandlerTypes> {
    // Module or type of the function, and its name.
    #[doc(hidden)]
    pub name: [&'static str; 2],
    // Options of the attribute.
    #[doc(hidden)]
    pub options: HandlerOptions,
    // What the function needs besides its event: `()` if nothing.
    #[doc(hidden)]
    pub state: S,
    // Calls the function. A pointer, to which a closure coerces: its type can be named, and the
    // future may borrow from all arguments. It allocates once for each attempt.
    #[doc(hidden)]
    pub call: Call<DB, S, T>,
    // Class of an error.
    #[doc(hidden)]
    pub classify: fn(&T::Error) -> ErrorClass,
}

type Call<DB, S, T> = for<'a> fn(
    &'a S,
    &'a mut OutboxTx<'static, DB>,
    <T as HandlerTypes>::Event,
    &'a EventContext,
) -> Attempt<'a, <T as HandlerTypes>::Error>;

type Attempt<'a, Error> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// The types of a function under `#[event_handler]`. The macro implements it.
// A trait with bounds: the compiler then reports a wrong type once, where the macro names it.
pub trait HandlerTypes: 'static {
    /// The event.
    type Event: HandlerEvent + 'static;
    /// The error.
    type Error: HandlerError + 'static;
}

/// Those of a method, since an item cannot name what its `impl` is generic over.
impl<E: HandlerEvent + 'static, Error: HandlerError + 'static> HandlerTypes for fn(E) -> Error {
    type Event = E;
    type Error = Error;
}

impl<DB, S, T> EventHandler<DB> for FunctionHandler<DB, S, T>
where
    DB: OutboxDatabase,
    S: Send + Sync + 'static,
    T: HandlerTypes,
{
    type Event = T::Event;
    type Error = T::Error;

    fn name(&self) -> Cow<'static, str> {
        self.name.join("::").into()
    }

    fn options(&self) -> HandlerOptions {
        self.options
    }

    fn classify(&self, error: &T::Error) -> ErrorClass {
        (self.classify)(error)
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: T::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'a {
        (self.call)(&self.state, tx, event, context)
    }
}

impl<DB: OutboxDatabase, S, T: HandlerTypes> fmt::Debug for FunctionHandler<DB, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionHandler")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
