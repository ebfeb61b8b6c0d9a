//! No error and no panic of the user's code ends a consumer, or is handled as something that it is
//! not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::support::consumers::{
    RunningConsumer, consumer_outbox, new_consumer, until_dead_letters,
};
use crate::support::topics::{create_topic, produce_raw};
use outbox::codec::{Codec, CodecError, Decode, Encode};
use outbox::consume::{ErrorClass, EventContext, EventHandler, HandlerOptions};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxTx};
use serde::{Deserialize, Serialize};

on_every_store! {
    a_panic_of_the_users_code_is_a_failure_like_others
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
        HandlerOptions::new().group("bad").attempts(1).timeout(Duration::from_secs(2))
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
