//! The spans of a relay, sent to a collector of OpenTelemetry: `outbox relay run --otlp`.
//!
//! A collector never holds a relay up. Spans wait in a queue with a bound, and a thread of its own
//! sends them; those that find the queue full, and those that the collector does not take, are
//! counted and given up.

#[cfg(feature = "otlp")]
mod client;
#[cfg(feature = "otlp")]
mod endpoint;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
mod without;

#[cfg(feature = "otlp")]
pub use otlp::{Spans, propagating};
#[cfg(not(feature = "otlp"))]
pub use without::{Spans, propagating};

use tracing_subscriber::{Layer, Registry};

/// What takes the spans of this process, beside the log.
pub type SpanLayer = Option<Box<dyn Layer<Registry> + Send + Sync>>;
