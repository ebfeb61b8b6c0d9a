//! CloudEvents that other producers write, in both modes of the Kafka protocol binding.

use std::sync::Mutex;
use std::time::Duration;

use crate::support::consumers::{
    Numbered, PERMANENT, QUICK, Scripted, TRANSIENT, consume, consumer_outbox, dead_letters,
    handled_by, produce, until_dead_letters, until_handled,
};
use crate::support::kafka;
use crate::support::relays::drained;
use crate::support::topics::{create_topic, read_topic};
use outbox::consume::{
    DeadLetter, DeadLetterFilter, EventContext, EventHandler, ForeignId, HandlerOptions,
    LaterEvents, handler_fn,
};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx};
use rdkafka::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use xtask::{Mode, Sdk, SdkEvent};

on_every_store! {
    a_cloud_event_is_handled_once_by_its_source_and_id_in_either_mode
    a_handler_sees_a_structured_event_as_it_would_in_binary_mode
    a_cloud_event_goes_to_the_handler_of_its_type_and_of_version_1
    what_a_handler_emits_continues_the_trace_of_a_cloud_event
    an_event_without_data_is_not_taken_for_a_tombstone
    what_is_wrong_with_a_cloud_event_is_said
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "cloud-events", name = "com.example.order.placed", version = 1)]
struct Placed {
    #[event(key)]
    customer: String,
    n: i64,
}

impl Numbered for Placed {
    fn number(&self) -> (&str, i64) {
        (&self.customer, self.n)
    }
}

const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";

/// The members of an envelope, without its braces.
fn members(source: &str, id: &str, n: i64) -> String {
    format!(
        r#""specversion":"1.0","type":"com.example.order.placed","source":"{source}","id":"{id}",
        "data":{{"customer":"a","n":{n}}}"#
    )
}

fn envelope(source: &str, id: &str, n: i64) -> String {
    format!("{{{}}}", members(source, id, n))
}

fn enveloped(envelope: impl Into<Vec<u8>>) -> TestMessage {
    TestMessage::foreign("cloud-events", Some(b"a"), envelope).header("content-type", STRUCTURED)
}

fn in_binary_mode(source: &str, id: &str, n: i64) -> TestMessage {
    let data = format!(r#"{{"customer":"a","n":{n}}}"#);
    TestMessage::foreign("cloud-events", Some(b"a"), data)
        .header("ce_specversion", "1.0")
        .header("ce_type", "com.example.order.placed")
        .header("ce_source", source)
        .header("ce_id", id)
}

/// Keeps what it is told of each event.
#[derive(Default)]
struct Told(HandlerOptions, Mutex<Vec<(i64, EventContext)>>);

impl<DB: OutboxDatabase> EventHandler<DB> for &'static Told {
    type Event = Placed;
    type Error = sqlx::Error;

    fn options(&self) -> HandlerOptions {
        self.0
    }

    async fn handle(
        &self,
        _: &mut OutboxTx<'_, DB>,
        event: Placed,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        self.1.lock().unwrap().push((event.n, context.clone()));
        Ok(())
    }
}

fn told(options: HandlerOptions) -> &'static Told {
    Box::leak(Box::new(Told(options, Mutex::default())))
}

async fn a_cloud_event_is_handled_once_by_its_source_and_id_in_either_mode<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let handler = HandlerTest::new(outbox, told(QUICK)).unwrap();
    let deliver = async |message: TestMessage| handler.deliver(&message).await.unwrap();
    for (n, (source, id)) in
        [("/shop", "1"), ("/shop", "2"), ("/office", "1"), ("", "1")].into_iter().enumerate()
    {
        let n = i64::try_from(n).unwrap();
        assert_eq!(
            deliver(in_binary_mode(source, id, n)).await,
            Delivery::Handled,
            "{source} {id}"
        );
        assert_eq!(deliver(in_binary_mode(source, id, n)).await, Delivery::Duplicate);
        if !source.is_empty() {
            assert_eq!(deliver(enveloped(envelope(source, id, n))).await, Delivery::Duplicate);
        }
    }
    let uuid = "018f0000-0000-7000-8000-000000000001";
    assert_eq!(deliver(enveloped(envelope("/shop", uuid, 9))).await, Delivery::Handled);
    let other_source = deliver(in_binary_mode("/office", uuid, 9)).await;
    assert_eq!(other_source, Delivery::Duplicate, "a UUID is unique by itself");
}

async fn a_handler_sees_a_structured_event_as_it_would_in_binary_mode<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let told = told(QUICK);
    let handler = HandlerTest::new(outbox, told).unwrap();
    let time = r#","time":"2026-01-02T03:04:05Z""#;
    let structured = format!("{{{}{time}}}", members("/shop", "1", 1));
    let structured = enveloped(structured).header("x-request", "r1");
    let binary = in_binary_mode("/shop", "2", 1)
        .header("ce_time", "2026-01-02T03:04:05Z")
        .header("content-type", "application/json")
        .header("x-request", "r1");
    for message in [structured, binary] {
        assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
    }
    let [(_, structured), (_, binary)] = &told.1.lock().unwrap()[..] else { panic!("handled") };
    let seen = |context: &EventContext| {
        let mut headers: Vec<_> = context.headers.iter().collect();
        headers.retain(|(name, _)| *name != "ce_id");
        headers.sort_unstable();
        let headers: Vec<_> =
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (context.name.clone(), context.version, context.occurred_at, context.key.clone(), headers)
    };
    assert_eq!(seen(structured), seen(binary));
    assert!(structured.occurred_at.is_some());
    assert_eq!(structured.headers.get("ce_id"), Some("1"));
    assert_eq!(structured.headers.get("content-type"), Some("application/json"));
}

async fn a_cloud_event_goes_to_the_handler_of_its_type_and_of_version_1<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    // What its handler says of messages without a type is not asked for one that has it.
    let told = told(QUICK.foreign(ForeignId::Place));
    let handler = HandlerTest::new(outbox, told).unwrap();
    let deliver = async |message: TestMessage| handler.deliver(&message).await.unwrap();
    assert_eq!(deliver(in_binary_mode("/shop", "1", 1)).await, Delivery::Handled);
    let other = envelope("/shop", "2", 1).replace("order.placed", "order.paid");
    assert_eq!(deliver(enveloped(other)).await, Delivery::PassedOver);
    let version = |value: &str| {
        let version = format!(r#"{{"dataversion":{value},{}}}"#, members("/shop", "3", 3));
        enveloped(version)
    };
    let delivery = deliver(version("2")).await;
    let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("no handler takes version 2"), "{why}");
    assert_eq!(deliver(version("\"1\"")).await, Delivery::Handled);
    assert_eq!(told.1.lock().unwrap().iter().map(|of| of.0).collect::<Vec<_>>(), [1, 3]);
}

async fn what_a_handler_emits_continues_the_trace_of_a_cloud_event<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    async fn answer<DB: OutboxDatabase>(
        tx: &mut OutboxTx<'_, DB>,
        placed: Placed,
        _: &EventContext,
    ) -> Result<(), OutboxError> {
        tx.emit(placed).map(drop)
    }
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let handler = HandlerTest::new(outbox.clone(), handler_fn(answer::<DB>)).unwrap();
    let traced = format!(r#"{{"traceparent":"{TRACE}",{}}}"#, members("/shop", "1", 1));
    assert_eq!(handler.deliver(&enveloped(traced)).await.unwrap(), Delivery::Handled);
    let emitted = drained(&outbox).await;
    assert_eq!(emitted[0].headers.get("traceparent"), Some(TRACE));
}

async fn an_event_without_data_is_not_taken_for_a_tombstone<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    async fn forget<DB: OutboxDatabase>(
        _: &mut OutboxTx<'_, DB>,
        placed: Option<Placed>,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        assert!(placed.is_none());
        Ok(())
    }
    let handler = HandlerTest::new(outbox, handler_fn(forget::<DB>)).unwrap();
    let without_data = envelope("/shop", "1", 1).replace("\"data\"", "\"other\"");
    let without_data = without_data.replace(r#"{"customer":"a","n":1}"#, "1");
    let null = envelope("/shop", "2", 1).replace(r#"{"customer":"a","n":1}"#, "null");
    for (message, hint) in [(without_data, "EOF"), (null, "null")] {
        let delivery = handler.deliver(&enveloped(message)).await.unwrap();
        let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
        assert!(why.contains("cannot be decoded") && why.contains(hint), "{why}");
    }
    let tombstone = in_binary_mode("/shop", "3", 1).without_payload();
    assert_eq!(handler.deliver(&tombstone).await.unwrap(), Delivery::Handled);
}

async fn what_is_wrong_with_a_cloud_event_is_said<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    // Also to a handler that takes any message that says nothing.
    let handler = HandlerTest::new(outbox, told(QUICK.foreign(ForeignId::Header("x")))).unwrap();
    let long = "x".repeat(5_000);
    let batch = enveloped("[]").header("content-type", "application/cloudevents-batch+json");
    let avro = TestMessage::foreign("cloud-events", None, "x")
        .header("content-type", "application/cloudevents+avro");
    for (message, hint) in [
        (in_binary_mode("/shop", "", 1), "`ce_id` is empty"),
        (in_binary_mode("/shop", &long, 1), "`ce_id` has 5000 bytes"),
        (enveloped("{\"data\":{}}"), "the attribute `specversion` is missing"),
        (enveloped(envelope("/shop", "", 1)), "the attribute `id` is empty"),
        (enveloped(envelope("/shop", &long, 1)), "`ce_id` has 5000 bytes"),
        (enveloped(b"\xff"), "no UTF-8"),
        (enveloped("[".repeat(100_000)), "expected one object"),
        (batch, "application/cloudevents-batch+json"),
    ] {
        let delivery = handler.deliver(&message).await.unwrap();
        let Delivery::Undecodable(why) = delivery else { panic!("{hint}: {delivery:?}") };
        assert!(why.contains(hint), "{why}");
    }
    let delivery = handler.deliver(&avro).await.unwrap();
    let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("`ce_id` is missing"), "it says nothing, and has no `x`: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloud_events_on_a_topic_are_handled_once_and_malformed_ones_are_dead_letters() {
    const TOPIC: &str = "cloud-events";
    create_topic(TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let data = |n: i64| format!(r#"{{"customer":"a","n":{n}}}"#);
    let binary = async |source: &str, id: &str, n: i64| {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_type", "com.example.order.placed"),
            ("ce_source", source),
            ("ce_id", id),
            ("content-type", "application/json"),
        ];
        produce(TOPIC, "a", &data(n), &headers).await;
    };
    let structured = async |key: &str, envelope: &str| {
        produce(TOPIC, key, envelope, &[("content-type", STRUCTURED)]).await;
    };
    for _ in 0..2 {
        binary("/shop", "order-1", 1).await;
        structured("a", &envelope("/shop", "order-2", 2)).await;
    }
    binary("/office", "order-1", 3).await;
    let broken = r#"{"specversion":"1.0","source":"/shop","id":"order-4","data":{}}"#;
    structured("broken", broken).await;
    produce(TOPIC, "batch", "[]", &[("content-type", "application/cloudevents-batch+json")]).await;
    structured("a", &envelope("/shop", "order-5", 5).replace("placed", "paid")).await;
    structured("a", &envelope("/shop", "order-6", 6)).await;

    let retried = HandlerOptions::new()
        .attempts(1)
        .retry_topics(&[Duration::from_millis(10)], LaterEvents::Overtake);
    let handler = Scripted::<Placed>::new("cloud", retried, |_, n, attempt| async move {
        match (n, attempt) {
            (3, 1) => TRANSIENT,
            (6, _) => PERMANENT,
            _ => Ok(()),
        }
    });
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(TOPIC, "cloud", 3).await;
    let mut handled = until_handled(&outbox, "cloud", 3).await;
    let consumed = consumer.stop().await;
    handled.sort_unstable();
    let numbers: Vec<_> = handled.iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!((consumed.handled, consumed.duplicates, consumed.passed_over), (3, 2, 1));

    let of = |key: &str| {
        letters.iter().find(|letter| letter.key.as_deref() == Some(key.as_bytes())).unwrap()
    };
    assert_eq!(of("broken").payload.as_deref(), Some(broken.as_bytes()));
    assert!(of("broken").error.contains("`type` is missing"), "{}", of("broken").error);
    assert!(of("batch").error.contains("cloudevents-batch+json"), "{}", of("batch").error);
    let refused: &DeadLetter = of("a");
    assert_eq!(refused.name.as_deref(), Some("com.example.order.placed"));

    // Found by its envelope, and sent on as it came.
    let letters = dead_letters(TOPIC, "cloud");
    let by_name = DeadLetterFilter::all().name("com.example.*");
    let found = letters.select(by_name).await.unwrap();
    assert_eq!(found.len(), 1);
    letters.replay(refused).await.unwrap();
    let replays = read_topic("cloud-events.cloud.retry.0").await;
    assert_eq!(replays[0].payload(), Some(envelope("/shop", "order-6", 6).as_bytes()));

    let fixed = Scripted::<Placed>::new("cloud", retried, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &fixed);
    until_handled(&outbox, "cloud", 4).await;
    // Once more, to be passed over, and an end to wait for.
    for again in ["order-2", "order-6", "order-7"] {
        let n = again.bytes().last().map_or(0, |digit| i64::from(digit - b'0'));
        structured("a", &envelope("/shop", again, n)).await;
    }
    until_handled(&outbox, "cloud", 5).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (2, 2));
    let mut all = handled_by(&outbox, "cloud").await;
    all.sort_unstable();
    assert_eq!(all.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 6, 7]);
}

/// The same on a topic of its own.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "cloud-events-of-sdks", name = "com.example.order.placed", version = 1)]
struct Written {
    #[event(key)]
    customer: String,
    n: i64,
}

impl Numbered for Written {
    fn number(&self) -> (&str, i64) {
        (&self.customer, self.n)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_sdks_write_are_handled_once_whichever_mode_they_come_in() {
    const TOPIC: &str = "cloud-events-of-sdks";
    // No UUIDs, and not of ASCII alone, which each SDK has to write as UTF-8.
    const BOTH: &str = "order/№ 1";
    const STRUCTURED_ALONE: &str = "order-2";

    create_topic(TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let write = |sdk: Sdk, mode, id, n: i64| {
        let event = SdkEvent {
            id,
            source: if sdk == Sdk::Java { "/java" } else { "/python" },
            event_type: "com.example.order.placed",
            key: "a",
            data: json!({ "customer": "Åsa \u{1f600}", "n": n }),
        };
        sdk.write(&kafka(), TOPIC, mode, &event).unwrap();
    };
    for (sdk, n) in [(Sdk::Python, 1), (Sdk::Java, 11)] {
        write(sdk, Mode::Binary, BOTH, n);
        write(sdk, Mode::Structured, BOTH, n);
        write(sdk, Mode::Structured, STRUCTURED_ALONE, n + 1);
    }
    let handler = Scripted::<Written>::new("sdks", QUICK, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "sdks", 4).await;
    let consumed = consumer.stop().await;
    let customer = |n| ("Åsa \u{1f600}".to_owned(), n);
    assert_eq!(handled, [1, 2, 11, 12].map(customer));
    assert_eq!((consumed.handled, consumed.duplicates, consumed.dead_letters), (4, 2, 0));
}
