//! The consumer side: handlers that run in a database transaction, once per event and group.
//!
//! | what | |
//! |---|---|
//! | [`EventHandler`], `#[event_handler]`, [`handler_fn`] | what a user writes |
//! | [`HandlerOptions`], [`Classify`] | how often and when a failed event is tried again |
//! | [`Consumer`] (feature `kafka`) | runs handlers on topics |
//! | [`DeadLetters`] (feature `kafka`) | what was given up: listed, replayed, discarded |
//! | [`testing::HandlerTest`](crate::testing::HandlerTest) | runs handlers in a test, without Kafka |

pub(crate) mod attempt;
mod class;
mod context;
pub(crate) mod expansion;
mod handler;
#[cfg(feature = "kafka")]
mod kafka;
pub(crate) mod message;
mod options;
pub(crate) mod route;

pub use class::{Classify, ErrorClass};
pub use context::EventContext;
pub use handler::{EventHandler, HandlerEvent, HandlerFn, handler_fn};
#[cfg(feature = "kafka")]
pub use kafka::{Consumed, Consumer, DeadLetter, DeadLetters, Undecodable, UnknownEvents};
pub use options::{ForeignId, HandlerOptions, LaterEvents};

pub(crate) use handler::{EventOf, Handler};
