//! What an operator does with parked events: they are listed, discarded and replayed, and no
//! innocent event goes with them.

use std::time::Duration;

use crate::support::parked::{one_is_parked, refuse_order};
use crate::support::relays::{RunningRelay, drained_and_retained, quick, until_parked};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually_some, migrated, next_leaf, order,
    within_a_minute,
};
use outbox::admin::{ParkedEvent, ParkedFilter, ParkedGrouping, Replay};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase};
use sqlx::{MySql, Postgres, Sqlite};
use uuid::Uuid;

on_every_store! {
    parked_events_are_listed_by_key_and_in_order_with_what_they_wait_behind
    what_merely_waits_is_not_discarded_unless_asked
    a_key_of_which_all_is_discarded_is_free_at_once
    a_discarded_event_is_not_replayed_unless_by_its_id
    a_discarded_event_is_remembered_until_its_space_is_reclaimed
    events_are_replayed_once_however_often_they_were_before
    a_parked_event_is_not_replayed
    parked_events_are_found_counted_and_released_by_what_they_have_in_common
}

fn numbers(parked: &[ParkedEvent]) -> Vec<i64> {
    parked.iter().map(|parked| order(&parked.event).n).collect()
}

async fn parked_events_are_listed_by_key_and_in_order_with_what_they_wait_behind<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 3);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 1..=5 {
        commit(
            &outbox,
            ["poisoned-a", "poisoned-b"].map(|customer| OrderCreated::new(customer, n)),
        )
        .await;
    }
    until_parked(&outbox, 6).await;
    // Refused again, the first of each key was set aside after those behind it.
    outbox.release_all_parked().await.unwrap();
    let refused_again = async || {
        let listed = outbox.parked(1_000).await.unwrap();
        (listed.iter().filter(|parked| parked.attempts > 2).count() == 2).then_some(listed)
    };
    let listed = eventually_some("the first of each key is refused again", refused_again).await;
    running.stop().await;
    assert_eq!(numbers(&listed), [3, 4, 5, 3, 4, 5]);
    for of_key in listed.chunks(3) {
        let [first, second, third] = of_key else { panic!("three of each") };
        assert!(of_key.iter().all(|parked| parked.event.key == first.event.key));
        assert_eq!((first.waits_behind, first.reason.as_deref()), (None, Some("no")));
        assert_eq!([second.waits_behind, third.waits_behind], [Some(first.event.id); 2]);
        assert_eq!((&second.reason, second.attempts), (&None, 0));
    }

    let mut paged = outbox.parked(1).await.unwrap();
    while let [next] = &outbox.parked_after(paged.last().unwrap(), 1).await.unwrap()[..] {
        paged.push(next.clone());
    }
    assert_eq!(paged, listed);
}

async fn what_merely_waits_is_not_discarded_unless_asked<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    let parked = one_is_parked(&outbox, &kafka).await;
    let [third, fourth, fifth] = [0, 1, 2].map(|n| parked[n].event.id);
    let error = outbox.discard_parked(fourth).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAtFault);
    assert!(error.to_string().contains(&format!("waits behind event {third}")), "{error}");
    assert_eq!(numbers(&outbox.parked(10).await.unwrap()), [3, 4, 5], "nothing is changed");
    assert!(outbox.discard_parked_even_if_it_waits(fourth).await.unwrap());
    assert!(outbox.discard_parked(third).await.unwrap());
    assert!(!outbox.discard_parked(third).await.unwrap());
    let left = outbox.parked(10).await.unwrap();
    assert_eq!((numbers(&left), left[0].waits_behind), (vec![5], None), "it is the first now");

    kafka.accept_all();
    outbox.release_parked(b"poisoned").await.unwrap();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    until_parked(&outbox, 0).await;
    running.stop().await;
    assert_eq!(by_customer(&kafka.published())["poisoned"], [1, 2, 5]);
    assert!(!outbox.discard_parked(fifth).await.unwrap());
}

async fn a_key_of_which_all_is_discarded_is_free_at_once<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 1);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    commit(&outbox, [OrderCreated::new("poisoned", 1)]).await;
    let parked = until_parked(&outbox, 1).await;
    assert!(outbox.discard_parked(parked[0].event.id).await.unwrap());
    commit(&outbox, [OrderCreated::new("poisoned", 2)]).await;
    let published = within_a_minute(kafka.wait_for(1)).await;
    running.stop().await;
    assert_eq!(by_customer(&published)["poisoned"], [2]);
}

async fn a_discarded_event_is_not_replayed_unless_by_its_id<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    let parked = one_is_parked(&outbox, &kafka).await;
    let id = parked[0].event.id;
    assert!(outbox.discard_parked(id).await.unwrap());
    kafka.accept_all();
    outbox.release_all_parked().await.unwrap();
    let relay = quick(&outbox, kafka.clone()).retention(Duration::from_secs(3_600));
    let running = RunningRelay::start(relay);
    until_parked(&outbox, 0).await;
    running.stop().await;

    let discarded = outbox.discarded(10).await.unwrap();
    assert_eq!((discarded.len(), discarded[0].id, discarded[0].seq), (1, id, parked[0].seq));
    assert_eq!(
        (&*discarded[0].topic, discarded[0].reason.as_deref()),
        ("order-events", Some("no"))
    );
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 4);
    assert_eq!(by_customer(&drained_and_retained(&outbox).await)["poisoned"], [1, 2, 4, 5]);
    assert_eq!(outbox.replay(Replay::all().ids([id])).await.unwrap(), 1);
    assert_eq!(by_customer(&drained_and_retained(&outbox).await)["poisoned"], [3]);
    assert_eq!(outbox.discarded(10).await.unwrap(), [], "that took it back");
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 5);
}

/// A database whose next events are kept in another piece of its table.
trait Pieces: OutboxDatabase {
    async fn next_piece(outbox: &Outbox<Self>);
}

impl Pieces for Postgres {
    async fn next_piece(outbox: &Outbox<Self>) {
        next_leaf(outbox).await;
    }
}

impl Pieces for Sqlite {
    async fn next_piece(_: &Outbox<Self>) {}
}

impl Pieces for MySql {
    async fn next_piece(_: &Outbox<Self>) {}
}

async fn a_discarded_event_is_remembered_until_its_space_is_reclaimed<DB: Pieces>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    for parked in one_is_parked(&outbox, &kafka).await {
        assert!(outbox.discard_parked(parked.event.id).await.unwrap());
    }
    DB::next_piece(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    outbox.reclaim(Duration::from_secs(3600)).await.unwrap();
    let discarded: Vec<i64> =
        outbox.discarded(10).await.unwrap().iter().map(|discarded| discarded.seq).collect();
    assert!(discarded.len() == 3 && discarded.is_sorted_by(|a, b| a > b), "{discarded:?}");
    assert_eq!(outbox.discarded(2).await.unwrap().len(), 2);
    drained_and_retained(&outbox).await;
    assert!(outbox.reclaim(Duration::ZERO).await.unwrap() >= 5);
    assert_eq!(outbox.discarded(10).await.unwrap(), []);
}

async fn events_are_replayed_once_however_often_they_were_before<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let all: Vec<i64> = (0..10).collect();
    commit(&outbox, all.iter().map(|n| OrderCreated::new("a", *n))).await;
    drained_and_retained(&outbox).await;
    for _ in 0..3 {
        assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 10);
        assert_eq!(
            by_customer(&drained_and_retained(&outbox).await)["a"],
            all,
            "each once, in the first order"
        );
    }
    let ids = drained_ids(&outbox).await;
    assert_eq!(outbox.replay(Replay::all().ids(ids.iter().rev().copied())).await.unwrap(), 10);
    assert_eq!(by_customer(&drained_and_retained(&outbox).await)["a"], all);
}

/// Replays all there is, and returns the ids.
async fn drained_ids<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<Uuid> {
    outbox.replay(Replay::all()).await.unwrap();
    drained_and_retained(outbox).await.iter().map(|record| record.id).collect()
}

async fn a_parked_event_is_not_replayed<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    let parked = one_is_parked(&outbox, &kafka).await;
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 2);
    assert_eq!(outbox.replay(Replay::all().ids([parked[0].event.id])).await.unwrap(), 0);
}

async fn parked_events_are_found_counted_and_released_by_what_they_have_in_common<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    kafka.refuse(|event| {
        let order = order(event);
        (order.n == 1).then(|| format!("100% too large: {}", order.customer))
    });
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 1..=2 {
        commit(&outbox, ["a", "b", "c"].map(|customer| OrderCreated::new(customer, n))).await;
    }
    until_parked(&outbox, 6).await;
    running.stop().await;
    let of = async |filter: ParkedFilter| {
        let found = outbox.parked_where(&filter, None, 10).await.unwrap();
        assert_eq!(outbox.count_parked(&filter).await.unwrap(), found.len() as u64, "{filter:?}");
        let orders = found.iter().map(|parked| order(&parked.event));
        let mut orders: Vec<_> = orders.map(|order| (order.customer, order.n)).collect();
        orders.sort();
        orders
    };
    let all = ParkedFilter::all;
    let order = |customer: &str, n| (customer.to_owned(), n);
    assert_eq!(of(all().key("b")).await, [order("b", 1), order("b", 2)]);
    assert_eq!(of(all().reason("100% TOO large*a")).await, [order("a", 1)]);
    assert_eq!(of(all().reason("100_*")).await, [], "no character stands for another");
    assert_eq!(of(all().topic("order-events").name("order.created")).await.len(), 6);
    assert_eq!(of(all().topic("payments")).await, []);
    let first = outbox.parked(1).await.unwrap().remove(0);
    assert_eq!(of(all().ids([first.event.id])).await.len(), 1);
    assert_eq!(of(all().ids([first.event.id]).name("other")).await, []);
    assert_eq!(outbox.parked_where(&all(), Some(&first), 10).await.unwrap().len(), 5);

    let groups = async |by| {
        let groups = outbox.parked_groups(&all(), by).await.unwrap();
        groups
            .into_iter()
            .map(|group| (group.topic, group.key, group.reason, group.events, group.keys))
            .collect::<Vec<_>>()
    };
    let topic = || Some("order-events".to_owned());
    assert_eq!(groups(ParkedGrouping::Topic).await, [(topic(), None, None, 6, 3)]);
    let by_reason = groups(ParkedGrouping::Reason).await;
    assert_eq!(by_reason.len(), 4);
    assert_eq!(by_reason[0], (None, None, None, 3, 3), "those that only wait");
    let of_key = |key: &str| (topic(), Some(key.as_bytes().to_vec()), None, 2, 1);
    assert_eq!(groups(ParkedGrouping::Key).await, ["a", "b", "c"].map(of_key));

    kafka.accept_all();
    let released = outbox.release_parked_where(&all().reason("*large: b")).await.unwrap();
    assert_eq!(released, 2, "the whole of the key");
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    let left = until_parked(&outbox, 4).await;
    assert!(left.iter().all(|parked| parked.event.key.as_deref() != Some(b"b")));
    assert_eq!(outbox.release_parked_where(&all().topic("order-events")).await.unwrap(), 4);
    until_parked(&outbox, 0).await;
    running.stop().await;
    assert!(by_customer(&kafka.published()).values().all(|ns| *ns == [1, 2]));
}

#[tokio::test]
async fn the_only_copy_that_is_left_can_be_replayed() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    drained_and_retained(&outbox).await;
    next_leaf(&outbox).await;
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    drained_and_retained(&outbox).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 1, "the original");
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    assert_eq!(by_customer(&drained_and_retained(&outbox).await)["a"], [1]);
}
