//! Events as contracts. The manual is the page Contracts in the guide of the crate
//! [`outbox`](https://docs.rs/outbox).
//!
//! The wire identity of an event is what consumers rely on: its topic, name, version, key, headers
//! and the shape of its payload. A [`Lock`] is a file that has these of all events of a project. It
//! is committed with the code, and compared with an earlier state of itself by [`check`](check()),
//! which knows what breaks whom.
//!
//! Nothing here needs a database, a broker or an async runtime.

#![forbid(unsafe_code)]
// Whatever is in a file, it is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod asyncapi;
mod check;
mod difference;
mod eventcatalog;
pub mod git;
mod html;
mod ids;
mod lock;
mod markup;
mod mode;
#[cfg(feature = "schema")]
pub mod program;
pub mod report;
mod rules;
pub mod schema;
pub mod shape;
mod topics;

pub use asyncapi::{Info, asyncapi};
pub use check::{Violation, check, check_alone};
pub use difference::{Difference, differences, worded};
pub use eventcatalog::{CatalogFile, eventcatalog};
pub use html::html;
pub use lock::{Contract, EventName, Lock, LockError};
pub use mode::{Mode, UnknownMode};
pub use rules::Rule;
#[cfg(feature = "schema")]
#[doc(no_inline)]
pub use schemars;
pub use topics::{Setting, Topic, Topics};
