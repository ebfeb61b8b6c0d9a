//! What Kafka refuses is parked with the later events of its key, and holds up no other: by several
//! relays, until it is released or discarded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::relays::{RunningRelay, quick, until_parked};
use crate::support::{OrderCreated, by_customer, commit, eventually, order, within_a_minute};
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, OutboxDatabase};

on_every_store! {
    a_refused_event_is_parked_with_the_later_ones_of_its_key_and_the_other_keys_go_on
    parked_events_stay_parked_when_another_relay_takes_over
    a_discarded_event_is_given_up_and_those_behind_it_go_on
    parked_events_are_tried_again_by_themselves
    a_parked_event_without_a_key_stands_in_nobodys_way
    the_events_of_a_refused_topic_do_not_stop_those_of_another
}

/// Refuses the third order of the customer "poisoned".
fn refuse_one(kafka: &MemoryPublisher) {
    kafka.refuse(|record| {
        let order = order(record);
        (order.customer == "poisoned" && order.n == 3).then(|| "too large".to_owned())
    });
}

/// Commits orders 1 to 5 of 65 customers, one of them poisoned, and waits until all but its last
/// three are published.
async fn one_is_parked<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    kafka: &MemoryPublisher,
) -> RunningRelay {
    refuse_one(kafka);
    let running = RunningRelay::start(quick(outbox, kafka.clone()));
    let customers: Vec<String> =
        (0..64).map(|n| format!("customer-{n}")).chain(["poisoned".to_owned()]).collect();
    for n in 1..=5 {
        commit(outbox, customers.iter().map(|customer| OrderCreated::new(customer, n))).await;
    }
    let published = within_a_minute(kafka.wait_for(64 * 5 + 2)).await;
    let by_customer = by_customer(&published);
    assert_eq!(by_customer["poisoned"], [1, 2]);
    assert!(
        by_customer.iter().all(|(customer, ns)| customer == "poisoned" || *ns == [1, 2, 3, 4, 5])
    );
    let parked = until_parked(outbox, 3).await;
    let of: BTreeSet<_> = parked
        .iter()
        .map(|parked| (order(&parked.event).n, parked.reason.clone(), parked.attempts))
        .collect();
    assert_eq!(
        of,
        BTreeSet::from([(3, Some("too large".to_owned()), 2), (4, None, 0), (5, None, 0)])
    );
    running
}

async fn a_refused_event_is_parked_with_the_later_ones_of_its_key_and_the_other_keys_go_on<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    let running = one_is_parked(&outbox, &kafka).await;
    // Released without a change of the cause, it is refused again, and nothing overtakes it.
    assert_eq!(outbox.release_parked(b"poisoned").await.unwrap(), 3);
    let refused_again =
        async || outbox.parked(1_000).await.unwrap().iter().any(|parked| parked.attempts >= 3);
    eventually("the event is refused again", refused_again).await;
    commit(&outbox, [OrderCreated::new("poisoned", 6)]).await;
    until_parked(&outbox, 4).await;
    kafka.accept_all();
    assert_eq!(outbox.release_parked(b"somebody else").await.unwrap(), 0);
    assert_eq!(outbox.release_parked(b"poisoned").await.unwrap(), 4);
    until_parked(&outbox, 0).await;
    commit(&outbox, [OrderCreated::new("poisoned", 7)]).await;
    let published = within_a_minute(kafka.wait_for(64 * 5 + 7)).await;
    running.stop().await;
    assert_eq!(published.len(), 64 * 5 + 7, "nothing twice");
    assert_eq!(by_customer(&published)["poisoned"], [1, 2, 3, 4, 5, 6, 7]);
}

async fn parked_events_stay_parked_when_another_relay_takes_over<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    one_is_parked(&outbox, &kafka).await.abort().await;
    kafka.accept_all();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    commit(&outbox, [OrderCreated::new("poisoned", 6)]).await;
    until_parked(&outbox, 4).await;
    assert_eq!(outbox.release_all_parked().await.unwrap(), 4);
    within_a_minute(kafka.wait_for(64 * 5 + 6)).await;
    running.stop().await;
    let mut seen = BTreeSet::new();
    let first: Vec<_> =
        kafka.published().into_iter().filter(|record| seen.insert(record.id)).collect();
    assert_eq!(by_customer(&first)["poisoned"], [1, 2, 3, 4, 5, 6]);
}

async fn a_discarded_event_is_given_up_and_those_behind_it_go_on<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    let running = one_is_parked(&outbox, &kafka).await;
    let head = outbox
        .parked(1_000)
        .await
        .unwrap()
        .into_iter()
        .find(|parked| parked.reason.is_some())
        .unwrap();
    assert!(outbox.discard_parked(head.event.id).await.unwrap());
    assert!(!outbox.discard_parked(head.event.id).await.unwrap());
    outbox.release_parked(b"poisoned").await.unwrap();
    let published = within_a_minute(kafka.wait_for(64 * 5 + 4)).await;
    running.stop().await;
    assert_eq!(by_customer(&published)["poisoned"], [1, 2, 4, 5]);
}

async fn parked_events_are_tried_again_by_themselves<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    one_is_parked(&outbox, &kafka).await.stop().await;
    kafka.accept_all();
    let running =
        RunningRelay::start(quick(&outbox, kafka.clone()).retry_parked(Duration::from_millis(50)));
    let published = within_a_minute(kafka.wait_for(64 * 5 + 5)).await;
    running.stop().await;
    assert_eq!(by_customer(&published)["poisoned"], [1, 2, 3, 4, 5]);
}

#[derive(serde::Serialize, outbox::DomainEvent)]
#[event(topic = "other-events", keyless)]
struct Keyless {
    n: i64,
}

#[derive(serde::Serialize, outbox::DomainEvent)]
#[event(topic = "refused-events")]
struct OnRefusedTopic {
    #[event(key)]
    customer: String,
    n: i64,
}

async fn a_parked_event_without_a_key_stands_in_nobodys_way<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    kafka.refuse(|record| {
        (record.payload.as_deref() == Some(br#"{"n":0}"#)).then(|| "no".to_owned())
    });
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    let mut tx = outbox.begin().await.unwrap();
    for n in 0..100 {
        tx.emit(Keyless { n }).unwrap();
    }
    tx.commit().await.unwrap();
    within_a_minute(kafka.wait_for(99)).await;
    until_parked(&outbox, 1).await;
    kafka.accept_all();
    assert_eq!(outbox.release_all_parked().await.unwrap(), 1);
    within_a_minute(kafka.wait_for(100)).await;
    running.stop().await;
}

async fn the_events_of_a_refused_topic_do_not_stop_those_of_another<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    kafka.refuse(|record| (record.topic == "refused-events").then(|| "no such topic".to_owned()));
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    let customers: Vec<String> = (0..32).map(|n| format!("customer-{n}")).collect();
    for n in 0..3 {
        let mut tx = outbox.begin().await.unwrap();
        for customer in &customers {
            tx.emit(OrderCreated::new(format!("of {customer}"), n)).unwrap();
            tx.emit(OnRefusedTopic { customer: customer.clone(), n }).unwrap();
        }
        tx.commit().await.unwrap();
    }
    within_a_minute(kafka.wait_for(96)).await;
    until_parked(&outbox, 96).await;
    kafka.accept_all();
    outbox.release_all_parked().await.unwrap();
    let published = within_a_minute(kafka.wait_for(192)).await;
    running.stop().await;
    let mut refused = BTreeMap::<_, Vec<String>>::new();
    for record in published.iter().filter(|record| record.topic == "refused-events") {
        refused
            .entry(record.key.clone())
            .or_default()
            .push(String::from_utf8_lossy(record.payload.as_deref().unwrap()).into());
    }
    assert!(refused.values().all(|ns| ns.len() == 3 && ns.is_sorted()), "{refused:?}");
}
