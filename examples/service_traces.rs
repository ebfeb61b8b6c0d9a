//! One trace from a request through the outbox to a handler, and on to what that emits.
//!
//! ```text
//! POST /orders
//!   send orders
//!   process orders
//!     send invoices
//! ```

use std::error::Error;

use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use outbox::testing::{HandlerTest, MemoryPublisher, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, Relay, event_handler};
use outbox_opentelemetry::OpenTelemetry;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] String);

#[derive(Serialize, DomainEvent)]
#[event(topic = "invoices", name = "invoice.sent")]
struct InvoiceSent(#[event(key)] String);

async fn place_order(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let mut tx = outbox.begin().await?;
    tx.emit(OrderPlaced("alice".into()))?;
    tx.commit().await
}

#[event_handler(group = "billing")]
async fn bill(tx: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), OutboxError> {
    tx.emit(InvoiceSent(order.0))?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // A service has the exporter of `opentelemetry-otlp` here.
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("orders"));
    tracing_subscriber::registry().with(layer).init();

    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::builder(pool).propagation(OpenTelemetry::new()).build()?;
    outbox.migrate().await?;

    // Web frameworks have layers that make this span, in the trace of the sender.
    let request = info_span!("POST /orders", otel.kind = "server");
    place_order(&outbox).instrument(request).await?;

    let kafka = MemoryPublisher::new();
    Relay::new(outbox.clone(), kafka.clone()).drain().await?;
    let billing = HandlerTest::new(outbox.clone(), bill())?;
    for event in kafka.published() {
        billing.deliver(&TestMessage::from(event)).await?;
    }
    Relay::new(outbox, kafka).drain().await?;

    print_children(&exporter.get_finished_spans()?, SpanId::INVALID, "");
    Ok(())
}

fn print_children(spans: &[SpanData], parent: SpanId, indent: &str) {
    for span in spans.iter().filter(|span| span.parent_span_id == parent) {
        println!("{indent}{}", span.name);
        print_children(spans, span.span_context.span_id(), &format!("{indent}  "));
    }
}
