//! The spans of a test, as the SDK of OpenTelemetry exports them.

use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::log::Log;
use super::wait::eventually_some;

/// The spans of a thread.
pub struct Traces {
    exporter: InMemorySpanExporter,
    /// Spans are exported while it lives.
    _provider: SdkTracerProvider,
    _guard: DefaultGuard,
}

impl Traces {
    /// Those of this thread, from now on: in a test on one thread, all of them.
    pub fn of_this_thread() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        Self { exporter, _provider: provider, _guard: guard }
    }

    /// The same, and what this thread says.
    pub fn and_log_of_this_thread(filter: &str) -> (Self, Log) {
        let (exporter, log) = (InMemorySpanExporter::default(), Log::default());
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.writer());
        let lines = lines.with_filter(EnvFilter::new(filter));
        let guard = tracing::subscriber::set_default(
            tracing_subscriber::registry().with(layer).with(lines),
        );
        (Self { exporter, _provider: provider, _guard: guard }, log)
    }

    /// The spans that have ended, in the order of their ends.
    pub fn ended(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// Those with this name.
    pub fn named(&self, name: &str) -> Vec<SpanData> {
        self.ended().into_iter().filter(|span| span.name == name).collect()
    }

    /// The only one with this name.
    pub fn one(&self, name: &str) -> SpanData {
        let [span] = <[SpanData; 1]>::try_from(self.named(name)).unwrap_or_else(|several| {
            panic!("{} spans `{name}` among {:#?}", several.len(), self.ended())
        });
        span
    }

    /// Waits until `count` spans with this name have ended.
    pub async fn until_ended(&self, name: &str, count: usize) -> Vec<SpanData> {
        let ended = async || {
            let spans = self.named(name);
            (spans.len() >= count).then_some(spans)
        };
        eventually_some(&format!("{count} spans `{name}` have ended"), ended).await
    }
}

pub fn id(span: &SpanData) -> SpanId {
    span.span_context.span_id()
}

/// The spans that it is linked to.
pub fn links(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

/// An attribute, as text.
pub fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let KeyValue { value, .. } =
        span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(match value {
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    })
}
