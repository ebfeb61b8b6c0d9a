//! Each variant of a transparent enum is the event in it, in all that there is of an event.
#![deny(warnings)]
use std::time::{Duration, SystemTime};

use outbox::codec::{Codec, CodecError, Decode, Encode};
use outbox::consume::{EventContext, ForeignId, HandlerOptions, handler_fn};
use outbox::event::EventRecord;
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use uuid::Uuid;

#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct PlacedV1 {
    #[event(key)]
    order: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2, upcast_from = PlacedV1)]
struct Placed {
    #[event(id)]
    id: Uuid,
    #[event(key, header = "x-order")]
    order: u64,
    #[event(occurred_at)]
    at: SystemTime,
}

impl From<PlacedV1> for Placed {
    fn from(old: PlacedV1) -> Self {
        Self { id: Uuid::max(), order: old.order, at: SystemTime::UNIX_EPOCH }
    }
}

struct Text;

impl Codec for Text {
    const CONTENT_TYPE: &'static str = "text/plain";
}

impl Encode<Noted> for Text {
    fn encode(value: &Noted, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.0.as_bytes());
        Ok(())
    }
}

impl Decode<Noted> for Text {
    fn decode(payload: &[u8]) -> Result<Noted, CodecError> {
        String::from_utf8(payload.to_vec()).map(Noted).map_err(CodecError::new)
    }
}

#[derive(Debug, Clone, DomainEvent)]
#[event(topic = "notes", codec = Text, keyless)]
struct Noted(String);

/// Several events itself.
#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments")]
enum PaymentEvent {
    Paid(#[event(key)] u64),
    Refunded(#[event(key)] u64),
}

#[derive(Debug, Clone, DomainEvent)]
#[event(transparent)]
enum Event {
    Placed(Placed),
    Payment { event: Box<PaymentEvent> },
    Noted(Noted),
}

impl From<Placed> for Event {
    fn from(placed: Placed) -> Self {
        Self::Placed(placed)
    }
}

// Only emitted: what is in it need not be readable.
#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", duplicate, name = "order.placed")]
struct Borrowed<'a>(#[event(key)] &'a str);

#[derive(DomainEvent)]
#[event(transparent)]
enum Emitted<'a, T: DomainEvent> {
    Borrowed(Borrowed<'a>),
    Other(&'a T),
}

#[derive(Debug, DomainEvent)]
#[event(transparent)]
struct Traced<E>(E);

// An older version of an event whose type says nothing of it.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.closed", version = 2, keyless)]
struct Closed;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.closed", keyless)]
struct ClosedV1;

#[derive(Debug, DomainEvent)]
#[event(transparent)]
enum Late {
    #[event(upcast_from = ClosedV1)]
    Closed(Closed),
}

impl From<ClosedV1> for Late {
    fn from(_: ClosedV1) -> Self {
        Self::Closed(Closed)
    }
}

fn is_the_same<A: DomainEvent, B: DomainEvent>(outer: &A, inner: &B) {
    let [outer, inner] = [EventRecord::from_event(outer), EventRecord::from_event(inner)];
    let (mut outer, inner) = (outer.unwrap(), inner.unwrap());
    if inner.id != placed().id {
        (outer.id, outer.occurred_at) = (inner.id, inner.occurred_at);
    }
    assert_eq!(outer, inner);
}

fn placed() -> Placed {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    Placed { id: Uuid::from_u128(7), order: 1, at }
}

async fn show(_: &mut OutboxTx<'_, Sqlite>, event: Event, _: &EventContext) -> Result<(), String> {
    Err(format!("{event:?}"))
}

async fn show_traced(
    _: &mut OutboxTx<'_, Sqlite>,
    event: Traced<Box<Late>>,
    _: &EventContext,
) -> Result<(), String> {
    Err(format!("{event:?}"))
}

async fn show_payment(
    _: &mut OutboxTx<'_, Sqlite>,
    event: PaymentEvent,
    _: &EventContext,
) -> Result<(), String> {
    Err(format!("{event:?}"))
}

fn said(delivery: Delivery) -> String {
    match delivery {
        Delivery::Failed { error, .. } => error,
        other => format!("{other:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    let noted = Noted("a note".to_owned());
    let payment = PaymentEvent::Refunded(3);
    is_the_same(&Event::from(placed()), &placed());
    is_the_same(&Event::Noted(noted.clone()), &noted);
    is_the_same(&Event::Payment { event: Box::new(payment.clone()) }, &payment);
    is_the_same(&Emitted::Other::<Noted>(&noted), &noted);
    is_the_same(&Emitted::<Noted>::Borrowed(Borrowed("1")), &Borrowed("1"));
    is_the_same(&Traced(&Event::Noted(noted.clone())), &noted);
    let names: Vec<_> = Event::DESCRIPTORS.iter().map(|event| event.name).collect();
    assert_eq!(names, ["order.placed", "Paid", "Refunded", "Noted"]);
    assert_eq!(Event::older_versions(), PlacedV1::DESCRIPTORS);

    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let test = HandlerTest::new(outbox.clone(), handler_fn(show))?;
    let read = test.deliver(&TestMessage::of(&noted)?).await?;
    assert_eq!(said(read), r#"Noted(Noted("a note"))"#);
    let read = test.deliver(&TestMessage::of(&payment)?).await?;
    assert_eq!(said(read), "Payment { event: Refunded(3) }");
    let read = test.deliver(&TestMessage::of(&PlacedV1 { order: 5 })?).await?;
    assert!(said(read).starts_with("Placed(Placed { id: ffffffff-"));
    let later = TestMessage::of(&noted)?.header("ce_dataversion", "2");
    assert!(matches!(test.deliver(&later).await?, Delivery::Undecodable(_)));
    let swapped = TestMessage::of(&noted)?.header("ce_type", "Paid");
    assert_eq!(
        test.deliver(&swapped).await?,
        Delivery::PassedOver,
        "there is no such event of its topic"
    );

    let test = HandlerTest::new(outbox.clone(), handler_fn(show_payment))?;
    let event = Event::Payment { event: Box::new(PaymentEvent::Paid(4)) };
    assert_eq!(said(test.deliver(&TestMessage::of(&event)?).await?), "Paid(4)");

    let test = HandlerTest::new(outbox.clone(), handler_fn(show_traced))?;
    let old = TestMessage::of(&ClosedV1)?;
    assert_eq!(said(test.deliver(&old).await?), "Traced(Closed(Closed))");

    // Without a name, nothing says which of several events a message is.
    let foreign = HandlerOptions::new().foreign(ForeignId::Place);
    let refused = HandlerTest::new(outbox.clone(), handler_fn(show).options(foreign));
    assert!(refused.unwrap_err().to_string().contains("which of its events they are"));
    let one = foreign.only(&["Noted"]);
    let test = HandlerTest::new(outbox, handler_fn(show).options(one))?;
    let read = test.deliver(&TestMessage::foreign("notes", None, "by hand")).await?;
    assert_eq!(said(read), r#"Noted(Noted("by hand"))"#);
    Ok(())
}
