//! An old version that is only read needs neither `Serialize` nor a key.
#![deny(warnings)]

use outbox::DomainEvent;
use outbox::codec::Json;
use outbox::event::EventKind;
use outbox::testing::TestMessage;
use serde::{Deserialize, Serialize};

const TOPIC: &str = "orders";

#[derive(Deserialize, DomainEvent)]
#[event(topic = TOPIC, name = "order.placed", read_only)]
#[deprecated]
struct OrderPlacedV1 {
    customer: String,
}

mod second {
    use super::*;

    #[derive(Deserialize, DomainEvent)]
    #[event(topic = "orders", name = "order.placed", version = 2, read_only, upcast_from = super::OrderPlacedV1)]
    pub struct OrderPlaced {
        #[event(key)]
        pub customer: String,
        pub cents: u64,
    }

    #[allow(deprecated)]
    impl From<OrderPlacedV1> for OrderPlaced {
        fn from(old: OrderPlacedV1) -> Self {
            Self { customer: old.customer, cents: 1 }
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 3, upcast_from = second::OrderPlaced)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    euros: f64,
}

impl From<second::OrderPlaced> for OrderPlaced {
    fn from(old: second::OrderPlaced) -> Self {
        Self { customer: old.customer, euros: old.cents as f64 / 100.0 }
    }
}

#[derive(Deserialize, DomainEvent)]
#[event(topic = "changes", name = "changed", read_only)]
struct ChangedV1<T>
where
    T: Clone,
{
    to: T,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "changes", name = "changed", version = 2, upcast_from = ChangedV1<T>, keyless)]
struct Changed<T: Clone> {
    to: T,
    why: Option<String>,
}

impl<T: Clone> From<ChangedV1<T>> for Changed<T> {
    fn from(old: ChangedV1<T>) -> Self {
        Self { to: old.to, why: None }
    }
}

fn main() {
    let read = |version, payload: &str| {
        let event = EventKind::new("orders", "order.placed", version);
        OrderPlaced::decode_payload::<Json>(event, payload.as_bytes())
    };
    let order = |euros| OrderPlaced { customer: "ada".to_owned(), euros };
    assert_eq!(read(1, r#"{"customer": "ada"}"#).unwrap().unwrap(), order(0.01));
    assert_eq!(read(2, r#"{"customer": "ada", "cents": 5}"#).unwrap().unwrap(), order(0.05));
    assert!(read(2, r#"{"customer": "ada"}"#).unwrap().is_err());
    assert!(read(4, "{}").is_none());
    let versions: Vec<_> =
        OrderPlaced::older_versions().iter().map(|event| event.version).collect();
    assert_eq!(versions, [2, 1]);
    assert_eq!(OrderPlaced::older_versions()[0].key_fields, ["customer"]);
    assert!(TestMessage::of(&order(1.0)).is_ok());

    let event = EventKind::new("changes", "changed", 1);
    let changed = Changed::<u8>::decode_payload::<Json>(event, br#"{"to": 2}"#).unwrap().unwrap();
    assert_eq!((changed.to, changed.why), (2, None));
}
