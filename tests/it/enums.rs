//! Events as enums and as structs, on one topic: what one program wrote as the one, another reads as
//! the other.

use outbox::consume::{Consumer, EventContext, HandlerOptions, UnknownEvents, handler_fn};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite};

use crate::support::consumers::{
    RunningConsumer, consumer_outbox, new_consumer, publish, until_handled,
};
use crate::support::topics::{create_topic, read_topic};

const TOPIC: &str = "orders-as-enums-and-structs";

/// One program, which writes an enum.
mod shop {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = TOPIC)]
    #[serde(rename_all_fields = "camelCase")]
    pub enum OrderEvent {
        #[event(name = "order.placed", version = 2)]
        Placed {
            #[event(key)]
            customer: String,
            order_number: i64,
        },
        #[event(name = "order.paid")]
        Paid {
            #[event(key)]
            customer: String,
            order_number: i64,
        },
        #[event(name = "day.ended", keyless)]
        DayEnded,
    }
}

/// Another one, which knows structs, and the version before.
mod warehouse {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
    #[event(topic = TOPIC, name = "order.placed")]
    pub struct PlacedV1 {
        #[event(key)]
        pub customer: String,
        pub order: i64,
    }

    #[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
    #[event(topic = TOPIC, name = "order.placed", version = 2, upcast_from = PlacedV1)]
    #[serde(rename_all = "camelCase")]
    pub struct Placed {
        #[event(key)]
        pub customer: String,
        pub order_number: i64,
    }

    impl From<PlacedV1> for Placed {
        fn from(old: PlacedV1) -> Self {
            Self { customer: old.customer, order_number: -old.order }
        }
    }

    #[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
    #[event(topic = TOPIC, name = "order.paid")]
    #[serde(rename_all = "camelCase")]
    pub struct Paid {
        #[event(key)]
        pub customer: String,
        pub order_number: i64,
    }

    #[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
    #[event(topic = TOPIC, name = "day.ended", keyless)]
    pub struct DayEnded;

    #[derive(Debug, DomainEvent)]
    #[event(transparent)]
    pub enum Event {
        Placed(Placed),
        Paid(Paid),
        DayEnded(DayEnded),
    }
}

/// A third one, whose enum has other names, another order, and converts the old version itself.
mod billing {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, DomainEvent)]
    #[event(topic = TOPIC)]
    #[serde(rename_all_fields = "camelCase")]
    pub enum Event {
        #[event(name = "day.ended", keyless)]
        Evening,
        #[event(name = "order.paid")]
        MoneyCame {
            #[event(key)]
            customer: String,
            order_number: i64,
        },
        #[event(name = "order.placed", version = 2, upcast_from = warehouse::PlacedV1)]
        Ordered {
            #[event(key)]
            customer: String,
            order_number: i64,
        },
    }

    impl From<warehouse::PlacedV1> for Event {
        fn from(old: warehouse::PlacedV1) -> Self {
            Self::Ordered { customer: old.customer, order_number: -old.order }
        }
    }
}

/// Inserts what was read into the table `handled`.
async fn keep(
    tx: &mut OutboxTx<'_, Postgres>,
    group: &str,
    event: &str,
    n: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into handled (consumer, customer, n) values ($1, $2, $3)")
        .bind(group)
        .bind(event)
        .bind(n)
        .execute(tx)
        .await?;
    Ok(())
}

async fn placed(
    tx: &mut OutboxTx<'_, Postgres>,
    event: warehouse::Placed,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    keep(tx, "structs", &format!("placed by {}", event.customer), event.order_number).await
}

async fn paid(
    tx: &mut OutboxTx<'_, Postgres>,
    event: warehouse::Paid,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    keep(tx, "structs", &format!("paid by {}", event.customer), event.order_number).await
}

async fn ended(
    tx: &mut OutboxTx<'_, Postgres>,
    _: warehouse::DayEnded,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    keep(tx, "structs", "ended", 0).await
}

async fn transparent(
    tx: &mut OutboxTx<'_, Postgres>,
    event: warehouse::Event,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    let (what, n) = match event {
        warehouse::Event::Placed(event) => {
            (format!("placed by {}", event.customer), event.order_number)
        }
        warehouse::Event::Paid(event) => {
            (format!("paid by {}", event.customer), event.order_number)
        }
        warehouse::Event::DayEnded(_) => ("ended".to_owned(), 0),
    };
    keep(tx, "transparent", &what, n).await
}

async fn enumerated(
    tx: &mut OutboxTx<'_, Postgres>,
    event: billing::Event,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    let (what, n) = match event {
        billing::Event::Ordered { customer, order_number } => {
            (format!("placed by {customer}"), order_number)
        }
        billing::Event::MoneyCame { customer, order_number } => {
            (format!("paid by {customer}"), order_number)
        }
        billing::Event::Evening => ("ended".to_owned(), 0),
    };
    keep(tx, "enum", &what, n).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_enum_wrote_structs_and_other_enums_read_and_the_reverse() {
    create_topic(TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let customer = || "alice".to_owned();
    use shop::OrderEvent::{DayEnded, Paid, Placed};
    let by_enum = [
        Placed { customer: customer(), order_number: 1 },
        Paid { customer: customer(), order_number: 2 },
        DayEnded,
    ];
    publish(&outbox, by_enum).await;
    publish(&outbox, [warehouse::PlacedV1 { customer: customer(), order: 3 }]).await;
    let by_structs = [
        warehouse::Event::Placed(warehouse::Placed { customer: customer(), order_number: 4 }),
        warehouse::Event::Paid(warehouse::Paid { customer: customer(), order_number: 5 }),
        warehouse::Event::DayEnded(warehouse::DayEnded),
    ];
    publish(&outbox, by_structs).await;
    let mut payloads: Vec<_> = read_topic(TOPIC).await.iter().map(payload).collect();
    let alice = |n| format!(r#"{{"customer":"alice","orderNumber":{n}}}"#);
    let old = r#"{"customer":"alice","order":3}"#.to_owned();
    let nothing = || "{}".to_owned();
    let mut expected = [alice(1), alice(2), nothing(), old, alice(4), alice(5), nothing()];
    // There is no order between keys.
    payloads.sort();
    expected.sort();
    assert_eq!(payloads, expected);

    let consumers = [
        new_consumer(&outbox)
            .group("structs")
            .handler(handler_fn(placed))
            .handler(handler_fn(paid))
            .handler(handler_fn(ended)),
        new_consumer(&outbox).group("transparent").handler(handler_fn(transparent)),
        new_consumer(&outbox).group("enum").handler(handler_fn(enumerated)),
    ];
    let consumers = consumers
        .map(|consumer| RunningConsumer::start(consumer.unknown_events(UnknownEvents::DeadLetter)));
    let mut expected = vec![
        ("ended".to_owned(), 0),
        ("ended".to_owned(), 0),
        ("paid by alice".to_owned(), 2),
        ("paid by alice".to_owned(), 5),
        ("placed by alice".to_owned(), -3),
        ("placed by alice".to_owned(), 1),
        ("placed by alice".to_owned(), 4),
    ];
    expected.sort();
    for group in ["structs", "transparent", "enum"] {
        let mut handled = until_handled(&outbox, group, 7).await;
        handled.sort();
        assert_eq!(handled, expected, "{group}");
    }
    for consumer in consumers {
        assert_eq!(consumer.stop().await.dead_letters, 0);
    }
}

fn payload(message: &rdkafka::message::OwnedMessage) -> String {
    use rdkafka::Message as _;
    String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
}

async fn nothing<E>(
    _: &mut OutboxTx<'_, Sqlite>,
    _: E,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

#[tokio::test]
async fn handlers_share_an_enum_only_if_each_says_what_it_takes() {
    let pool = sqlx::pool::PoolOptions::new().connect_lazy("sqlite::memory:").unwrap();
    let outbox = Outbox::<Sqlite>::new(pool);
    let handler = |only: Option<&'static [&'static str]>| {
        let options = HandlerOptions::new();
        let options = only.map_or(options, |only| options.only(only));
        handler_fn(nothing::<billing::Event>).options(options)
    };
    let built = |one, other| {
        let consumer = Consumer::builder(outbox.clone(), "127.0.0.1:9").group("g");
        consumer.handler(handler(one)).handler(handler(other)).build().map(drop)
    };
    let refused = |result: Result<(), OutboxError>, why: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };

    refused(built(None, None), "event `day.ended` version 1");
    refused(built(None, Some(&["order.paid"])), "two handlers take event `order.paid`");
    refused(built(Some(&["order.paid"]), Some(&["Paid"])), "has no event of that name");
    refused(built(Some(&[]), None), "takes no event");
    built(Some(&["order.paid"]), Some(&["order.placed", "day.ended"])).unwrap();

    // A struct and an enum that are the same event are no better.
    let consumer = Consumer::builder(outbox.clone(), "127.0.0.1:9").group("g");
    let consumer = consumer.handler(handler_fn(nothing::<warehouse::Paid>)).handler(handler(None));
    refused(consumer.build().map(drop), "two handlers take event `order.paid`");
    let consumer = Consumer::builder(outbox, "127.0.0.1:9").group("g");
    let consumer = consumer.handler(handler_fn(nothing::<warehouse::Paid>));
    consumer.handler(handler(Some(&["order.placed"]))).build().unwrap();
}

/// The version after that of the warehouse.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = TOPIC, name = "order.placed", version = 3, upcast_from = warehouse::Placed)]
struct PlacedV3(#[event(key)] String);

impl From<warehouse::Placed> for PlacedV3 {
    fn from(old: warehouse::Placed) -> Self {
        Self(old.customer)
    }
}

async fn refuse<E>(
    _: &mut OutboxTx<'_, Sqlite>,
    _: E,
    _: &EventContext,
) -> Result<(), &'static str> {
    Err(std::any::type_name::<E>())
}

#[tokio::test]
async fn a_version_goes_to_its_own_handler_or_to_the_next_one_that_reads_it() {
    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:");
    let outbox = Outbox::<Sqlite>::new(pool.await.unwrap());
    outbox.migrate().await.unwrap();
    let customer = || "alice".to_owned();
    let first = TestMessage::of(&warehouse::PlacedV1 { customer: customer(), order: 1 }).unwrap();
    let second = warehouse::Placed { customer: customer(), order_number: 2 };
    let second = TestMessage::of(&second).unwrap();
    let third = TestMessage::of(&PlacedV3(customer())).unwrap();
    let fourth = third.clone().header("ce_dataversion", "4");
    let taken_by = async |test: &HandlerTest<Sqlite>, message: &TestMessage| match test
        .deliver(message)
        .await
        .unwrap()
    {
        Delivery::Failed { error, .. } => error.rsplit("::").next().unwrap().to_owned(),
        Delivery::Undecodable(why) => why,
        other => panic!("{other:?}"),
    };

    let test = HandlerTest::new(outbox, handler_fn(refuse::<PlacedV3>)).unwrap();
    assert_eq!(taken_by(&test, &first).await, "PlacedV3");
    assert_eq!(taken_by(&test, &second).await, "PlacedV3");
    let test = test.handler(handler_fn(refuse::<warehouse::Placed>)).unwrap();
    assert_eq!(taken_by(&test, &first).await, "Placed", "the next one");
    assert_eq!(taken_by(&test, &second).await, "Placed");
    assert_eq!(taken_by(&test, &third).await, "PlacedV3");
    let why = taken_by(&test, &fourth).await;
    assert!(why.contains("no handler takes version 4"), "{why}");
    let test = test.handler(handler_fn(refuse::<warehouse::PlacedV1>)).unwrap();
    assert_eq!(taken_by(&test, &first).await, "PlacedV1", "its own");
}
