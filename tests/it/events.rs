//! Where an event is: an operator finds it in each state, and replays exactly what was chosen.

use std::time::{Duration, SystemTime};

use crate::support::parked::{one_is_parked, refuse_order};
use crate::support::relays::{RunningRelay, drained_and_retained, quick, until_parked};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually, migrated, next_leaf,
    within_a_minute,
};
use outbox::admin::{
    EventFilter, EventState, FoundEvent, GroupState, ListedEvent, ParkedEvent, Replay,
};
use outbox::consume::{EventContext, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{Outbox, OutboxDatabase, OutboxTx};
use sqlx::{Postgres, Sqlite};
use uuid::Uuid;

/// Without it, nothing is left on MySQL of what is published.
const AN_HOUR: Duration = Duration::from_secs(3_600);

on_every_store! {
    an_event_is_found_in_every_state
    an_event_that_is_parked_and_given_up_is_found
    events_are_listed_from_the_newest_on_by_what_they_have_in_common
    a_replay_is_previewed_and_made_a_part_at_a_time
}

fn states(found: &FoundEvent) -> Vec<EventState> {
    found.copies.iter().map(|copy| copy.state).collect()
}

fn seqs(listed: &[ListedEvent]) -> Vec<i64> {
    listed.iter().map(|event| event.seq).collect()
}

/// The id of the only event.
async fn only_id<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Uuid {
    let listed = outbox.list_events(&EventFilter::all(), None, 10).await.unwrap();
    let [event] = &listed[..] else { panic!("one event: {listed:?}") };
    event.id
}

async fn an_event_is_found_in_every_state<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let unknown = outbox.find_event(Uuid::now_v7()).await.unwrap();
    assert_eq!((unknown.event, unknown.copies, unknown.relay), (None, Vec::new(), None));
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let id = only_id(&outbox).await;
    let pending = outbox.find_event(id).await.unwrap();
    assert_eq!((states(&pending), pending.relay), (vec![EventState::Pending], None));
    assert_eq!(support::order(&pending.event.unwrap()), OrderCreated::new("a", 1));

    let kafka = MemoryPublisher::new();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()).retention(AN_HOUR));
    let is_published =
        async || states(&outbox.find_event(id).await.unwrap()) == [EventState::Published];
    eventually("the event is said to be published", is_published).await;
    let found = outbox.find_event(id).await.unwrap();
    assert_eq!(found.relay.unwrap().pid, Some(std::process::id()));
    running.stop().await;
    assert_eq!(kafka.published()[0].id, id);

    assert_eq!(outbox.replay(Replay::all().ids([id])).await.unwrap(), 1);
    let replayed = outbox.find_event(id).await.unwrap();
    assert_eq!(states(&replayed), [EventState::Published, EventState::Pending]);
}

async fn an_event_that_is_parked_and_given_up_is_found<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let parked = one_is_parked(&outbox, &MemoryPublisher::new()).await;
    let (first, second) = (&parked[0].event, &parked[1].event);
    let found = outbox.find_event(second.id).await.unwrap();
    assert_eq!(states(&found), [EventState::Parked]);
    assert_eq!(found.parked[0].waits_behind, Some(first.id));
    assert_eq!(found.event.as_ref(), Some(second));
    assert!(outbox.discard_parked(first.id).await.unwrap());
    let found = outbox.find_event(first.id).await.unwrap();
    assert_eq!(states(&found), [EventState::Discarded]);
    assert_eq!((found.parked, found.discarded.len()), (Vec::<ParkedEvent>::new(), 1));

    let of = async |state| {
        let listed = outbox.list_events(&EventFilter::all().state(state), None, 10).await.unwrap();
        assert!(listed.iter().all(|event| event.state == state));
        listed.len()
    };
    assert_eq!(of(EventState::Published).await, 2);
    assert_eq!(of(EventState::Parked).await, 2);
    assert_eq!(of(EventState::Discarded).await, 1);
    assert_eq!(of(EventState::Pending).await, 0);
}

async fn events_are_listed_from_the_newest_on_by_what_they_have_in_common<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let before = SystemTime::now() - Duration::from_secs(1);
    for n in 0..10 {
        commit(&outbox, ["a", "b", "c"].map(|customer| OrderCreated::new(customer, n))).await;
    }
    drained_and_retained(&outbox).await;
    commit(&outbox, ["a", "b"].map(|customer| OrderCreated::new(customer, 10))).await;
    let list = async |filter, before, limit| {
        let listed = outbox.list_events(&filter, before, limit).await.unwrap();
        assert!(seqs(&listed).is_sorted_by(|newer, older| newer > older), "{listed:?}");
        listed
    };
    let all = list(EventFilter::all(), None, 100).await;
    assert_eq!(all.len(), 32);
    let mut paged = list(EventFilter::all(), None, 5).await;
    while let page @ [_, ..] =
        &list(EventFilter::all(), Some(paged.last().unwrap().seq), 5).await[..]
    {
        paged.extend_from_slice(page);
    }
    assert_eq!(paged, all);

    let of_a = list(EventFilter::all().key("a"), None, 100).await;
    assert_eq!(of_a.len(), 11);
    assert!(of_a.iter().all(|event| event.key.as_deref() == Some(b"a") && event.bytes > 0));
    assert_eq!((of_a[0].state, of_a[1].state), (EventState::Pending, EventState::Published));
    let pending = EventFilter::all().state(EventState::Pending);
    assert_eq!(list(pending.clone(), None, 100).await.len(), 2);
    assert_eq!(list(pending.key("c"), None, 100).await, []);
    let published = EventFilter::all().state(EventState::Published).name("order.created");
    assert_eq!(list(published.clone(), None, 3).await.len(), 3);
    assert_eq!(list(published.topic("payments"), None, 3).await, []);
    assert_eq!(list(EventFilter::all().occurred_from(before), None, 100).await.len(), 32);
    assert_eq!(list(EventFilter::all().occurred_before(before), None, 100).await, []);
}

async fn a_replay_is_previewed_and_made_a_part_at_a_time<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 3);
    for n in 1..=4 {
        commit(&outbox, ["a", "b", "poisoned"].map(|customer| OrderCreated::new(customer, n)))
            .await;
    }
    let running = RunningRelay::start(quick(&outbox, kafka.clone()).retention(AN_HOUR));
    until_parked(&outbox, 2).await;
    within_a_minute(kafka.wait_for(10)).await;
    running.stop().await;

    let all = || Replay::all().topic("order-events").name("order.created");
    assert_eq!(outbox.plan_replay(&all().key("a")).await.unwrap().len(), 4);
    assert!(outbox.plan_replay(&all().name("other")).await.unwrap().is_empty());
    let mut plan = outbox.plan_replay(&all()).await.unwrap();
    assert_eq!(plan.len(), 10, "without what is parked");
    assert_eq!(outbox.status().await.unwrap().backlog, 0, "nothing is replayed yet");
    assert_eq!(outbox.replay_next(&mut plan, 4).await.unwrap(), 4);
    assert_eq!((plan.len(), outbox.status().await.unwrap().backlog), (6, 4));

    // It was interrupted here, and another one continues.
    let mut rest = outbox.plan_replay(&all().after(plan.position())).await.unwrap();
    assert_eq!(rest.len(), 6);
    while !rest.is_empty() {
        assert!(outbox.replay_next(&mut rest, 4).await.unwrap() > 0);
    }
    assert_eq!(outbox.replay_next(&mut rest, 4).await.unwrap(), 0);
    let again = by_customer(&drained_and_retained(&outbox).await);
    assert_eq!((&*again["a"], &*again["b"]), (&[1, 2, 3, 4][..], &[1, 2, 3, 4][..]));
    assert_eq!(again.get("poisoned"), None, "those of the key wait behind what is parked");
    until_parked(&outbox, 4).await;
}

/// The row of a parked event whose leaf was truncated is the one in the table of parked events.
#[tokio::test]
async fn a_parked_event_is_listed_and_found_when_its_row_is_reclaimed() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let parked = one_is_parked(&outbox, &MemoryPublisher::new()).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    drained_and_retained(&outbox).await;
    assert!(outbox.reclaim(Duration::ZERO).await.unwrap() >= 5);
    let listed = outbox.list_events(&EventFilter::all(), None, 10).await.unwrap();
    let states: Vec<EventState> = listed.iter().map(|event| event.state).collect();
    assert_eq!(states[0], EventState::Published);
    assert_eq!(states[1..], [EventState::Parked; 3]);
    let found = outbox.find_event(parked[0].event.id).await.unwrap();
    assert_eq!((found.copies.len(), found.event.as_ref()), (0, Some(&parked[0].event)));
}

/// What commits late is below what was read: it is pending all the same, until it is published.
#[tokio::test]
async fn an_event_that_commits_late_is_told_to_be_pending() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let mut late = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut late).await.unwrap();
    tx.emit(OrderCreated::new("late", 1)).unwrap();
    tx.commit().await.unwrap();
    commit(&outbox, (0..20).map(|n| OrderCreated::new("a", n))).await;
    drained_and_retained(&outbox).await;
    let pending = EventFilter::all().state(EventState::Pending);
    assert_eq!(outbox.list_events(&pending, None, 10).await.unwrap(), []);
    late.commit().await.unwrap();
    let listed = outbox.list_events(&pending, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].key.as_deref()), (1, Some(&b"late"[..])));
    assert_eq!(states(&outbox.find_event(listed[0].id).await.unwrap()), [EventState::Pending]);
    drained_and_retained(&outbox).await;
    assert_eq!(outbox.list_events(&pending, None, 10).await.unwrap(), []);
}

async fn nothing<DB: OutboxDatabase>(
    _: &mut OutboxTx<'_, DB>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

macro_rules! groups_of_an_event {
    ($test:ident, $DB:ty, $pool:expr) => {
        #[tokio::test]
        async fn $test() {
            let (pool, _kept) = $pool;
            let outbox = migrated(Outbox::new(pool)).await;
            let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
            let id = message.context().id;
            assert_eq!(outbox.groups_of_event(id).await.unwrap(), []);
            for group in ["shipping", "billing"] {
                let test = HandlerTest::new(outbox.clone(), handler_fn(nothing::<$DB>)).unwrap();
                let test = test.group(group).unwrap();
                assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Handled);
            }
            let other = TestMessage::of(&OrderCreated::new("a", 2)).unwrap();
            let test = HandlerTest::new(outbox.clone(), handler_fn(nothing::<$DB>)).unwrap();
            let test = test.group("accounting").unwrap();
            assert_eq!(test.deliver(&other).await.unwrap(), Delivery::Handled);
            let groups = outbox.groups_of_event(id).await.unwrap();
            let told: Vec<_> = groups.iter().map(|group| (&*group.group, group.state)).collect();
            assert_eq!(told, [("billing", GroupState::Handled), ("shipping", GroupState::Handled)]);
        }
    };
}

groups_of_an_event!(
    the_groups_that_handled_an_event_are_told_on_postgres,
    Postgres,
    (support::postgres(POSTGRES, 4).await, ())
);
groups_of_an_event!(
    the_groups_that_handled_an_event_are_told_on_sqlite,
    Sqlite,
    support::sqlite(4).await
);
