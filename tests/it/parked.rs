//! Parked events, and what an operator does with them: they hold up only their own topic and key,
//! take a bounded amount of memory, and no innocent event is discarded by accident.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::relays::{self, RunningRelay, quick, until_parked, until_parked_count};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually, eventually_some, migrated,
    next_leaf, order, until_true, within_a_minute,
};
use outbox::admin::{ParkedEvent, Replay};
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase};
use sqlx::{AssertSqlSafe, Executor, Postgres, Sqlite};
use uuid::Uuid;

on_every_store! {
    a_refused_event_parks_its_key_on_its_topic_and_on_no_other
    a_key_too_long_for_an_index_is_parked_and_no_lane_begins_again
    what_cannot_be_parked_stops_its_own_lane_only
    no_event_overtakes_its_key_among_more_parked_keys_than_a_relay_knows
    what_is_parked_of_one_key_is_published_in_order_in_several_rounds
    parked_events_are_listed_by_key_and_in_order_with_what_they_wait_behind
    what_merely_waits_is_not_discarded_unless_asked
    a_key_of_which_all_is_discarded_is_free_at_once
    a_discarded_event_is_not_replayed_unless_by_its_id
    a_discarded_event_is_remembered_until_its_space_is_reclaimed
    events_are_replayed_once_however_often_they_were_before
    a_parked_event_is_not_replayed
    a_parked_event_that_was_not_sent_counts_no_attempt
}

/// What a test does to the tables, in each database's words.
trait Raw: OutboxDatabase {
    async fn run(outbox: &Outbox<Self>, on_postgres: &str, on_sqlite: &str);
    async fn next_piece(outbox: &Outbox<Self>);
}

impl Raw for Postgres {
    async fn run(outbox: &Outbox<Self>, on_postgres: &str, _: &str) {
        outbox.pool().execute(AssertSqlSafe(on_postgres.to_owned())).await.unwrap();
    }

    async fn next_piece(outbox: &Outbox<Self>) {
        next_leaf(outbox).await;
    }
}

impl Raw for Sqlite {
    async fn run(outbox: &Outbox<Self>, _: &str, on_sqlite: &str) {
        outbox.pool().execute(AssertSqlSafe(on_sqlite.to_owned())).await.unwrap();
    }

    async fn next_piece(_: &Outbox<Self>) {}
}

#[derive(serde::Serialize, outbox::DomainEvent)]
#[event(topic = "payment-events")]
struct Paid {
    #[event(key)]
    customer: String,
    n: i64,
}

/// Refuses an order of "poisoned", unless the cause is removed.
fn refuse_order(kafka: &MemoryPublisher, n: i64) {
    kafka.refuse(move |record| {
        let poison = record.topic == "order-events" && {
            let order = order(record);
            order.customer.starts_with("poisoned") && order.n == n
        };
        poison.then(|| "no".to_owned())
    });
}

/// Commits orders 1 to 5 of the customer "poisoned", the third of which is refused. Three are
/// parked then.
async fn one_is_parked<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    kafka: &MemoryPublisher,
) -> Vec<ParkedEvent> {
    refuse_order(kafka, 3);
    let running = RunningRelay::start(quick(outbox, kafka.clone()));
    for n in 1..=5 {
        commit(outbox, [OrderCreated::new("poisoned", n)]).await;
    }
    let parked = until_parked(outbox, 3).await;
    running.stop().await;
    parked
}

fn numbers(parked: &[ParkedEvent]) -> Vec<i64> {
    parked.iter().map(|parked| order(&parked.event).n).collect()
}

async fn drained<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> BTreeMap<String, Vec<i64>> {
    by_customer(&relays::drained(outbox).await)
}

async fn a_refused_event_parks_its_key_on_its_topic_and_on_no_other<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 1);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 1..=3 {
        let mut tx = outbox.begin().await.unwrap();
        tx.emit(OrderCreated::new("poisoned", n)).unwrap();
        tx.emit(Paid { customer: "poisoned".into(), n }).unwrap();
        tx.commit().await.unwrap();
    }
    let published = within_a_minute(kafka.wait_for(3)).await;
    assert!(published.iter().all(|record| record.topic == "payment-events"), "{published:?}");
    until_parked(&outbox, 3).await;
    assert_eq!(outbox.release_parked_on("payment-events", b"poisoned").await.unwrap(), 0);
    kafka.accept_all();
    assert_eq!(outbox.release_parked_on("order-events", b"poisoned").await.unwrap(), 3);
    until_parked(&outbox, 0).await;
    running.stop().await;
    let orders: Vec<_> =
        kafka.published().into_iter().filter(|record| record.topic == "order-events").collect();
    assert_eq!(by_customer(&orders)["poisoned"], [1, 2, 3]);
}

async fn a_key_too_long_for_an_index_is_parked_and_no_lane_begins_again<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 1);
    // Random: Postgres would compress it otherwise.
    let noise: String = (0..500).map(|_| Uuid::now_v7().simple().to_string()).collect();
    let long = format!("poisoned {noise}");
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 1..=3 {
        let customers =
            (0..64).map(|customer| OrderCreated::new(format!("customer-{customer}"), n));
        commit(&outbox, customers.chain([OrderCreated::new(long.clone(), n)])).await;
    }
    until_parked(&outbox, 3).await;
    within_a_minute(kafka.wait_for(3 * 64)).await;
    kafka.accept_all();
    assert_eq!(outbox.release_parked(long.as_bytes()).await.unwrap(), 3);
    until_parked(&outbox, 0).await;
    running.stop().await;
    let published = kafka.published();
    assert_eq!(published.len(), 3 * 65, "nothing twice");
    assert!(by_customer(&published).values().all(|ns| *ns == [1, 2, 3]));
}

async fn what_cannot_be_parked_stops_its_own_lane_only<DB: Raw>(outbox: Outbox<DB>) {
    DB::run(
        &outbox,
        "alter table outbox_parked add constraint sabotage check (topic <> 'order-events')",
        "create trigger sabotage before insert on outbox_parked begin select raise(abort, 'sabotage'); end",
    )
    .await;
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 1);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    commit(&outbox, [OrderCreated::new("poisoned", 1)]).await;
    let customers: Vec<String> = (0..64).map(|n| format!("customer-{n}")).collect();
    for n in 1..=30 {
        commit(&outbox, customers.iter().map(|customer| OrderCreated::new(customer, n))).await;
    }
    // The lane of the poisoned customer waits, with customers that share it; far more than half of
    // the others do not.
    within_a_minute(kafka.wait_for(30 * 48)).await;
    assert_eq!(outbox.status().await.unwrap().parked, 0);
    DB::run(&outbox, "alter table outbox_parked drop constraint sabotage", "drop trigger sabotage")
        .await;
    until_parked(&outbox, 1).await;
    let published = within_a_minute(kafka.wait_for(30 * 64)).await;
    running.stop().await;
    assert_eq!(published.len(), 30 * 64, "nothing twice");
    assert!(by_customer(&published).values().all(|ns| ns.is_sorted()));
}

async fn no_event_overtakes_its_key_among_more_parked_keys_than_a_relay_knows<DB: Raw>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    one_is_parked(&outbox, &kafka).await;
    DB::run(
        &outbox,
        "insert into outbox_parked_key (lane, key_digest, released)
         select p.lane, md5(n::text)::uuid, false from outbox_parked p, generate_series(1, 10001) n
         where p.attempts > 0",
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 10001)
         insert into outbox_parked_key (lane, key_digest, since, released)
         select p.lane, randomblob(16), p.since, 0 from outbox_parked p, n where p.attempts > 0",
    )
    .await;
    kafka.accept_all();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    for n in 6..=8 {
        let customers =
            (0..64).map(|customer| OrderCreated::new(format!("customer-{customer}"), n));
        commit(&outbox, customers.chain([OrderCreated::new("poisoned", n)])).await;
    }
    within_a_minute(kafka.wait_for(2 + 3 * 64)).await;
    until_parked(&outbox, 6).await;
    assert_eq!(by_customer(&kafka.published())["poisoned"], [1, 2]);
    assert_eq!(outbox.release_parked_on("order-events", b"poisoned").await.unwrap(), 6);
    until_parked(&outbox, 0).await;
    commit(&outbox, [OrderCreated::new("poisoned", 9)]).await;
    let published = within_a_minute(kafka.wait_for(2 + 3 * 64 + 7)).await;
    running.stop().await;
    assert_eq!(by_customer(&published)["poisoned"], (1..=9).collect::<Vec<_>>());
}

async fn what_is_parked_of_one_key_is_published_in_order_in_several_rounds<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 0);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    // More than is tried at once: in bytes (20 of 500 kB), and then in events.
    let large = "x".repeat(250_000);
    for n in 0..20 {
        let event = OrderCreated { customer: "poisoned".into(), tenant: Some(large.clone()), n };
        commit(&outbox, [event]).await;
    }
    commit(&outbox, (20..300).map(|n| OrderCreated::new("poisoned", n))).await;
    until_parked_count(&outbox, 300).await;
    kafka.accept_all();
    assert_eq!(outbox.release_all_parked().await.unwrap(), 300);
    let published = within_a_minute(kafka.wait_for(300)).await;
    until_parked(&outbox, 0).await;
    running.stop().await;
    assert_eq!(by_customer(&published)["poisoned"], (0..300).collect::<Vec<_>>());
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
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    until_parked(&outbox, 0).await;
    running.stop().await;

    let discarded = outbox.discarded(10).await.unwrap();
    assert_eq!((discarded.len(), discarded[0].id, discarded[0].seq), (1, id, parked[0].seq));
    assert_eq!(
        (&*discarded[0].topic, discarded[0].reason.as_deref()),
        ("order-events", Some("no"))
    );
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 4);
    assert_eq!(drained(&outbox).await["poisoned"], [1, 2, 4, 5]);
    assert_eq!(outbox.replay(Replay::all().ids([id])).await.unwrap(), 1);
    assert_eq!(drained(&outbox).await["poisoned"], [3]);
    assert_eq!(outbox.discarded(10).await.unwrap(), [], "that took it back");
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 5);
}

async fn a_discarded_event_is_remembered_until_its_space_is_reclaimed<DB: Raw>(outbox: Outbox<DB>) {
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
    drained(&outbox).await;
    assert!(outbox.reclaim(Duration::ZERO).await.unwrap() >= 5);
    assert_eq!(outbox.discarded(10).await.unwrap(), []);
}

async fn events_are_replayed_once_however_often_they_were_before<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let all: Vec<i64> = (0..10).collect();
    commit(&outbox, all.iter().map(|n| OrderCreated::new("a", *n))).await;
    drained(&outbox).await;
    for _ in 0..3 {
        assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 10);
        assert_eq!(drained(&outbox).await["a"], all, "each once, in the first order");
    }
    let ids = drained_ids(&outbox).await;
    assert_eq!(outbox.replay(Replay::all().ids(ids.iter().rev().copied())).await.unwrap(), 10);
    assert_eq!(drained(&outbox).await["a"], all);
}

/// Replays all there is, and returns the ids.
async fn drained_ids<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<Uuid> {
    outbox.replay(Replay::all()).await.unwrap();
    relays::drained(outbox).await.iter().map(|record| record.id).collect()
}

async fn a_parked_event_is_not_replayed<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    let parked = one_is_parked(&outbox, &kafka).await;
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 2);
    assert_eq!(outbox.replay(Replay::all().ids([parked[0].event.id])).await.unwrap(), 0);
}

/// Sends nothing, through no fault of the events, and counts its calls.
#[derive(Clone, Default)]
struct Unable(Arc<AtomicUsize>);

impl Publisher for Unable {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        self.0.fetch_add(1, Ordering::SeqCst);
        batch.events.iter().map(|_| DeliveryReport::NotSent).collect()
    }
}

async fn a_parked_event_that_was_not_sent_counts_no_attempt<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let parked = one_is_parked(&outbox, &MemoryPublisher::new()).await;
    outbox.release_all_parked().await.unwrap();
    let unable = Unable::default();
    let running = RunningRelay::start(quick(&outbox, unable.clone()));
    eventually("a parked event is tried", async || unable.0.load(Ordering::SeqCst) > 0).await;
    running.stop().await;
    assert_eq!(outbox.parked(10).await.unwrap(), parked);
}

#[tokio::test]
async fn the_only_copy_that_is_left_can_be_replayed() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    drained(&outbox).await;
    next_leaf(&outbox).await;
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    drained(&outbox).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 1, "the original");
    assert_eq!(outbox.replay(Replay::all()).await.unwrap(), 1);
    assert_eq!(drained(&outbox).await["a"], [1]);
}

/// What the database does not accept is recorded later, and not sent again until then.
#[tokio::test]
async fn a_parked_event_whose_delivery_cannot_be_noted_is_not_sent_again_and_again() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let kafka = MemoryPublisher::new();
    one_is_parked(&outbox, &kafka).await;
    // A sequence counts what is rolled back, too.
    outbox
        .pool()
        .execute(
            "create sequence public.tries;
             create function sabotage() returns trigger language plpgsql as
             $$ begin perform nextval('public.tries'); raise 'sabotage'; end $$;
             create trigger sabotage before delete on outbox_parked for each row execute function sabotage()",
        )
        .await
        .unwrap();
    kafka.accept_all();
    outbox.release_all_parked().await.unwrap();
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    until_true(outbox.pool(), "select last_value >= 4 from tries").await;
    outbox.pool().execute("drop trigger sabotage on outbox_parked").await.unwrap();
    until_parked(&outbox, 0).await;
    running.stop().await;
    assert_eq!(by_customer(&kafka.published())["poisoned"], [1, 2, 3, 4, 5], "nothing twice");
}

#[tokio::test]
async fn a_lock_on_the_parked_events_stops_only_the_lane_that_needs_them() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let mut tx = outbox.pool().begin().await.unwrap();
    tx.execute("lock table outbox_parked in share mode").await.unwrap();
    let kafka = MemoryPublisher::new();
    refuse_order(&kafka, 1);
    let running = RunningRelay::start(quick(&outbox, kafka.clone()));
    commit(&outbox, [OrderCreated::new("poisoned", 1)]).await;
    let customers: Vec<String> = (0..64).map(|n| format!("customer-{n}")).collect();
    within_a_minute(async {
        for n in 1..=100 {
            let events = customers.iter().map(|customer| OrderCreated::new(customer, n as i64));
            commit(&outbox, events).await;
            kafka.wait_for(n * 48).await;
        }
    })
    .await;
    assert_eq!(outbox.status().await.unwrap().parked, 0);
    tx.rollback().await.unwrap();
    until_parked(&outbox, 1).await;
    let published = within_a_minute(kafka.wait_for(100 * 64)).await;
    running.stop().await;
    assert_eq!(published.len(), 100 * 64, "nothing twice");
}
