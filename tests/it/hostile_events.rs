//! No event, no header and no error or panic of the user's code ends a consumer, or is handled as
//! something that it is not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::support::consumers::{
    RunningConsumer, Scripted, consume, consumer_outbox, dead_letters, new_consumer, publish,
    until_dead_letters, until_handled,
};
use crate::support::kafka;
use crate::support::log::Log;
use crate::support::topics::create_topic;
use outbox::codec::{Codec, CodecError, Decode, Encode};
use outbox::consume::{
    ErrorClass, EventContext, EventHandler, ForeignId, HandlerOptions, UnknownEvents, handler_fn,
};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxTx};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Serialize};

on_every_store! {
    a_payload_that_is_read_as_another_event_is_undecodable
    a_foreign_message_may_be_any_event_of_its_handler
    a_header_that_is_not_text_is_not_taken_for_a_missing_one
    a_panic_of_the_users_code_is_a_failure_like_others
}

/// Both variants fit a payload with an id.
#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[serde(untagged)]
#[event(topic = "order-events")]
enum Order {
    #[event(name = "order.cancelled")]
    Cancelled {
        #[event(key)]
        id: u32,
    },
    #[event(name = "order.paid")]
    Paid {
        #[event(key)]
        id: u32,
        cents: i64,
    },
}

async fn handle_order<DB: OutboxDatabase>(
    _: &mut OutboxTx<'_, DB>,
    _: Order,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

async fn a_payload_that_is_read_as_another_event_is_undecodable<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let handler = HandlerTest::new(outbox, handler_fn(handle_order::<DB>)).unwrap();
    let cancelled = TestMessage::of(&Order::Cancelled { id: 1 }).unwrap();
    assert_eq!(handler.deliver(&cancelled).await.unwrap(), Delivery::Handled);
    let paid = TestMessage::of(&Order::Paid { id: 1, cents: 5 }).unwrap();
    let delivery = handler.deliver(&paid).await.unwrap();
    let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("order.paid") && why.contains("order.cancelled"), "{why}");
}

async fn a_foreign_message_may_be_any_event_of_its_handler<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let options = HandlerOptions::new().foreign(ForeignId::Place);
    let handler =
        HandlerTest::new(outbox, handler_fn(handle_order::<DB>).options(options)).unwrap();
    for payload in [r#"{"id":1}"#, r#"{"id":1,"cents":5}"#] {
        let foreign = TestMessage::foreign("order-events", None, payload);
        assert_eq!(handler.deliver(&foreign).await.unwrap(), Delivery::Handled);
    }
}

async fn a_header_that_is_not_text_is_not_taken_for_a_missing_one<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let options = HandlerOptions::new().foreign(ForeignId::Place);
    let handler =
        HandlerTest::new(outbox, handler_fn(handle_order::<DB>).options(options)).unwrap();
    let cancelled = || TestMessage::of(&Order::Cancelled { id: 1 }).unwrap();
    for (message, hint) in [
        (cancelled().header("ce_type", b"\xff"), "`ce_type` is not text"),
        (cancelled().header("ce_dataversion", b"\xff"), "version 0"),
    ] {
        let delivery = handler.deliver(&message).await.unwrap();
        let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
        assert!(why.contains(hint), "{why}");
    }
    let with_bytes = cancelled().header("x-bytes", b"\xff");
    assert_eq!(handler.deliver(&with_bytes).await.unwrap(), Delivery::Handled);
}

/// What the user's code does wrong, as a text: "codec panics".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bad(String);

impl Bad {
    fn is(&self, what: &str) -> bool {
        self.0 == what
    }
}

struct BadCodec;

impl Codec for BadCodec {
    const CONTENT_TYPE: &'static str = "text/plain";
}

impl Encode<BadEvent> for BadCodec {
    fn encode(event: &BadEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(event.bad.0.as_bytes());
        Ok(())
    }
}

impl Decode<BadEvent> for BadCodec {
    fn decode(payload: &[u8]) -> Result<BadEvent, CodecError> {
        let bad = Bad(String::from_utf8_lossy(payload).into_owned());
        if bad.is("codec panics") {
            panic!("in the codec");
        }
        if bad.is("codec's error") {
            return Err(CodecError::new(BadError("in Display")));
        }
        Ok(BadEvent { key: "k", bad })
    }
}

#[derive(Debug, DomainEvent)]
#[event(topic = "bad-events", codec = BadCodec)]
struct BadEvent {
    #[event(key)]
    key: &'static str,
    bad: Bad,
}

impl BadEvent {
    fn new(bad: &str) -> Self {
        Self { key: "k", bad: Bad(bad.to_owned()) }
    }
}

impl Drop for BadEvent {
    fn drop(&mut self) {
        if self.bad.is("event's drop") && !std::thread::panicking() {
            panic!("in the event's drop");
        }
    }
}

/// Where it panics, or what is endless in it.
#[derive(Debug)]
struct BadError(&'static str);

static RING: BadError = BadError("ring");

impl fmt::Display for BadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "in Display" => panic!("in Display"),
            "endless" => (0..10_000_000).try_for_each(|_| f.write_str("endless ")),
            _ => f.write_str(self.0),
        }
    }
}

impl std::error::Error for BadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0 {
            "in source" => panic!("in source"),
            "ring" => Some(&RING),
            _ => None,
        }
    }
}

impl Drop for BadError {
    fn drop(&mut self) {
        if self.0 == "in drop" {
            std::panic::panic_any(BadError("in drop"));
        }
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the future's drop");
    }
}

struct BadHandler;

impl<DB: OutboxDatabase> EventHandler<DB> for BadHandler {
    type Event = BadEvent;
    type Error = BadError;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new().group("bad").attempts(1).timeout(Duration::from_millis(200))
    }

    fn classify(&self, error: &BadError) -> ErrorClass {
        if error.0 == "in classify" {
            panic!("in classify");
        }
        ErrorClass::Permanent
    }

    async fn handle(
        &self,
        _: &mut OutboxTx<'_, DB>,
        event: BadEvent,
        _: &EventContext,
    ) -> Result<(), BadError> {
        match &*event.bad.0 {
            "handler" => std::panic::panic_any(BadError("in drop")),
            "future's drop" => {
                let _bomb = Bomb;
                std::future::pending().await
            }
            "well" | "event's drop" => Ok(()),
            other => Err(BadError(
                ERRORS.iter().find(|(name, _)| *name == other).map_or("just so", |(name, _)| name),
            )),
        }
    }
}

/// Errors of the handler by name, and what is left to say of them.
const ERRORS: &[(&str, &str)] = &[
    ("just so", "just so"),
    ("in Display", "its `Display` panicked: in Display"),
    ("in source", "in source"),
    ("in drop", "in drop"),
    ("in classify", "in classify"),
    ("ring", "ring"),
    ("endless", "endless endless"),
];

async fn a_panic_of_the_users_code_is_a_failure_like_others<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let handler = HandlerTest::new(outbox, BadHandler).unwrap();
    let message = |bad: &str| TestMessage::of(&BadEvent::new(bad)).unwrap();
    let others = [
        ("handler", "panicked"),
        ("event's drop", "panicked: in the event's drop"),
        ("future's drop", "did not end within"),
    ];
    for (bad, hint) in ERRORS.iter().chain(&others) {
        let delivery = handler.deliver(&message("well").payload(*bad)).await.unwrap();
        let Delivery::Failed { error, .. } = delivery else { panic!("{bad}: {delivery:?}") };
        assert!(error.contains(hint) && error.len() < 5_000, "{bad}: {error}");
    }
    for (bad, hint) in
        [("codec panics", "in the codec"), ("codec's error", "its `Display` panicked")]
    {
        let delivery = handler.deliver(&message("well").payload(bad)).await.unwrap();
        let Delivery::Undecodable(why) = delivery else { panic!("{bad}: {delivery:?}") };
        assert!(why.contains(hint), "{why}");
    }
    let well = message("well");
    assert_eq!(handler.deliver(&well).await.unwrap(), Delivery::Handled, "the pool is usable");
    // Decoded, and not handled: only its drop is left.
    assert_eq!(handler.deliver(&well.payload("event's drop")).await.unwrap(), Delivery::Duplicate);
}

/// A header whose name is not UTF-8, as other clients can send it.
fn bad_name() -> &'static str {
    let name: &'static [u8] = std::hint::black_box(b"x-\xff\xfe");
    // SAFETY: only librdkafka reads it, which takes any bytes.
    unsafe { std::str::from_utf8_unchecked(name) }
}

async fn produce_raw(topic: &str, key: &str, payload: &[u8], headers: &[(&str, &[u8])]) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", kafka()).create().unwrap();
    let with = headers.iter().fold(OwnedHeaders::new(), |with, (key, value)| {
        with.insert(Header { key, value: Some(*value) })
    });
    let record = FutureRecord::to(topic).key(key).payload(payload).headers(with);
    producer.send(record, Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_with_names_that_are_not_utf_8_make_a_dead_letter_and_end_nothing() {
    event_on_topic!(Created, "hostile-header-names");
    create_topic(Created::TOPIC, 1, &[]).await;
    create_topic("hostile-header-names.names.dlt", 1, &[]).await;
    let outbox = consumer_outbox().await;
    let payload = br#"{"customer":"bad","tenant":"acme","n":1}"#;
    let headers: &[(&str, &[u8])] = &[
        ("ce_id", b"018f0000-0000-7000-8000-000000000000"),
        (bad_name(), b"lost"),
        ("ce_type", b"order.created"),
        ("ce_dataversion", b"3"),
        ("x-bytes", b"\xff\0\xfe"),
    ];
    produce_raw(Created::TOPIC, "bad", payload, headers).await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler =
        Scripted::<Created>::new("names", HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "names", 1).await, [("well".to_owned(), 1)]);
    let letters = until_dead_letters(Created::TOPIC, "names", 1).await;

    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!(
        (letter.key.as_deref(), letter.payload.as_deref()),
        (Some(&b"bad"[..]), Some(&payload[..]))
    );
    assert!(letter.error.contains("1 of its headers are not UTF-8"), "{}", letter.error);
    let value = |name: &str| {
        let header = letter.headers.iter().find(|(known, _)| known == name);
        header.and_then(|(_, value)| value.as_deref())
    };
    assert_eq!(value("x-bytes"), Some(&b"\xff\0\xfe"[..]), "values are bytes");
    assert_eq!(value("outbox-unreadable-headers"), Some(&b"1"[..]));

    // On the topic of the dead letters, too.
    produce_raw("hostile-header-names.names.dlt", "x", b"", &[(bad_name(), b"")]).await;
    let dead_letters = dead_letters(Created::TOPIC, "names");
    assert_eq!(dead_letters.list(10).await.unwrap().len(), 2);

    dead_letters.replay(letter).await.unwrap();
    let handled = until_handled(&outbox, "names", 2).await;
    assert_eq!(handled[1], ("bad".to_owned(), 1), "it is handled without the header");
    assert_eq!(consumer.stop().await.handled, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_the_users_code_does_ends_a_consumer() {
    create_topic("bad-events", 1, &[]).await;
    let outbox = consumer_outbox().await;
    let bad = ["handler", "codec panics", "codec's error", "event's drop", "future's drop"];
    let bad: Vec<&str> = ERRORS.iter().map(|(name, _)| *name).chain(bad).collect();
    let headers = |n: usize| format!("018f0000-0000-7000-8000-{n:012}");
    for (n, bad) in bad.iter().enumerate() {
        let id = headers(n);
        let headers: &[(&str, &[u8])] = &[("ce_id", id.as_bytes()), ("ce_type", b"BadEvent")];
        produce_raw("bad-events", "k", bad.as_bytes(), headers).await;
    }
    let consumer = RunningConsumer::start(new_consumer(&outbox).handler(Arc::new(BadHandler)));
    let letters = until_dead_letters("bad-events", "bad", bad.len()).await;
    let payloads: Vec<_> =
        letters.iter().map(|letter| letter.payload.as_deref().unwrap()).collect();
    assert_eq!(payloads, bad.iter().map(|bad| bad.as_bytes()).collect::<Vec<_>>());
    assert_eq!(consumer.stop().await.dead_letters, bad.len() as u64);
}

async fn produce_named(topic: &str, n: usize, name: &str) {
    let id = format!("018f0000-0000-7000-8000-{n:012}");
    let headers: &[(&str, &[u8])] = &[("ce_id", id.as_bytes()), ("ce_type", name.as_bytes())];
    produce_raw(topic, "k", b"{}", headers).await;
}

#[tokio::test]
async fn a_skipped_event_is_told_once_a_name_with_its_place() {
    event_on_topic!(Created, "hostile-unknown-skipped");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let (log, _guard) = Log::of_this_thread("warn");
    for (n, name) in ["order.new", "order.new", "order.other", "order.new"].iter().enumerate() {
        produce_named(Created::TOPIC, n, name).await;
    }
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler =
        Scripted::<Created>::new("skips", HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "skips", 1).await;
    assert_eq!(consumer.stop().await.passed_over, 4);
    let told = log.lines(&["no handler of this group takes"]);
    let [first, second] = &*told else { panic!("{told:?}") };
    assert!(first.contains("order.new") && first.contains("offset=0"), "{first}");
    assert!(second.contains("order.other") && second.contains("offset=2"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_name_is_new_can_be_kept_until_its_handler_is_deployed() {
    event_on_topic!(Created, "hostile-unknown-kept");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    produce_named(Created::TOPIC, 1, "order.new").await;
    let handler =
        Scripted::<Created>::new("keeps", HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let consumer = new_consumer(&outbox)
        .handler(Arc::clone(&handler))
        .unknown_events(UnknownEvents::DeadLetter);
    let consumer = RunningConsumer::start(consumer);
    let letters = until_dead_letters(Created::TOPIC, "keeps", 1).await;
    assert!(letters[0].error.contains("`order.new`"), "{}", letters[0].error);
    assert_eq!(consumer.stop().await.dead_letters, 1);

    // Replayed too soon, to members that skip what they do not know: it is a dead letter again, for
    // it was this group's.
    let dead_letters = dead_letters(Created::TOPIC, "keeps");
    dead_letters.replay(&letters[0]).await.unwrap();
    let consumer = consume(&outbox, &handler);
    let again = until_dead_letters(Created::TOPIC, "keeps", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.dead_letters, consumed.passed_over), (1, 0));
    assert_ne!(again[0].offset, letters[0].offset);
}
