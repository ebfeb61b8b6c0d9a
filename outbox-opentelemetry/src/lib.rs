//! Traces of OpenTelemetry for the crate [`outbox`](https://docs.rs/outbox): one trace from a
//! request through the outbox, its relay and Kafka to the handlers of the event.
//!
//! ```
//! # async fn example(pool: sqlx::SqlitePool) -> Result<(), outbox::OutboxError> {
//! use outbox::Outbox;
//! use outbox_opentelemetry::OpenTelemetry;
//!
//! let outbox = Outbox::builder(pool).propagation(OpenTelemetry::new()).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! Give it to the outbox of each service, relay and consumer. The spans go to the layer of
//! `tracing_opentelemetry` that the program installs. `outbox::trace` says which spans there are.
//!
//! It uses neither the global propagator of OpenTelemetry nor its global tracer, so that it works
//! beside other versions of OpenTelemetry in a program. The version of `tracing-opentelemetry` must
//! be the one of this package: a layer of another version is not found, and events then have no
//! trace context. The minor version of this package is that of `opentelemetry`.
//!
//! | this package | `opentelemetry` | `tracing-opentelemetry` |
//! |---|---|---|
//! | 0.33 | 0.33 | 0.34 |

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

use std::fmt;

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{
    Extractor, Injector, TextMapCompositePropagator, TextMapPropagator,
};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use outbox_runtime::trace::{Propagation, Relation};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Writes the context of the current span to the headers of events, and reads it from them.
///
/// The current span is that of `tracing`. Where there is none, it is the active one of
/// OpenTelemetry.
pub struct OpenTelemetry(Box<dyn TextMapPropagator + Send + Sync>);

impl OpenTelemetry {
    /// The trace context of W3C: the headers `traceparent` and `tracestate`.
    #[must_use]
    pub fn new() -> Self {
        Self::by(TraceContextPropagator::new())
    }

    /// The same, and the header `baggage`: what a program has put into the baggage of the current
    /// context. It is then in the table of events and in Kafka, for all who may read these. Put no
    /// secrets and no personal data into it.
    #[must_use]
    pub fn with_baggage() -> Self {
        Self::by(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]))
    }

    /// By another propagator, such as that of B3 or of Jaeger. It must find its headers by their
    /// names.
    pub fn by(propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        Self(Box::new(propagator))
    }
}

impl Default for OpenTelemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for OpenTelemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.0.fields().collect();
        f.debug_struct("OpenTelemetry").field("headers", &headers).finish()
    }
}

impl Propagation for OpenTelemetry {
    fn inject(&self, put: &mut dyn FnMut(&str, String)) {
        self.0.inject_context(&current(), &mut Put(put));
    }

    fn extract<'h>(
        &self,
        span: &Span,
        get: &'h dyn Fn(&str) -> Option<&'h str>,
        relation: Relation,
    ) -> bool {
        // Not the current context: that of this program is not part of the event's.
        let context = self.0.extract_with_context(&Context::new(), &Get(get));
        let creation = context.span().span_context().clone();
        if !creation.is_valid() {
            return false;
        }
        match relation {
            Relation::Parent => span.set_parent(context).is_ok(),
            Relation::Link => {
                span.add_link(creation);
                true
            }
        }
    }
}

/// The context of the current span. Baggage may have been attached since the span began: it is in
/// the active context.
fn current() -> Context {
    let active = Context::current();
    let of_span = Span::current().context();
    if !of_span.has_active_span() {
        active
    } else if active.baggage().is_empty() {
        of_span
    } else {
        active.with_remote_span_context(of_span.span().span_context().clone())
    }
}

struct Put<'p>(&'p mut dyn FnMut(&str, String));

impl Injector for Put<'_> {
    fn set(&mut self, name: &str, value: String) {
        (self.0)(name, value);
    }
}

struct Get<'h>(&'h dyn Fn(&str) -> Option<&'h str>);

impl Extractor for Get<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        (self.0)(name)
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}
