//! From spans to requests: the SDK of OpenTelemetry, with its variables.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use outbox::{OutboxBuilder, OutboxDatabase};
use outbox_opentelemetry::OpenTelemetry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;

use super::SpanLayer;
use super::client::{Cause, Client};
use super::endpoint::endpoint;
use crate::failure::Failure;
use crate::settings::Settings;

/// Longest time for a request and its retries, unless the variable of OpenTelemetry gives another.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Longest time in which the last spans are sent, at the end of the process.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// The target of the spans of an outbox.
const TARGET: &str = "outbox::trace";
/// The name of the service, unless a variable of OpenTelemetry gives another.
const SERVICE: &str = "outbox-relay";

/// The spans of this process, on their way to the collector.
pub struct Spans(Option<Sending>);

struct Sending {
    provider: SdkTracerProvider,
    counts: Arc<Counts>,
}

/// Of spans that the sampler chose.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    sent: AtomicU64,
}

impl Spans {
    /// Sends spans from now on, if `--otlp` asks for it.
    pub fn start(settings: &Settings) -> Result<Self, Failure> {
        let Some(option) = &settings.collector else { return Ok(Self(None)) };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self(None));
        }
        let endpoint = endpoint(option, &variable)?;
        let cause = Cause::default();
        let within = timeout();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(within, Arc::clone(&cause))?)
            .with_timeout(within)
            .with_endpoint(endpoint.to_string())
            .build()
            .map_err(|error| {
                Failure::configuration(format!("`--otlp`: {error}. Nothing was started"))
            })?;
        let counts = Arc::new(Counts::default());
        let exporter =
            Exporter { inner: exporter, counts: Arc::clone(&counts), cause, fails: false.into() };
        let processor = Processor {
            inner: BatchSpanProcessor::builder(exporter).build(),
            counts: Arc::clone(&counts),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_span_processor(processor)
            .build();
        Ok(Self(Some(Sending { provider, counts })))
    }

    /// Takes the outbox's spans, whatever the log's filter is.
    pub fn layer(&self) -> SpanLayer {
        let sending = self.0.as_ref()?;
        let tracer = sending.provider.tracer("outbox");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let only = Targets::new().with_target(TARGET, LevelFilter::INFO);
        Some(layer.with_filter(only).boxed())
    }

    /// Sends what is left, within a deadline.
    pub async fn finish(self) {
        let Some(Sending { provider, counts }) = self.0 else { return };
        // It waits for its thread, which needs the runtime.
        let shutdown = move || provider.shutdown_with_timeout(FLUSH_WITHIN);
        let _ = tokio::task::spawn_blocking(shutdown).await;
        let (ended, sent) =
            (counts.ended.load(Ordering::Relaxed), counts.sent.load(Ordering::Relaxed));
        if ended > sent {
            tracing::warn!(
                lost = ended - sent,
                sent,
                "spans did not get to the collector. No event depends on them"
            );
        }
    }
}

/// The outbox passes trace contexts on if there is a collector.
pub fn propagating<DB: OutboxDatabase>(
    builder: OutboxBuilder<DB>,
    settings: &Settings,
) -> OutboxBuilder<DB> {
    match settings.collector {
        Some(_) => builder.propagation(OpenTelemetry::new()),
        None => builder,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn timeout() -> Duration {
    ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
        .iter()
        .find_map(|name| variable(name)?.parse().ok())
        .map_or(SEND_WITHIN, Duration::from_millis)
}

/// As the variables say: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
fn resource() -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&"service.name".into()).map(|name| name.to_string());
    if name.is_none_or(|name| name.starts_with("unknown_service")) {
        return Resource::builder().with_service_name(SERVICE).build();
    }
    resource
}

/// Counts the spans that end.
#[derive(Debug)]
struct Processor {
    inner: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanProcessor for Processor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.counts.ended.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(within)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts the spans that the collector takes, and says once that it takes none.
#[derive(Debug)]
struct Exporter<E> {
    inner: E,
    counts: Arc<Counts>,
    cause: Cause,
    fails: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Exporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.inner.export(batch).await;
        if let Err(error) = &exported {
            if !self.fails.swap(true, Ordering::Relaxed) {
                let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
                let error = cause.unwrap_or_else(|| error.to_string());
                tracing::warn!(
                    error,
                    "the collector does not take spans: they are given up. The relay publishes as before"
                );
            }
            return exported;
        }
        self.counts.sent.fetch_add(spans, Ordering::Relaxed);
        if self.fails.swap(false, Ordering::Relaxed) {
            tracing::info!("the collector takes spans again");
        }
        exported
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(within)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
