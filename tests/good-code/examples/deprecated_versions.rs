//! Old versions are deprecated, which is about the user's own uses: no derive warns, nor where the
//! lint cannot be allowed.
#![deny(warnings)]
#![forbid(deprecated)]
#![allow(dead_code)]

use outbox::DomainEvent;
use outbox::codec::{Codec, CodecError, Encode, Json};
use outbox::consume::Classify;
use outbox::event::EventKind;
use serde::{Deserialize, Serialize};

/// Only what is in here may use what is deprecated in here.
#[deprecated(note = "write version 2")]
mod v1 {
    use super::*;

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "orders", name = "order.placed")]
    pub struct OrderPlaced {
        #[event(key, header = "x-customer")]
        pub customer: String,
        #[event(occurred_at)]
        pub at: std::time::SystemTime,
    }

    impl From<OrderPlaced> for super::OrderPlaced {
        fn from(old: OrderPlaced) -> Self {
            Self { customer: old.customer, currency: "EUR".to_owned() }
        }
    }

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "changes")]
    pub struct Changed<T> {
        #[event(key)]
        pub id: u64,
        pub to: T,
    }

    impl<T> From<Changed<T>> for super::Changed<T> {
        fn from(old: Changed<T>) -> Self {
            Self { key: old.id, to: old.to }
        }
    }
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2, upcast_from = v1::OrderPlaced)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    currency: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "changes", name = "Changed", version = 2, upcast_from = v1::Changed<T>)]
struct Changed<T> {
    #[event(key)]
    key: u64,
    to: T,
}

/// The derives of serde write `allow(deprecated)` for a type that has the attribute itself.
pub struct Empty;

impl Codec for Empty {
    const CONTENT_TYPE: &'static str = "text/plain";
}

impl<T> Encode<T> for Empty {
    fn encode(_: &T, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
}

#[derive(DomainEvent)]
#[event(topic = "orders", codec = Empty)]
#[deprecated]
pub struct OrderDropped {
    #[event(key)]
    #[deprecated]
    order: u64,
}

const TOPIC: &str = "stock";

#[derive(DomainEvent)]
#[event(topic = TOPIC, codec = Empty)]
#[deprecated]
pub enum Stock<'a> {
    #[deprecated]
    Counted(#[event(key)] &'a str),
    Moved {
        #[event(key)]
        #[deprecated]
        item: u64,
        #[event(header, id)]
        #[deprecated]
        id: uuid::Uuid,
    },
    #[event(keyless)]
    #[deprecated]
    Closed,
}

#[derive(Classify)]
#[deprecated]
pub enum OldError {
    #[deprecated]
    #[classify(permanent)]
    One,
}

const AT_1970: &str =
    r#"{"customer": "ada", "at": {"secs_since_epoch": 0, "nanos_since_epoch": 0}}"#;

fn main() {
    let (event, payload) = (EventKind::new("orders", "order.placed", 1), AT_1970.as_bytes());
    let read = OrderPlaced::decode_payload::<Json>(event, payload);
    assert_eq!(read.unwrap().unwrap().currency, "EUR");
    let event = EventKind::new("changes", "Changed", 1);
    let read = Changed::<u8>::decode_payload::<Json>(event, br#"{"id": 1, "to": 2}"#);
    assert_eq!(read.unwrap().unwrap().to, 2);
}
