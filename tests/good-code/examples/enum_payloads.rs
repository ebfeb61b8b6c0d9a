//! The payload of an enum's event is the content of its variant: structs read what enums wrote, and
//! enums what structs wrote. A consumer's enum chooses its variant by name and version.
use outbox::consume::{EventContext, ForeignId, HandlerOptions, handler_fn};
use outbox::event::EventRecord;
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

/// As one service writes the events.
mod written {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "orders", duplicate)]
    #[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
    pub enum OrderEvent<'a> {
        #[event(name = "order.placed", version = 2)]
        Placed {
            #[event(key)]
            order_id: u64,
            #[serde(rename = "for")]
            customer: &'a str,
        },
        #[event(name = "order.paid")]
        Paid(#[event(key)] u64, u64),
        #[event(name = "order.renamed")]
        Renamed(#[event(key)] u64),
        #[event(name = "midnight", keyless)]
        Midnight,
        #[event(name = "order.closed", keyless)]
        Closed {},
    }

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "orders", name = "midnight", keyless, duplicate)]
    pub struct Midnight;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "orders", name = "order.placed", duplicate)]
    pub struct PlacedV1 {
        #[event(key)]
        pub order_id: u64,
    }
}

/// As another one reads them.
mod read {
    use super::*;

    #[derive(Debug, Deserialize, Serialize, DomainEvent)]
    #[event(topic = "orders", duplicate)]
    pub enum OrderEvent {
        // In another order, under other names, and two of one form.
        #[event(name = "order.renamed")]
        NewNumber(#[event(key)] u64),
        #[serde(skip)]
        #[event(keyless)]
        #[allow(dead_code)]
        NotSent(std::marker::PhantomData<fn()>),
        #[event(name = "order.cancelled")]
        #[allow(dead_code)]
        Cancelled(#[event(key)] u64),
        #[event(name = "order.paid")]
        #[serde(alias = "paid", alias = "payed")]
        Paid(#[event(key)] u64, u64),
        #[event(name = "midnight", keyless)]
        DayEnded,
        #[event(name = "order.closed", keyless)]
        Closed { by: Option<String> },
        #[event(name = "order.placed", version = 2, upcast_from = PlacedV1)]
        #[serde(rename_all = "camelCase")]
        Placed {
            #[event(key)]
            order_id: u64,
            r#for: String,
        },
    }

    #[derive(Deserialize, Serialize, DomainEvent)]
    #[event(topic = "orders", name = "order.placed", duplicate)]
    pub struct PlacedV1 {
        #[event(key)]
        order_id: u64,
    }

    impl From<PlacedV1> for OrderEvent {
        fn from(old: PlacedV1) -> Self {
            match old.order_id {
                0 => Self::DayEnded,
                order_id => Self::Placed { order_id, r#for: "unknown".to_owned() },
            }
        }
    }

    #[derive(Debug, Deserialize, Serialize, DomainEvent)]
    #[event(topic = "orders", name = "order.placed", version = 2, duplicate)]
    pub struct Placed {
        #[event(key)]
        #[serde(rename = "orderId")]
        pub order: u64,
        #[serde(rename = "for")]
        pub customer: String,
    }

    #[derive(Debug, Deserialize, Serialize, DomainEvent)]
    #[event(topic = "orders", name = "midnight", keyless, duplicate)]
    pub struct Midnight {
        pub zone: Option<String>,
    }
}

async fn show(
    _: &mut OutboxTx<'_, Sqlite>,
    event: read::OrderEvent,
    context: &EventContext,
) -> Result<(), String> {
    Err(format!("{} {} is {event:?}", context.name, context.version))
}

async fn show_placed(
    _: &mut OutboxTx<'_, Sqlite>,
    event: read::Placed,
    _: &EventContext,
) -> Result<(), String> {
    Err(format!("{event:?}"))
}

async fn show_midnight(
    _: &mut OutboxTx<'_, Sqlite>,
    event: read::Midnight,
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

fn payload(event: &written::OrderEvent<'_>) -> String {
    let record = EventRecord::from_event(event).unwrap();
    String::from_utf8(record.payload.unwrap()).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    use written::OrderEvent::{Closed, Midnight, Paid, Placed, Renamed};

    let placed = Placed { order_id: 1, customer: "alice" };
    assert_eq!(payload(&placed), r#"{"orderId":1,"for":"alice"}"#);
    assert_eq!(payload(&Paid(1, 2)), "[1,2]");
    assert_eq!(payload(&Renamed(1)), "1");
    assert_eq!(payload(&Midnight), "{}");
    assert_eq!(payload(&Closed {}), "{}");
    let midnight = EventRecord::from_event(&&&written::Midnight).unwrap();
    assert_eq!(midnight.payload.as_deref(), Some(&b"{}"[..]), "and so is that of a struct");

    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let test = HandlerTest::new(outbox.clone(), handler_fn(show))?;
    for (event, expected) in [
        (placed, r#"order.placed 2 is Placed { order_id: 1, for: "alice" }"#),
        (Paid(1, 2), "order.paid 1 is Paid(1, 2)"),
        (Renamed(1), "order.renamed 1 is NewNumber(1)"),
        (Midnight, "midnight 1 is DayEnded"),
        (Closed {}, "order.closed 1 is Closed { by: None }"),
    ] {
        let read = test.deliver(&TestMessage::of(&event)?).await?;
        assert_eq!(said(read), expected);
    }

    // What a struct wrote, an older one, and what another language wrote.
    let read = test.deliver(&TestMessage::of(&written::Midnight)?).await?;
    assert_eq!(said(read), "midnight 1 is DayEnded");
    let old = TestMessage::of(&written::PlacedV1 { order_id: 7 })?;
    let old = old.payload(r#"{"order_id": 7}"#);
    assert_eq!(
        said(test.deliver(&old).await?),
        r#"order.placed 1 is Placed { order_id: 7, for: "unknown" }"#
    );
    let java = TestMessage::foreign("orders", None, r#"{"by": "bob", "more": [1]}"#)
        .header("ce_id", uuid::Uuid::now_v7().to_string())
        .header("ce_type", "order.closed");
    let read = test.deliver(&java).await?;
    assert_eq!(said(read), r#"order.closed 1 is Closed { by: Some("bob") }"#);
    let null = java.clone().header("ce_type", "midnight").payload("null");
    assert_eq!(said(test.deliver(&null).await?), "midnight 1 is DayEnded");

    // Never the wrong one.
    let refused = |delivery: Delivery, why: &str| {
        let Delivery::Undecodable(said) = delivery else { panic!("{delivery:?}") };
        assert!(said.contains(why), "{said}");
    };
    let wrong = TestMessage::of(&written::PlacedV1 { order_id: 0 })?.payload(r#"{"order_id": 0}"#);
    refused(test.deliver(&wrong).await?, "read as event `midnight`");
    let later = TestMessage::of(&Midnight)?.header("ce_dataversion", "2");
    refused(test.deliver(&later).await?, "no handler takes version 2 of event `midnight`");
    let tagged =
        TestMessage::of(&Closed {})?.payload(r#"{"Paid":[1,2]}"#).header("ce_type", "order.paid");
    refused(test.deliver(&tagged).await?, "cannot be decoded");
    let skipped = TestMessage::of(&Closed {})?.header("ce_type", "NotSent");
    refused(test.deliver(&skipped).await?, "`NotSent` is marked `#[serde(skip)]`");
    let other = TestMessage::of(&Closed {})?.header("ce_type", "order.opened");
    assert_eq!(test.deliver(&other).await?, Delivery::PassedOver);

    // Structs read what the enum wrote.
    let test = HandlerTest::new(outbox.clone(), handler_fn(show_placed))?;
    let message = TestMessage::of(&Placed { order_id: 1, customer: "alice" })?;
    let read = test.deliver(&message).await?;
    assert_eq!(said(read), r#"Placed { order: 1, customer: "alice" }"#);
    let test = HandlerTest::new(outbox.clone(), handler_fn(show_midnight))?;
    let read = test.deliver(&TestMessage::of(&Midnight)?).await?;
    assert_eq!(said(read), "Midnight { zone: None }");

    // A message without headers says by its payload which event it is, as serde reads an enum.
    let foreign = HandlerOptions::new().foreign(ForeignId::Place);
    let test = HandlerTest::new(outbox, handler_fn(show).options(foreign))?;
    let nameless = TestMessage::foreign("orders", None, r#"{"payed": [3, 4]}"#);
    let read = test.deliver(&nameless).await?;
    assert!(said(read).ends_with("is Paid(3, 4)"));
    let nameless = TestMessage::foreign("orders", None, r#"{"by": "bob"}"#);
    assert!(matches!(test.deliver(&nameless).await?, Delivery::Undecodable(_)));
    Ok(())
}
