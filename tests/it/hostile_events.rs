//! No event and no header ends a consumer, or is handled as something that it is not.

use std::sync::Arc;

use crate::support::consumers::{
    RunningConsumer, Scripted, consume, consumer_outbox, dead_letters, new_consumer, publish,
    until_dead_letters, until_handled,
};
use crate::support::log::Log;
use crate::support::topics::{create_topic, produce_raw};
use outbox::consume::{EventContext, ForeignId, HandlerOptions, UnknownEvents, handler_fn};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxTx};
use serde::{Deserialize, Serialize};

on_every_store! {
    a_payload_that_is_read_as_another_event_is_undecodable
    a_foreign_message_may_be_any_event_of_its_handler
    a_header_that_is_not_text_is_not_taken_for_a_missing_one
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

/// A header whose name is not UTF-8, as other clients can send it.
fn bad_name() -> &'static str {
    let name: &'static [u8] = std::hint::black_box(b"x-\xff\xfe");
    // SAFETY: only librdkafka reads it, which takes any bytes.
    unsafe { std::str::from_utf8_unchecked(name) }
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
