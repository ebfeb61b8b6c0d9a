//! Shapes and JSON schemas.
//!
//! A crate that makes schemas of types may word them otherwise in its next version. So a lock never
//! has a schema, but the shape that is read from it, and schemas are made of shapes.

mod pointer;
pub(crate) mod read;
#[cfg(feature = "schema")]
mod types;
mod union;
mod write;

pub use read::{of_both, of_one};
#[cfg(feature = "schema")]
pub use types::{emitted, handled};
pub(crate) use write::{Dialect, Writer};
pub use write::{document, write};
