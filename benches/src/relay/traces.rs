//! What traces cost a relay that drains a backlog.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use outbox::{Outbox, OutboxTx};
use outbox_bench_report::{Drained, Tracing};
use outbox_opentelemetry::OpenTelemetry;
use sqlx::Postgres;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::drain::{drain_from, filled};
use crate::{Failure, OrderCreated, outbox};

/// One of so many traces is recorded.
const RECORDED: u64 = 100;

/// Prepares a backlog whose events have a trace each.
pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    let with_trace = |tx: &mut OutboxTx<'_, Postgres>, n: u64| {
        let recorded = u8::from(n.is_multiple_of(RECORDED));
        let context = format!("00-{:032x}-{:016x}-{recorded:02x}", n + 1, n + 1);
        tx.set_trace_context(|name| (name == "traceparent").then_some(&context));
        tx.emit(OrderCreated::new(n % 10_000, n)).map(drop)
    };
    filled(events, with_trace).await?;
    Ok(())
}

/// The relay from the beginning of that backlog.
pub(crate) async fn drain(tracing: Tracing, events: u64) -> Result<Drained, Failure> {
    let plain = outbox(2).await?;
    if tracing == Tracing::Off {
        return drain_from(plain, events).await;
    }
    let pool = plain.pool().clone();
    let traced = Outbox::builder(pool).propagation(OpenTelemetry::new()).build()?;
    if tracing == Tracing::Unheard {
        return drain_from(traced, events).await;
    }
    let sampler = Sampler::TraceIdRatioBased(1.0 / RECORDED as f64);
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_batch_exporter(Nowhere)
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    tracing_subscriber::registry().with(layer).init();
    let drained = drain_from(traced, events).await;
    provider.shutdown()?;
    drained
}

/// A collector that takes everything at once.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}
