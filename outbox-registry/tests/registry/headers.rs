//! Records whose schema is named in a header, as newer clients of Confluent can write them. The bytes
//! are those of `vectors.py`.

use std::sync::Mutex;

use outbox::consume::{EventContext, EventHandler, ForeignId, HandlerOptions, handler_fn};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxTx};
use outbox_registry::Registry;
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

use crate::events::{AVRO, PROTO, avro_event, protobuf_event};
use crate::stand_in::StandIn;

const HEADER: &str = "__value_schema_id";
/// That of the schema 14 of the stand-in, which goes by its last digits.
const GUID: &[u8] = b"\x01\x01\x8f\x00\x00\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x14";

/// Their writers know nothing of an outbox.
fn options() -> HandlerOptions {
    HandlerOptions::new().attempts(1).foreign(ForeignId::Header("n"))
}

async fn outbox() -> Outbox<Sqlite> {
    let pool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    outbox
}

avro_event!(Placed, "headers", AVRO);
static PLACED: Mutex<Vec<Placed>> = Mutex::new(Vec::new());

async fn placed(
    _: &mut OutboxTx<'_, Sqlite>,
    event: Placed,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    PLACED.lock().unwrap().push(event);
    Ok(())
}

#[tokio::test]
async fn an_event_in_avro_is_read_by_the_schema_that_its_header_names() {
    let stand_in = StandIn::start();
    stand_in.register("headers-value", 14, "AVRO", AVRO);
    Registry::connect(stand_in.config()).unwrap().reads::<Placed>().unwrap();
    let handler = handler_fn(placed).with_options(|_| options());
    let handler = HandlerTest::new(outbox().await, handler).unwrap();
    let message = TestMessage::foreign("headers", Some(b"o-1"), b"\x06o-1\xc4\x13\x00");
    let message = |n: &str| message.clone().header("n", n);
    let delivered = handler.deliver(&message("1").header(HEADER, GUID)).await.unwrap();
    assert_eq!(delivered, Delivery::Handled);
    let expected = Placed { order: "o-1".into(), cents: 1250, note: None };
    assert_eq!(*PLACED.lock().unwrap(), [expected]);
    let asked = stand_in.asked();
    assert_eq!(asked.last().unwrap(), "GET /schemas/guids/018f0000-0000-7000-8000-000000000014");

    // Without the header nobody can read it, and another one's is not there.
    let Delivery::Undecodable(why) = handler.deliver(&message("2")).await.unwrap() else {
        panic!()
    };
    assert!(why.contains("06 and not with 00") && why.contains(HEADER), "{why}");
    let mut lost = GUID.to_vec();
    lost[16] = 0x99;
    let delivered = handler.deliver(&message("3").header(HEADER, lost)).await.unwrap();
    let said = format!("{delivered:?}");
    assert!(said.contains("no schema 018f0000-0000-7000-8000-000000000099"), "{said}");
    assert!(said.contains("knows no GUIDs"), "{said}");
}

protobuf_event!(Shipped, "headers-protobuf", "shop.Placed", PROTO);
static SHIPPED: Mutex<Vec<(String, i64)>> = Mutex::new(Vec::new());

async fn shipped(
    _: &mut OutboxTx<'_, Sqlite>,
    event: Shipped,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    SHIPPED.lock().unwrap().push((event.order, event.cents));
    Ok(())
}

#[tokio::test]
async fn an_event_in_protobuf_is_the_message_that_its_header_names() {
    let stand_in = StandIn::start();
    stand_in.register("headers-protobuf-value", 14, "PROTOBUF", PROTO);
    Registry::connect(stand_in.config()).unwrap().reads::<Shipped>().unwrap();
    let handler = handler_fn(shipped).with_options(|_| options());
    let handler = HandlerTest::new(outbox().await, handler).unwrap();
    let message = TestMessage::foreign("headers-protobuf", None, b"\x0a\x03o-1\x10\xe2\x09");
    let named = |indexes: &[u8]| {
        message.clone().header("n", indexes).header(HEADER, [GUID, indexes].concat())
    };
    assert_eq!(handler.deliver(&named(&[2, 2])).await.unwrap(), Delivery::Handled);
    assert_eq!(*SHIPPED.lock().unwrap(), [("o-1".to_owned(), 1250)]);
    let Delivery::Undecodable(why) = handler.deliver(&named(&[0])).await.unwrap() else { panic!() };
    assert!(why.contains("message [0]"), "{why}");
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "headers-json", name = "order.placed", unlocked)]
struct Plain {
    #[event(key)]
    order: String,
}
static PLAIN: Mutex<Vec<Plain>> = Mutex::new(Vec::new());

async fn plain(
    _: &mut OutboxTx<'_, Sqlite>,
    event: Plain,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    PLAIN.lock().unwrap().push(event);
    Ok(())
}

#[tokio::test]
async fn json_with_such_a_header_is_read_without_a_registry() {
    let handler = handler_fn(plain).with_options(|_| options());
    let handler = HandlerTest::new(outbox().await, handler).unwrap();
    let message = TestMessage::foreign("headers-json", None, br#"{"order":"o-1"}"#);
    let delivered = handler.deliver(&message.header("n", "1").header(HEADER, GUID)).await.unwrap();
    assert_eq!(delivered, Delivery::Handled);
    assert_eq!(*PLAIN.lock().unwrap(), [Plain { order: "o-1".into() }]);
}
