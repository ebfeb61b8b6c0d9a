//! A consumer of version 3 reads what was published as version 1.
use outbox::codec::Json;
use outbox::event::{EventDescriptor, EventKind};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

const TOPIC: &str = "order-events";

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = TOPIC, name = "order.created")]
struct OrderCreatedV1 {
    #[event(key)]
    customer: String,
}

mod second {
    use super::*;

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "order-events", name = "order.created", version = 2, upcast_from = super::OrderCreatedV1)]
    pub struct OrderCreated {
        #[event(key)]
        pub customer: String,
        pub cents: u64,
    }

    impl From<OrderCreatedV1> for OrderCreated {
        fn from(old: OrderCreatedV1) -> Self {
            Self { customer: old.customer, cents: 0 }
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = TOPIC, name = "order.created", version = 3, upcast_from = second::OrderCreated)]
struct OrderCreated {
    #[event(key)]
    customer: String,
    price: Price,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    cents: u64,
    currency: String,
}

impl From<second::OrderCreated> for OrderCreated {
    fn from(old: second::OrderCreated) -> Self {
        Self {
            customer: old.customer,
            price: Price { cents: old.cents, currency: "EUR".to_owned() },
        }
    }
}

// Of generic events, the compiler is told what the bodies need.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "changes")]
struct Changed<T> {
    #[event(key)]
    id: u64,
    to: T,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "changes", name = "Changed", version = 2, upcast_from = Changed<T>)]
struct ChangedWithReason<T> {
    #[event(key)]
    id: u64,
    to: T,
    reason: Option<String>,
}

impl<T> From<Changed<T>> for ChangedWithReason<T> {
    fn from(old: Changed<T>) -> Self {
        Self { id: old.id, to: old.to, reason: None }
    }
}

#[event_handler]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, order: OrderCreated) -> Result<(), String> {
    Err(format!("{} owes {} {}", order.customer, order.price.cents, order.price.currency))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    let read = |version, payload: &str| {
        let event = EventKind::new(TOPIC, "order.created", version);
        OrderCreated::decode_payload::<Json>(event, payload.as_bytes())
    };
    let order = read(1, r#"{"customer": "alice"}"#).unwrap().unwrap();
    assert_eq!(order.price, Price { cents: 0, currency: "EUR".to_owned() });
    let order = read(2, r#"{"customer": "alice", "cents": 5}"#).unwrap().unwrap();
    assert_eq!(order.price, Price { cents: 5, currency: "EUR".to_owned() });
    assert!(read(2, r#"{"customer": "alice"}"#).unwrap().is_err(), "no version 2 without cents");
    assert!(read(3, "{}").unwrap().is_err(), "its own version, without its fields");
    assert!(read(4, "{}").is_none());
    let versions = |events: Vec<EventDescriptor>| -> Vec<u32> {
        events.iter().map(|event| event.version).collect()
    };
    assert_eq!(versions(OrderCreated::older_versions()), [2, 1]);
    assert!(OrderCreatedV1::older_versions().is_empty());

    let event = EventKind::new("changes", "Changed", 1);
    let changed = ChangedWithReason::<u8>::decode_payload::<Json>(event, br#"{"id": 1, "to": 2}"#);
    let changed = changed.unwrap().unwrap();
    assert_eq!((changed.id, changed.to, changed.reason), (1, 2, None));

    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let test = HandlerTest::new(outbox, reserve())?;
    let owes = |error: Delivery| match error {
        Delivery::Failed { error, .. } => error,
        other => format!("{other:?}"),
    };
    let first = TestMessage::of(&OrderCreatedV1 { customer: "alice".to_owned() })?;
    assert_eq!(owes(test.deliver(&first).await?), "alice owes 0 EUR");
    let second = TestMessage::of(&second::OrderCreated { customer: "alice".to_owned(), cents: 5 })?;
    assert_eq!(owes(test.deliver(&second).await?), "alice owes 5 EUR");
    let price = Price { cents: 7, currency: "CHF".to_owned() };
    let third = TestMessage::of(&OrderCreated { customer: "alice".to_owned(), price })?;
    assert_eq!(owes(test.deliver(&third).await?), "alice owes 7 CHF");
    assert!(matches!(
        test.deliver(&third.header("ce_dataversion", "4")).await?,
        Delivery::Undecodable(_)
    ));
    Ok(())
}
