//! Tombstones and explicit partitions, from `emit` to the handler.

use std::sync::{Arc, Mutex};

use crate::support::consumers::{RunningConsumer, consumer_outbox, header, new_consumer};
use crate::support::relays::{
    RunningRelay, drain_to, drained_and_retained, kafka_publisher, new_relay, until_parked,
};
use crate::support::topics::{create_topic, read_topic};
use crate::support::{eventually, within_a_minute};
use outbox::admin::Replay;
use outbox::consume::{EventContext, ForeignId, HandlerOptions, handler_fn};
use outbox::event::{EventKey, EventRecord, event_key};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxDatabase, OutboxTx, event_handler};
use rdkafka::Message as _;
use rdkafka::message::OwnedMessage;
use serde::{Deserialize, Serialize};
use sqlx::Postgres;

on_every_store! {
    a_tombstone_is_stored_parked_and_replayed_as_it_is
    a_tombstone_needs_a_key_and_one_event
    a_null_payload_is_delivered_to_a_handler_that_takes_it_and_to_no_other
    a_foreign_tombstone_reaches_the_handler_that_takes_such
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "customer-state", name = "customer.state")]
struct Customer {
    #[event(key)]
    id: u32,
    name: String,
}

#[allow(dead_code)] // only its type is named
#[derive(Debug, Serialize, DomainEvent)]
#[event(topic = "customer-state")]
enum Several {
    #[event(keyless)]
    One,
    #[event(keyless)]
    Two,
}

fn ann() -> Customer {
    Customer { id: 7, name: "Ann".to_owned() }
}

async fn a_tombstone_is_stored_parked_and_replayed_as_it_is<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    kafka.refuse(|_| Some("no".to_owned()));
    for several in [false, true] {
        let mut tx = outbox.begin().await.unwrap();
        tx.emit_tombstone::<Customer>(&7_u32).unwrap();
        if several {
            tx.emit_to_partition(3, ann()).unwrap();
        }
        tx.commit().await.unwrap();
    }
    // Read, refused and parked, by a relay that lives until they are.
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    until_parked(&outbox, 3).await;
    kafka.accept_all();
    outbox.release_all_parked().await.unwrap();
    within_a_minute(kafka.wait_for(3)).await;
    relay.abort().await;
    let check = |records: Vec<EventRecord>| {
        let [one, two, event] = &*records else { panic!("{records:?}") };
        for tombstone in [one, two] {
            assert_eq!((&tombstone.payload, tombstone.key.as_deref()), (&None, Some(&b"7"[..])));
            assert_eq!((&*tombstone.name, tombstone.partition), ("customer.state", None));
        }
        assert!(event.payload.is_some());
        assert_eq!(event.partition, Some(3));
    };
    check(kafka.published());
}

async fn a_tombstone_needs_a_key_and_one_event<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let mut tx = outbox.begin().await.unwrap();
    let mut without_key = EventRecord::tombstone::<Customer>("x").unwrap();
    without_key.key = None;
    for refused in [
        tx.emit_tombstone::<Several>("x"),
        tx.emit_record(without_key),
        tx.emit_to_partition(-1, ann()),
        tx.emit_to_partition(i32::MIN, ann()),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidEvent);
    }
    tx.emit_tombstone::<Customer>(&event_key(&[&"a:b", &1_u8 as &dyn EventKey])).unwrap();
    tx.commit().await.unwrap();
    let records = drained_and_retained(&outbox).await;
    assert_eq!(records[0].key.as_deref(), Some(&b"a\\:b:1"[..]));
    // Replayed, it is what it was, and says that it is replayed.
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    let mut replayed = records;
    replayed[0].headers.insert("outbox-replayed", "1");
    assert_eq!(drained_and_retained(&outbox).await, replayed);
}

type Seen = Arc<Mutex<Vec<Option<Customer>>>>;

/// Written with the macro. It records its events in its state.
#[event_handler(group = "customers")]
async fn keep(
    _: &mut OutboxTx<'_, Postgres>,
    customer: Option<Customer>,
    context: &EventContext,
    seen: &Seen,
) -> Result<(), sqlx::Error> {
    assert_eq!(context.key.as_deref(), Some(&b"7"[..]));
    seen.lock().unwrap().push(customer);
    Ok(())
}

async fn take_events<DB: OutboxDatabase>(
    _: &mut OutboxTx<'_, DB>,
    _: Customer,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

async fn take_both<DB: OutboxDatabase>(
    _: &mut OutboxTx<'_, DB>,
    _: Option<Customer>,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

async fn a_null_payload_is_delivered_to_a_handler_that_takes_it_and_to_no_other<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let tombstone = TestMessage::tombstone::<Customer>(&7_u32).unwrap();
    let takes = HandlerTest::new(outbox.clone(), handler_fn(take_both::<DB>)).unwrap();
    assert_eq!(takes.deliver(&tombstone).await.unwrap(), Delivery::Handled);
    assert_eq!(takes.deliver(&tombstone).await.unwrap(), Delivery::Duplicate);
    assert_eq!(takes.deliver(&TestMessage::of(&ann()).unwrap()).await.unwrap(), Delivery::Handled);
    let broken = TestMessage::of(&ann()).unwrap().payload("null");
    assert!(
        matches!(takes.deliver(&broken).await.unwrap(), Delivery::Undecodable(_)),
        "null is no event"
    );

    let takes_none = HandlerTest::new(outbox, handler_fn(take_events::<DB>)).unwrap();
    let delivery =
        takes_none.deliver(&TestMessage::tombstone::<Customer>(&8_u32).unwrap()).await.unwrap();
    let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("tombstone") && why.contains("`Option`"), "{why}");
}

async fn a_foreign_tombstone_reaches_the_handler_that_takes_such<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let foreign = || TestMessage::foreign("customer-state", Some(b"7"), "").without_payload();
    let options = HandlerOptions::new().foreign(ForeignId::Place);
    let takes = handler_fn(take_both::<DB>).options(options);
    let takes = HandlerTest::new(outbox.clone(), takes).unwrap();
    assert_eq!(takes.deliver(&foreign()).await.unwrap(), Delivery::Handled);
    let takes_no_foreign = HandlerTest::new(outbox.clone(), handler_fn(take_both::<DB>)).unwrap();
    assert!(matches!(
        takes_no_foreign.deliver(&foreign()).await.unwrap(),
        Delivery::Undecodable(_)
    ));
    let takes_none = handler_fn(take_events::<DB>).options(options);
    let takes_none = HandlerTest::new(outbox, takes_none).unwrap();
    assert_eq!(takes_none.deliver(&foreign()).await.unwrap(), Delivery::PassedOver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_and_partitions_go_through_kafka() {
    create_topic("customer-state", 4, &[("cleanup.policy", "compact")]).await;
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(ann()).unwrap();
    tx.emit_tombstone::<Customer>(&7_u32).unwrap();
    let mut elsewhere = EventRecord::tombstone::<Customer>(&7_u32).unwrap();
    for partition in 0..4 {
        tx.emit_to_partition(partition, ann()).unwrap();
        elsewhere.partition = Some(partition);
    }
    tx.emit_record(elsewhere).unwrap();
    tx.commit().await.unwrap();
    drain_to(&outbox, kafka_publisher()).await;

    let messages = read_topic("customer-state").await;
    let in_partition =
        |n: i32| messages.iter().filter(|message| message.partition() == n).collect::<Vec<_>>();
    let is_tombstone = |message: &&OwnedMessage| message.payload().is_none();
    let tombstones: Vec<_> = messages.iter().filter(is_tombstone).collect();
    assert_eq!((messages.len(), tombstones.len()), (7, 2));
    for tombstone in &tombstones {
        assert_eq!(tombstone.key(), Some(&b"7"[..]));
        assert_eq!(header(tombstone, "ce_type"), Some("customer.state"));
        assert!(header(tombstone, "ce_id").is_some());
    }
    assert!((0..4).all(|n| !in_partition(n).is_empty()));
    assert!(in_partition(3).iter().any(|message| message.payload().is_none()));

    let seen = Seen::default();
    let consumer = new_consumer(&outbox).handler(keep(Arc::clone(&seen)));
    let consumer = RunningConsumer::start(consumer);
    eventually("seven messages are handled", async || seen.lock().unwrap().len() >= 7).await;
    assert_eq!(consumer.stop().await.handled, 7);
    assert_eq!(seen.lock().unwrap().iter().filter(|customer| customer.is_none()).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_a_partition_that_is_not_there_is_parked_with_the_reason() {
    #[derive(Debug, Serialize, DomainEvent)]
    #[event(topic = "partitions-that-are-there", name = "n")]
    struct Event {
        #[event(key)]
        key: &'static str,
    }
    create_topic("partitions-that-are-there", 2, &[]).await;
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_to_partition(7, Event { key: "a" }).unwrap();
    tx.emit_to_partition(1, Event { key: "b" }).unwrap();
    tx.commit().await.unwrap();
    let relay = new_relay(&outbox, kafka_publisher());
    let relay = RunningRelay::start(relay);
    let parked = until_parked(&outbox, 1).await;
    eventually("the other is published", async || {
        read_topic("partitions-that-are-there").await.len() == 1
    })
    .await;
    relay.abort().await;
    let [parked] = &*parked else { panic!("{parked:?}") };
    let reason = parked.reason.as_deref().unwrap();
    assert!(
        reason.contains("partition 7") && reason.contains("partitions-that-are-there"),
        "{reason}"
    );
}
