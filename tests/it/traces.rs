//! Traces (`outbox::trace`), as the SDK of OpenTelemetry exports them: from a request over the
//! event's row, the relay and Kafka to its handlers, and through retries and replays.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{Context, KeyValue};
use outbox::admin::Replay;
use outbox::consume::{EventContext, LaterEvents, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::trace::{Propagation as _, Relation};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, transactional_outbox};
use outbox_opentelemetry::OpenTelemetry;
use sqlx::{Postgres, Sqlite};
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span, info_span};

use crate::support::consumers::{
    PERMANENT, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, dead_letters, new_consumer,
    until_dead_letters, until_handled, with_handled,
};
use crate::support::relays::{drain, drain_to, drained, kafka_publisher, new_relay};
use crate::support::topics::create_topic;
use crate::support::traces::{Traces, attribute, id, links};
use crate::support::{self, OrderCreated, POSTGRES, migrated};

async fn traced() -> Outbox<Postgres> {
    let pool = support::postgres(POSTGRES, 8).await;
    let outbox = Outbox::builder(pool).propagation(OpenTelemetry::new()).build().unwrap();
    with_handled(migrated(outbox).await).await
}

async fn traced_sqlite(propagation: OpenTelemetry) -> (Outbox<Sqlite>, tempfile::TempDir) {
    let (pool, directory) = support::sqlite(4).await;
    let outbox = Outbox::builder(pool).propagation(propagation).build().unwrap();
    (migrated(outbox).await, directory)
}

async fn emit<DB: OutboxDatabase, E: DomainEvent>(
    outbox: &Outbox<DB>,
    events: impl IntoIterator<Item = E>,
) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_all(events).unwrap();
    tx.commit().await.unwrap();
}

event_on_topic!(Placed, "traces-placed");
event_on_topic!(Paid, "traces-paid");

/// As the layers of web frameworks do: a span for the request, in the trace of its sender.
async fn in_a_span(request: Request, next: Next) -> Response {
    let span = span_of(&request);
    next.run(request).instrument(span).await
}

fn span_of(request: &Request) -> Span {
    let span = info_span!("POST /orders", otel.kind = "server");
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    assert!(OpenTelemetry::new().extract(&span, &header, Relation::Parent));
    span
}

struct Failed(OutboxError);

impl From<OutboxError> for Failed {
    fn from(error: OutboxError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

#[transactional_outbox(tx in outbox)]
async fn place(State(outbox): State<Outbox<Postgres>>) -> Result<StatusCode, Failed> {
    tx.emit(Placed::new("alice", 1))?;
    Ok(StatusCode::CREATED)
}

async fn pay(
    tx: &mut OutboxTx<'_, Postgres>,
    order: Placed,
    _: &EventContext,
) -> Result<(), OutboxError> {
    tx.emit(Paid::new(order.customer, order.n))?;
    Ok(())
}

const SENDER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn one_trace_goes_from_a_request_through_the_outbox_and_kafka_to_its_handlers() {
    let traces = Traces::of_this_thread();
    create_topic(Placed::TOPIC, 1, &[]).await;
    create_topic(Paid::TOPIC, 1, &[]).await;
    let outbox = traced().await;
    let app = Router::new().route("/orders", post(place)).layer(from_fn(in_a_span));
    let request = Request::post("/orders").header("traceparent", SENDER).body(Body::empty());
    let answer = app.with_state(outbox.clone()).oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(drain_to(&outbox, kafka_publisher()).await, 1);

    let consumer = new_consumer(&outbox).group("traces").handler(handler_fn(pay));
    let linked = new_consumer(&outbox).group("traces-linked").first_delivery(Relation::Link);
    let linked = RunningConsumer::start(linked.handler(handler_fn(pay)));
    let consumer = RunningConsumer::start(consumer);
    let handled = traces.until_ended("process traces-placed", 2).await;
    consumer.stop().await;
    linked.stop().await;
    assert_eq!(drain_to(&outbox, kafka_publisher()).await, 2);

    let request = traces.one("POST /orders");
    assert_eq!(request.parent_span_id, SpanId::from_hex("b7ad6b7169203331").unwrap());
    let trace = request.span_context.trace_id();
    let sent = traces.one("send traces-placed");
    assert_eq!((sent.span_kind.clone(), sent.status.clone()), (SpanKind::Client, Status::Unset));
    assert_eq!((links(&sent), sent.parent_span_id), (vec![id(&request)], id(&request)));

    let (child, alone): (Vec<_>, Vec<_>) =
        handled.into_iter().partition(|span| span.span_context.trace_id() == trace);
    let ([child], [alone]) = (&child[..], &alone[..]) else { panic!("{child:#?} {alone:#?}") };
    assert_eq!((child.span_kind.clone(), child.parent_span_id), (SpanKind::Consumer, id(&request)));
    assert_eq!(links(child), []);
    assert_eq!((alone.parent_span_id, links(alone)), (SpanId::INVALID, vec![id(&request)]));
    let on: HashSet<_> = traces
        .ended()
        .iter()
        .filter(|span| span.name.starts_with("send traces-paid"))
        .flat_map(links)
        .collect();
    assert_eq!(on, HashSet::from([id(child), id(alone)]), "what a handler emits is in its trace");

    for (span, name, value) in [
        (&sent, "messaging.system", "kafka"),
        (&sent, "messaging.operation.name", "send"),
        (&sent, "messaging.operation.type", "send"),
        (&sent, "messaging.destination.name", "traces-placed"),
        (&sent, "messaging.batch.message_count", "1"),
        (&sent, "messaging.kafka.message.key", "alice"),
        (child, "messaging.system", "kafka"),
        (child, "messaging.operation.name", "process"),
        (child, "messaging.operation.type", "process"),
        (child, "messaging.destination.name", "traces-placed"),
        (child, "messaging.destination.partition.id", "0"),
        (child, "messaging.consumer.group.name", "traces"),
        (child, "messaging.kafka.message.key", "alice"),
        (child, "messaging.kafka.offset", "0"),
        (child, "outbox.event.name", "order.created"),
        (child, "outbox.attempt", "1"),
        (child, "outbox.outcome", "handled"),
    ] {
        assert_eq!(attribute(span, name).as_deref(), Some(value), "{name} of {}", span.name);
    }
    let event = attribute(&sent, "messaging.message.id");
    assert!(event.is_some() && event == attribute(child, "messaging.message.id"), "{event:?}");
}

#[tokio::test]
async fn what_comes_again_from_a_retry_topic_the_dead_letters_or_the_outbox_is_linked() {
    event_on_topic!(Created, "traces-again");
    let traces = Traces::of_this_thread();
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = traced().await;
    let emitted = emit(&outbox, [Created::new("alice", 1)]).instrument(info_span!("emit"));
    emitted.await;
    let relay = || new_relay(&outbox, kafka_publisher()).retention(Duration::from_secs(3600));
    assert_eq!(drain(relay()).await.unwrap(), 1);

    let delays = [Duration::from_millis(10)];
    let options = QUICK.attempts(1).retry_topics(&delays, LaterEvents::Overtake);
    let attempts = Arc::new(AtomicUsize::new(0));
    let handler = Scripted::<Created>::new("again", options, move |_, _, _| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        async move { [TRANSIENT, PERMANENT].into_iter().nth(attempt).unwrap_or(Ok(())) }
    });
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "again", 1).await;
    dead_letters(Created::TOPIC, "again").replay(&letters[0]).await.unwrap();
    until_handled(&outbox, "again", 1).await;
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    assert_eq!(drain(relay()).await.unwrap(), 1);
    let own = traces.until_ended("process traces-again", 2).await;
    consumer.stop().await;

    let emitted = traces.one("emit");
    let [first, replayed] = &own[..] else { panic!("{own:#?}") };
    assert_eq!((first.parent_span_id, links(first)), (id(&emitted), vec![]));
    let retried = traces.one("process traces-again.again.retry.10ms");
    let letter = traces.one("process traces-again.again.retry.0");
    for span in [&retried, &letter, replayed] {
        let found = (span.parent_span_id, links(span));
        assert_eq!(found, (SpanId::INVALID, vec![id(&emitted)]), "{span:#?}");
    }
    for (span, class) in [(first, "transient"), (&retried, "permanent")] {
        assert_eq!(attribute(span, "error.type").as_deref(), Some(class));
        assert!(matches!(&span.status, Status::Error { description } if !description.is_empty()));
    }
    assert_eq!(attribute(&retried, "outbox.attempt").as_deref(), Some("2"));
    for (span, outcome) in [(&letter, "handled"), (replayed, "duplicate")] {
        assert_eq!(attribute(span, "outbox.outcome").as_deref(), Some(outcome));
        assert_eq!(span.status, Status::Unset);
    }
    let sent = traces.named("send traces-again");
    assert_eq!(sent.iter().map(links).collect::<Vec<_>>(), [[id(&emitted)], [id(&emitted)]]);
}

fn traceparent(n: u64, sampled: bool) -> String {
    format!("00-{:032x}-{n:016x}-{:02x}", 1, u8::from(sampled))
}

#[tokio::test]
async fn a_batch_is_linked_to_32_spans_at_most_and_to_those_that_are_recorded_first() {
    let traces = Traces::of_this_thread();
    let (outbox, _directory) = traced_sqlite(OpenTelemetry::new()).await;
    let mut tx = outbox.begin().await.unwrap();
    for n in 1..=50 {
        let context = traceparent(n, n > 45);
        tx.set_trace_context(|name| (name == "traceparent").then_some(&context));
        tx.emit_all([OrderCreated::new("alice", 1), OrderCreated::new("alice", 2)]).unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 100);
    let sent = traces.one("send order-events");
    assert_eq!(attribute(&sent, "messaging.batch.message_count").as_deref(), Some("100"));
    assert_eq!(attribute(&sent, "messaging.message.id"), None, "there are several");
    let expected: Vec<_> = (46..=50).chain(1..=27).map(SpanId::from).collect();
    assert_eq!((links(&sent), sent.parent_span_id), (expected, SpanId::INVALID));
}

#[tokio::test]
async fn each_topic_of_a_batch_has_its_span_and_the_failure_of_its_own_event() {
    event_on_topic!(Other, "traces-other");
    let traces = Traces::of_this_thread();
    let (outbox, _directory) = traced_sqlite(OpenTelemetry::new()).await;
    let events = async {
        let mut tx = outbox.begin().await.unwrap();
        tx.emit(OrderCreated::new("alice", 1)).unwrap();
        tx.emit(Other::new("alice", 2)).unwrap();
        tx.emit(OrderCreated::new("alice", 3)).unwrap();
        tx.commit().await.unwrap();
    };
    events.instrument(info_span!("emit")).await;
    let kafka = MemoryPublisher::new();
    kafka.refuse(|record| (record.topic == "traces-other").then(|| "not today".to_owned()));
    drain(new_relay(&outbox, kafka)).await.unwrap_err();

    let emitted = traces.one("emit");
    for (name, error, count) in
        [("send order-events", "not_sent", "2"), ("send traces-other", "refused", "1")]
    {
        let sent = &traces.named(name)[0];
        assert_eq!(attribute(sent, "error.type").as_deref(), Some(error), "{sent:#?}");
        assert!(matches!(sent.status, Status::Error { .. }));
        assert_eq!(attribute(sent, "messaging.batch.message_count").as_deref(), Some(count));
        assert_eq!((links(sent), sent.parent_span_id), (vec![id(&emitted)], id(&emitted)));
    }
}

#[tokio::test]
async fn a_refusal_of_kafka_is_in_the_span_by_its_name() {
    event_on_topic!(Created, "traces-refused");
    let traces = Traces::of_this_thread();
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = traced().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_to_partition(7, Created::new("alice", 1)).unwrap();
    tx.commit().await.unwrap();
    drain(new_relay(&outbox, kafka_publisher())).await.unwrap_err();
    let sent = &traces.named("send traces-refused")[0];
    assert_eq!(attribute(sent, "error.type").as_deref(), Some("UnknownPartition"));
    assert_eq!(links(sent), [], "it was emitted in no span");
}

async fn emit_another(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderCreated,
    context: &EventContext,
) -> Result<(), OutboxError> {
    SEEN.lock().unwrap().push((context.id, Context::current().baggage().to_string()));
    tx.emit(OrderCreated::new(order.customer, 2))?;
    Ok(())
}

/// The baggage with which events were handled, by their ids.
static SEEN: Mutex<Vec<(uuid::Uuid, String)>> = Mutex::new(Vec::new());

#[tokio::test]
async fn baggage_goes_with_an_event_only_if_it_is_asked_for() {
    let traces = Traces::of_this_thread();
    for (propagation, header) in
        [(OpenTelemetry::new(), None), (OpenTelemetry::with_baggage(), Some("tenant=acme"))]
    {
        let (outbox, _directory) = traced_sqlite(propagation).await;
        let mut tx = outbox.begin().await.unwrap();
        let id = info_span!("emit").in_scope(|| {
            let context = Context::current().with_baggage([KeyValue::new("tenant", "acme")]);
            let _attached = context.attach();
            tx.emit(OrderCreated::new("alice", 1)).unwrap()
        });
        tx.commit().await.unwrap();
        let [first] = <[_; 1]>::try_from(drained(&outbox).await).unwrap();
        assert_eq!(first.headers.get("baggage"), header);
        let handlers = HandlerTest::new(outbox.clone(), handler_fn(emit_another)).unwrap();
        assert_eq!(handlers.deliver(&first.into()).await.unwrap(), Delivery::Handled);
        let seen = SEEN.lock().unwrap().iter().find(|seen| seen.0 == id).cloned();
        assert_eq!(seen.map(|seen| seen.1).as_deref(), Some(header.unwrap_or_default()));
        let [second] = <[_; 1]>::try_from(drained(&outbox).await).unwrap();
        assert_eq!(second.headers.get("baggage"), header, "the handler passes it on");
    }
    assert_eq!(traces.named("process order-events").len(), 2);
}

#[tokio::test]
async fn without_spans_a_handler_passes_the_trace_of_its_event_on() {
    let (plain, _directory) = support::sqlite(4).await;
    let plain = migrated(Outbox::new(plain)).await;
    // Nobody listens on this thread.
    let (traced, _other) = traced_sqlite(OpenTelemetry::with_baggage()).await;
    for outbox in [plain, traced] {
        let message = TestMessage::of(&OrderCreated::new("alice", 1)).unwrap();
        let message = message
            .header("traceparent", SENDER)
            .header("tracestate", "vendor=1")
            .header("baggage", "tenant=acme");
        let handlers = HandlerTest::new(outbox.clone(), handler_fn(emit_another)).unwrap();
        assert_eq!(handlers.deliver(&message).await.unwrap(), Delivery::Handled);
        let [emitted] = <[_; 1]>::try_from(drained(&outbox).await).unwrap();
        for (name, value) in
            [("traceparent", Some(SENDER)), ("tracestate", Some("vendor=1")), ("baggage", None)]
        {
            assert_eq!(emitted.headers.get(name), value, "{name}");
        }
    }
}
