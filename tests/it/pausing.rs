//! What operators pause is not published until they resume it, all else is, and nothing is lost,
//! doubled or reordered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::support::parked::one_is_parked;
use crate::support::random::{Random, seed};
use crate::support::relays::{RunningRelay, drain, drained, new_relay, quick};
use crate::support::{
    OrderCreated, by_customer, commit, eventually, eventually_some, within_a_minute,
};
use outbox::admin::{LANES, Lane, PauseScope};
use outbox::event::EventRecord;
use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxDatabase};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

on_every_store! {
    a_pause_is_listed_with_its_reason_and_replaced_and_ended
    while_everything_is_paused_a_relay_keeps_its_lanes_and_publishes_nothing
    a_paused_lane_waits_and_the_others_continue
    a_paused_topic_is_set_aside_in_order_and_the_others_continue
    what_is_parked_of_a_paused_topic_is_tried_when_it_is_resumed
    a_drain_of_what_is_paused_ends_with_an_error
    pausing_and_resuming_at_any_time_loses_doubles_and_reorders_nothing
}

/// On another topic than [`OrderCreated`].
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "payment-events", name = "payment.made")]
struct PaymentMade {
    #[event(key)]
    customer: String,
    n: i64,
}

fn orders() -> PauseScope {
    PauseScope::Topic("order-events".to_owned())
}

fn customers() -> impl Iterator<Item = String> {
    (0..32).map(|n| format!("customer-{n}"))
}

async fn order_of_each<DB: OutboxDatabase>(outbox: &Outbox<DB>, n: i64) {
    commit(outbox, customers().map(|customer| OrderCreated::new(customer, n))).await;
}

async fn payment_of_each<DB: OutboxDatabase>(outbox: &Outbox<DB>, n: i64) {
    let mut tx = outbox.begin().await.unwrap();
    for customer in customers() {
        tx.emit(PaymentMade { customer, n }).unwrap();
    }
    tx.commit().await.unwrap();
}

fn on_topic(published: &[EventRecord], topic: &str) -> Vec<EventRecord> {
    published.iter().filter(|event| event.topic == topic).cloned().collect()
}

/// Waits until each relay has read twice what is paused, if it is alive: what was paused before is
/// obeyed by then.
async fn relays_have_claimed_again<DB: OutboxDatabase>(outbox: &Outbox<DB>) {
    for _ in 0..3 {
        let signs = async || -> BTreeMap<Uuid, Option<SystemTime>> {
            let relays = outbox.status().await.unwrap().relays;
            relays.iter().map(|relay| (relay.id, relay.last_sign)).collect()
        };
        let before = signs().await;
        let are_later = async || {
            let now = signs().await;
            before.iter().all(|(id, sign)| now.get(id).is_none_or(|now| now > sign))
        };
        eventually("every relay gives another sign of life", are_later).await;
    }
}

async fn a_pause_is_listed_with_its_reason_and_replaced_and_ended<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let before = SystemTime::now() - Duration::from_secs(1);
    let lane = PauseScope::Lane(Lane::new(3).unwrap());
    outbox.pause(&lane, "first", "ann").await.unwrap();
    outbox.pause(&lane, " a \0bad release\n", "bob").await.unwrap();
    outbox.pause(&orders(), "a bad topic", "ann").await.unwrap();
    let pauses = outbox.pauses().await.unwrap();
    assert_eq!(pauses, outbox.status().await.unwrap().pauses);
    let told: Vec<_> =
        pauses.iter().map(|pause| (&pause.scope, &*pause.reason, &*pause.by)).collect();
    assert_eq!(told, [(&lane, "a bad release", "bob"), (&orders(), "a bad topic", "ann")]);
    assert!(pauses.iter().all(|pause| pause.since > before));

    assert!(!outbox.resume(&PauseScope::All).await.unwrap(), "it is not what was paused");
    assert!(outbox.resume(&lane).await.unwrap() && !outbox.resume(&lane).await.unwrap());
    assert_eq!(outbox.pauses().await.unwrap().len(), 1);
    for topic in ["", "a\0b"] {
        let scope = PauseScope::Topic(topic.to_owned());
        assert_eq!(outbox.pause(&scope, "no", "ann").await.unwrap_err().kind(), ErrorKind::Config);
    }
}

async fn while_everything_is_paused_a_relay_keeps_its_lanes_and_publishes_nothing<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    order_of_each(&outbox, 1).await;
    within_a_minute(kafka.wait_for(32)).await;
    outbox.pause(&PauseScope::All, "a migration", "ann").await.unwrap();
    relays_have_claimed_again(&outbox).await;
    order_of_each(&outbox, 2).await;
    let other = RunningRelay::start(quick(&outbox, kafka.clone()));
    let shared = async || {
        let held = outbox.status().await.unwrap().relays;
        held.len() == 2 && held.iter().all(|relay| relay.lanes.len() == LANES / 2)
    };
    eventually("both relays hold their share", shared).await;
    relays_have_claimed_again(&outbox).await;
    assert_eq!(kafka.published().len(), 32, "nothing of what came after the pause");
    assert_eq!(outbox.status().await.unwrap().backlog, 32);

    assert!(outbox.resume(&PauseScope::All).await.unwrap());
    let published = within_a_minute(kafka.wait_for(64)).await;
    running.stop().await;
    other.stop().await;
    assert_eq!(published.len(), 64, "nothing twice");
    assert!(by_customer(&published).values().all(|ns| *ns == [1, 2]));
}

async fn a_paused_lane_waits_and_the_others_continue<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let lane = Lane::new(5).unwrap();
    outbox.pause(&PauseScope::Lane(lane), "a poisoned key", "ann").await.unwrap();
    let kafka = MemoryPublisher::new();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    order_of_each(&outbox, 1).await;
    order_of_each(&outbox, 2).await;
    let of_lane = async || {
        let status = outbox.status().await.unwrap();
        let of_lane = status.lanes[5].backlog;
        (status.backlog == of_lane).then_some(of_lane)
    };
    let waiting = eventually_some("only events of the lane are pending", of_lane).await;
    assert!(waiting > 0, "some customer is of each lane");
    relays_have_claimed_again(&outbox).await;
    assert_eq!(kafka.published().len() as u64, 64 - waiting);
    outbox.resume(&PauseScope::Lane(lane)).await.unwrap();
    let published = within_a_minute(kafka.wait_for(64)).await;
    running.stop().await;
    assert_eq!(published.len(), 64, "nothing twice");
    assert!(by_customer(&published).values().all(|ns| *ns == [1, 2]));
}

async fn a_paused_topic_is_set_aside_in_order_and_the_others_continue<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    outbox.pause(&orders(), "a bad consumer", "ann").await.unwrap();
    let kafka = MemoryPublisher::new();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 1..=3 {
        order_of_each(&outbox, n).await;
        payment_of_each(&outbox, n).await;
    }
    let published = within_a_minute(kafka.wait_for(96)).await;
    assert_eq!(on_topic(&published, "payment-events").len(), 96, "and no order");
    let is_set_aside = async || outbox.status().await.unwrap().set_aside == 96;
    eventually("the orders are set aside", is_set_aside).await;
    assert_eq!(outbox.status().await.unwrap().parked, 0, "nothing was refused");
    let listed = outbox.parked(1_000).await.unwrap();
    let reason = "topic `order-events` is paused by ann: a bad consumer";
    assert!(listed.iter().all(|event| event.reason.as_deref().is_none_or(|why| why == reason)));
    assert_eq!(outbox.release_all_parked().await.unwrap(), 0, "not before it is resumed");

    order_of_each(&outbox, 4).await;
    assert!(outbox.resume(&orders()).await.unwrap());
    order_of_each(&outbox, 5).await;
    let published = within_a_minute(kafka.wait_for(96 + 160)).await;
    running.stop().await;
    let of_orders = on_topic(&published, "order-events");
    assert_eq!(of_orders.len(), 160, "nothing twice");
    assert!(by_customer(&of_orders).values().all(|ns| *ns == [1, 2, 3, 4, 5]));
    let status = outbox.status().await.unwrap();
    assert_eq!((status.set_aside, status.parked, status.backlog), (0, 0, 0));
}

async fn what_is_parked_of_a_paused_topic_is_tried_when_it_is_resumed<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    one_is_parked(&outbox, &kafka).await;
    assert!(outbox.status().await.unwrap().oldest_parked.is_some());
    outbox.release_all_parked().await.unwrap();
    outbox.pause(&orders(), "it is looked at", "ann").await.unwrap();
    kafka.accept_all();
    let often = quick(&outbox, kafka.clone()).retry_parked(Duration::from_millis(20));
    let running = RunningRelay::start(often);
    payment_of_each(&outbox, 1).await;
    within_a_minute(kafka.wait_for(2 + 32)).await;
    relays_have_claimed_again(&outbox).await;
    assert_eq!(on_topic(&kafka.published(), "order-events").len(), 2);
    let status = outbox.status().await.unwrap();
    assert_eq!((status.parked, status.set_aside, status.oldest_parked), (0, 3, None));
    outbox.resume(&orders()).await.unwrap();
    let published = within_a_minute(kafka.wait_for(2 + 32 + 3)).await;
    running.stop().await;
    assert_eq!(by_customer(&on_topic(&published, "order-events"))["poisoned"], [1, 2, 3, 4, 5]);
}

async fn a_drain_of_what_is_paused_ends_with_an_error<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    order_of_each(&outbox, 1).await;
    outbox.pause(&orders(), "a bad consumer", "ann").await.unwrap();
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Paused, "{error}");
    let told = "topic `order-events` is paused by ann: a bad consumer";
    assert!(error.to_string().starts_with(told), "{error}");
    assert_eq!(outbox.status().await.unwrap().parked, 0);
    outbox.resume(&orders()).await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 32);
}

async fn pausing_and_resuming_at_any_time_loses_doubles_and_reorders_nothing<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    const ROUNDS: i64 = 24;
    let mut random = Random::new(seed(), 0);
    let scopes = [PauseScope::All, orders(), PauseScope::Lane(Lane::new(5).unwrap())];
    let kafka = MemoryPublisher::new();
    // None of them dies here: none may lose a lane because the machine is slow.
    let relay = || quick(&outbox, kafka.clone()).lease(Duration::from_secs(3600));
    let mut relays = vec![RunningRelay::start(relay())];
    for n in 1..=ROUNDS {
        order_of_each(&outbox, n).await;
        payment_of_each(&outbox, n).await;
        let scope = &scopes[random.below(3) as usize];
        match random.below(4) {
            0 | 1 => outbox.pause(scope, "at random", "test").await.unwrap(),
            2 => drop(outbox.resume(scope).await.unwrap()),
            _ if relays.len() < 3 => relays.push(RunningRelay::start(relay())),
            _ => relays.remove(0).stop().await,
        }
    }
    for scope in &scopes {
        outbox.resume(scope).await.unwrap();
    }
    // What a relay set aside before it knew of the end of a pause is tried by itself later: here,
    // when it is asked to.
    let all = 2 * 32 * ROUNDS as usize;
    let is_all = async || {
        outbox.release_all_parked().await.unwrap();
        let ids: BTreeSet<Uuid> = kafka.published().iter().map(|event| event.id).collect();
        ids.len() == all
    };
    eventually("everything is published", is_all).await;
    for relay in relays {
        relay.stop().await;
    }
    // A lane that changes hands while parked events of it are sent may have them sent twice.
    let mut seen = BTreeSet::new();
    let first = |event: &EventRecord| seen.insert(event.id);
    let published: Vec<EventRecord> = kafka.published().into_iter().filter(first).collect();
    let expected: Vec<i64> = (1..=ROUNDS).collect();
    let of_orders = by_customer(&on_topic(&published, "order-events"));
    assert!(of_orders.values().all(|ns| *ns == expected), "{of_orders:?}");
    let payments = by_customer(&on_topic(&published, "payment-events"));
    assert!(payments.values().all(|ns| *ns == expected), "{payments:?}");
    assert_eq!(outbox.status().await.unwrap().backlog, 0);
}
