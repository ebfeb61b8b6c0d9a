//! Traces: how the context of a trace goes with an event, from the span that emits it to the spans
//! that send and handle it.
//!
//! An outbox that is [built with a `Propagation`](crate::OutboxBuilder::propagation) keeps the
//! context of the current span in the headers of each event, and makes two kinds of spans, with the
//! target `outbox::trace` and the level `info`:
//!
//! | span | kind | one for | parent and links |
//! |---|---|---|---|
//! | `send {topic}` | client | a batch of a relay, and each topic in it | links to the spans that emitted its events, at most 32; if that is one and the same span for all, it is the parent as well |
//! | `process {topic}` | consumer | an attempt of a handler, with its transaction | the span that emitted the event: the parent at the first delivery, a link for an event from a retry topic, for one that waited behind another, and for a replay |
//!
//! The topic has its name on the brokers. Attributes are those of OpenTelemetry's conventions for
//! messaging: `messaging.system`, `messaging.operation.name` and `.type`,
//! `messaging.destination.name`, `messaging.destination.partition.id`,
//! `messaging.consumer.group.name`, `messaging.message.id`, `messaging.batch.message_count`,
//! `messaging.kafka.message.key`, `messaging.kafka.offset` and, if something failed, `error.type`.
//! Ours are `outbox.event.name` and, of an attempt, `outbox.handler`, `outbox.attempt` and
//! `outbox.outcome`.
//!
//! Without a `Propagation` there are no spans. What a handler emits then has the trace context of
//! the event that it handles.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Span;

use crate::check::is_header_name;
use crate::observe::target;
use crate::record::{
    BAGGAGE, CE_TRACEPARENT, CE_TRACESTATE, EventRecord, TRACEPARENT, TRACESTATE, header_size,
};
use crate::user_code::caught;

/// How the context of a trace is written to the headers of events, and read from them again.
///
/// The package `outbox-opentelemetry` has an implementation, for the context of W3C and for the
/// propagators of OpenTelemetry. With it, no version of OpenTelemetry is part of this crate's own
/// interface.
pub trait Propagation: Send + Sync + 'static {
    /// Gives the context of the current span to `put`, as names and values of headers. There may be
    /// none.
    ///
    /// It is called whenever an event is emitted. A name that is no legal name of a header, or that
    /// the outbox writes itself, is left out. So is a value that is empty, has other characters
    /// than visible ASCII and spaces, or is longer than W3C asks for: 256 bytes for `traceparent`,
    /// 512 for `tracestate`, 8,192 for all others together.
    fn inject(&self, put: &mut dyn FnMut(&str, String));

    /// Reads a context from headers, and makes it the parent of `span` or adds a link to it.
    /// Returns whether there was one. `get`: the value of the header with a name.
    ///
    /// `span` was not entered yet. It may be the same one several times, for several links.
    fn extract<'h>(
        &self,
        span: &Span,
        get: &'h dyn Fn(&str) -> Option<&'h str>,
        relation: Relation,
    ) -> bool;
}

/// What the span that emitted an event is to the span that handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relation {
    /// Its parent: both are in one trace.
    #[default]
    Parent,
    /// It is linked: each is in a trace of its own.
    Link,
}

/// The propagation of an outbox. By default none: there are no spans.
#[derive(Clone, Default)]
pub(crate) struct Tracing(Option<Arc<dyn Propagation>>);

/// Tracing that is off.
#[cfg(test)]
pub(crate) static OFF: Tracing = Tracing(None);

impl Tracing {
    pub(crate) fn by(propagation: impl Propagation) -> Self {
        Self(Some(Arc::new(propagation)))
    }

    /// Whether spans are made, and somebody listens to them.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some() && tracing::span_enabled!(target: target::TRACE, tracing::Level::INFO)
    }

    pub(crate) fn propagation(&self) -> Option<&dyn Propagation> {
        self.0.as_deref()
    }

    /// The context of the current span.
    pub(crate) fn current(&self) -> TraceContext {
        let mut context = TraceContext::default();
        if let Some(propagation) = &self.0 {
            propagation.inject(&mut |name, value| context.put(name, value));
        }
        context.without_orphans()
    }

    /// Relates a span to the one in the headers. Returns whether there was one.
    pub(crate) fn relate<'h>(
        &self,
        span: &Span,
        get: &'h dyn Fn(&str) -> Option<&'h str>,
        relation: Relation,
    ) -> bool {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let Some(propagation) = &self.0 else { return false };
        // A propagation that panics must stop neither events nor their handlers.
        caught(|| propagation.extract(span, get, relation)).unwrap_or_else(|said| {
            if !TOLD.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    target: target::TRACE,
                    said,
                    "the propagation of trace contexts panicked: spans lack their parents or links, and events go on \
                     as before. This is said once"
                );
            }
            false
        })
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "on" } else { "off" })
    }
}

/// Most bytes of a `tracestate`: what W3C asks everybody to pass on.
const LONGEST_TRACESTATE: usize = 512;
/// Most bytes of all other headers together: what W3C asks for of `baggage`.
const MOST_BYTES: usize = 8_192;
/// Most headers of a context. The largest known format has five.
const MOST_HEADERS: usize = 16;

/// The context of a trace, as headers of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TraceContext(Vec<(Cow<'static, str>, String)>);

impl TraceContext {
    /// The context that headers have in the format of W3C. They may come from anywhere: what is
    /// malformed is ignored, as W3C requires.
    pub(crate) fn of<'h>(get: impl Fn(&str) -> Option<&'h str>) -> Self {
        let mut context = Self::default();
        for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
            if let Some(value) = get(name) {
                context.put(name, value.to_owned());
            }
        }
        context.without_orphans()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&mut self, name: &str, value: String) {
        self.0.retain(|(known, _)| known != name);
        if self.0.len() >= MOST_HEADERS || !self.takes(name, &value) {
            return;
        }
        let name = match name {
            TRACEPARENT => TRACEPARENT.into(),
            TRACESTATE => TRACESTATE.into(),
            BAGGAGE => BAGGAGE.into(),
            other if is_header_name(other) => other.to_owned().into(),
            _ => return,
        };
        self.0.push((name, value));
    }

    fn takes(&self, name: &str, value: &str) -> bool {
        let is_text = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let fits = match name {
            TRACEPARENT => is_traceparent(value),
            TRACESTATE => value.len() <= LONGEST_TRACESTATE,
            _ => {
                let others = self.0.iter().filter(|(name, _)| !is_of_trace(name));
                let bytes: usize = others.map(|(name, value)| name.len() + value.len()).sum();
                bytes + name.len() + value.len() <= MOST_BYTES
            }
        };
        is_text && fits
    }

    /// Without a `tracestate` that says more about no trace.
    fn without_orphans(mut self) -> Self {
        if !self.0.iter().any(|(name, _)| name == TRACEPARENT) {
            self.0.retain(|(name, _)| name != TRACESTATE);
        }
        self
    }

    /// Adds the context to the headers of an event, in place of one that it has, unless that makes
    /// it larger than `max_bytes`: an event is never refused because of its trace.
    pub(crate) fn add_to(&self, record: &mut EventRecord, max_bytes: usize) {
        let added: usize = self.0.iter().map(|(name, value)| header_size(name, value)).sum();
        if self.is_empty() || record.size() + added > max_bytes {
            return;
        }
        if record.headers.iter().any(|(name, _)| is_of_trace(name)) {
            let others = record.headers.iter().filter(|(name, _)| !is_of_trace(name));
            let others = others.map(|(name, value)| (name.to_owned(), value.to_owned()));
            record.headers = others.collect();
        }
        for (name, value) in &self.0 {
            record.headers.insert(name.clone(), value);
        }
    }
}

/// The header of this name, for the trace of a message. Other producers of CloudEvents may have the
/// context among the attributes instead (the extension for distributed tracing).
pub(crate) fn of_message<'h>(name: &str, get: impl Fn(&str) -> Option<&'h str>) -> Option<&'h str> {
    match name {
        TRACEPARENT => get(TRACEPARENT).or_else(|| get(CE_TRACEPARENT)),
        TRACESTATE if get(TRACEPARENT).is_none() => get(CE_TRACESTATE),
        _ => get(name),
    }
}

fn is_of_trace(name: &str) -> bool {
    [TRACEPARENT, TRACESTATE].contains(&name)
}

/// Whether it may be a `traceparent`. Version 00 has 55 characters, and later versions may have
/// more.
fn is_traceparent(text: &str) -> bool {
    (55..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the trace of a `traceparent` is recorded: the last bit of its flags.
pub(crate) fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent.split('-').nth(3).and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Writes what it is given, and reads nothing.
    struct Fixed(Vec<(&'static str, String)>);

    impl Propagation for Fixed {
        fn inject(&self, put: &mut dyn FnMut(&str, String)) {
            self.0.iter().for_each(|(name, value)| put(name, value.clone()));
        }

        fn extract<'h>(
            &self,
            _: &Span,
            _: &'h dyn Fn(&str) -> Option<&'h str>,
            _: Relation,
        ) -> bool {
            panic!("as a user's code may")
        }
    }

    fn injected(headers: &[(&'static str, &str)]) -> Vec<String> {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let context = Tracing::by(Fixed(headers.collect())).current();
        context.0.into_iter().map(|(name, _)| name.into_owned()).collect()
    }

    #[test]
    fn a_context_is_taken_as_far_as_it_can_be_a_header() {
        assert_eq!(
            injected(&[(TRACEPARENT, TRACE), (TRACESTATE, "a=1"), (BAGGAGE, "b=2"), ("b3", "1-2")]),
            [TRACEPARENT, TRACESTATE, BAGGAGE, "b3"]
        );
        for (name, value) in [
            (TRACEPARENT, "not one"),
            (TRACEPARENT, &*"0".repeat(257)),
            (TRACESTATE, "a=1"), // of no trace
            ("b3", ""),
            ("b3", "a\0b"),
            ("b3", "größe"),
            ("b3", &*"0".repeat(MOST_BYTES)),
            ("", "1"),
            ("x trace", "1"),
            ("ce_id", "1"),
            ("outbox-attempts", "1"),
            ("TraceParent", TRACE),
        ] {
            assert_eq!(injected(&[(name, value)]), [""; 0], "{name}: {value}");
        }
        let long = "a=".to_owned() + &"1".repeat(LONGEST_TRACESTATE);
        assert_eq!(injected(&[(TRACEPARENT, TRACE), (TRACESTATE, &long)]), [TRACEPARENT]);
    }

    #[test]
    fn an_event_is_not_made_too_large_by_its_trace_and_has_one_trace_only() {
        let with = |headers: &'static [(&str, &str)]| {
            let get = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|of| of.1);
            TraceContext::of(get)
        };
        let mut record = EventRecord::of_key(Some("alice"));
        record.headers.insert("x-tenant", "acme");
        let small = record.size();
        let traced = with(&[(TRACEPARENT, TRACE), (TRACESTATE, "a=1")]);
        let added = header_size(TRACEPARENT, TRACE) + header_size(TRACESTATE, "a=1");
        traced.add_to(&mut record, small + added - 1);
        assert_eq!(record.size(), small, "there was no room");
        traced.add_to(&mut record, small + added);
        assert_eq!(record.size(), small + added);
        with(&[(TRACEPARENT, TRACE)]).add_to(&mut record, usize::MAX);
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x-tenant", TRACEPARENT], "the state was that of the trace before");
    }

    #[test]
    fn a_propagation_that_panics_relates_nothing() {
        let get = |_: &str| None;
        assert!(!Tracing::by(Fixed(Vec::new())).relate(&Span::none(), &get, Relation::Link));
    }

    #[test]
    fn the_trace_of_a_cloud_event_counts_if_its_record_has_none() {
        let told = |headers: &'static [(&str, &str)], name| {
            of_message(name, |name| headers.iter().find(|of| of.0 == name).map(|of| of.1))
        };
        let attributes = &[(CE_TRACEPARENT, "1"), (CE_TRACESTATE, "a=1"), (BAGGAGE, "b")];
        let names = [TRACEPARENT, TRACESTATE, BAGGAGE];
        assert_eq!(names.map(|name| told(attributes, name)), [Some("1"), Some("a=1"), Some("b")]);
        let both = &[(TRACEPARENT, "2"), (CE_TRACEPARENT, "1"), (CE_TRACESTATE, "a=1")];
        assert_eq!(names.map(|name| told(both, name)), [Some("2"), None, None], "not of both");
    }

    #[test]
    fn a_trace_is_recorded_if_its_flags_say_so() {
        for (traceparent, sampled) in [
            (TRACE, true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", true),
            ("", false),
            ("00-1-2-größe", false),
        ] {
            assert_eq!(is_sampled(traceparent), sampled, "{traceparent}");
        }
    }
}
