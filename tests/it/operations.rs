//! What an operator relies on: relays share the lanes, what is refused is parked and can be
//! released or discarded, what is published can be replayed, and its space comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::support::relays::{RunningRelay, drain_to, drained, quick, until_parked};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually, migrated, next_leaf, order,
    within_a_minute,
};
use outbox::admin::{LANES, Replay};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase, OutboxError, RelayBuilder};
use sqlx::{Executor, Postgres};
use uuid::Uuid;

on_every_store! {
    relays_share_the_lanes_and_nothing_is_published_twice_when_they_come_and_go
    the_lanes_of_a_relay_that_died_are_taken_over
    a_refused_event_is_parked_with_the_later_ones_of_its_key_and_the_other_keys_go_on
    parked_events_stay_parked_when_another_relay_takes_over
    a_discarded_event_is_given_up_and_those_behind_it_go_on
    parked_events_are_tried_again_by_themselves
    a_parked_event_without_a_key_stands_in_nobodys_way
    the_events_of_a_refused_topic_do_not_stop_those_of_another
    published_events_are_retained_and_can_be_replayed
    the_status_counts_what_is_not_published
    tables_of_another_version_are_named_by_whatever_needs_them
}

fn relay<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    kafka: &MemoryPublisher,
) -> RelayBuilder<DB, MemoryPublisher> {
    quick(outbox, kafka.clone())
}

/// Waits until each of the relays holds its number of lanes.
async fn lanes_are_held_by<DB: OutboxDatabase>(outbox: &Outbox<DB>, shares: &[usize]) {
    let are = async || {
        let mut held = BTreeMap::<Uuid, usize>::new();
        for owner in outbox.status().await.unwrap().lanes.iter().filter_map(|lane| lane.owner) {
            *held.entry(owner).or_default() += 1;
        }
        let mut held: Vec<usize> = held.into_values().collect();
        held.sort_unstable();
        held == shares
    };
    eventually(&format!("relays hold {shares:?} lanes"), are).await;
}

async fn relays_share_the_lanes_and_nothing_is_published_twice_when_they_come_and_go<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    // No relay dies here: none may lose a lane because the machine is slow.
    let relay = |kafka: &MemoryPublisher| relay(&outbox, kafka).lease(Duration::from_secs(3600));
    let customers: Vec<String> = (0..64).map(|n| format!("customer-{n}")).collect();
    let mut n = 0;
    let mut publish = async || {
        n += 1;
        commit(&outbox, customers.iter().map(|customer| OrderCreated::new(customer, n))).await;
        n
    };
    let first = RunningRelay::start(relay(&kafka));
    lanes_are_held_by(&outbox, &[LANES]).await;
    publish().await;
    let second = RunningRelay::start(relay(&kafka));
    publish().await;
    lanes_are_held_by(&outbox, &[8, 8]).await;
    publish().await;
    let third = RunningRelay::start(relay(&kafka));
    publish().await;
    lanes_are_held_by(&outbox, &[4, 6, 6]).await;
    publish().await;
    first.stop().await;
    publish().await;
    lanes_are_held_by(&outbox, &[8, 8]).await;
    second.stop().await;
    lanes_are_held_by(&outbox, &[LANES]).await;
    let last = publish().await;
    let published = within_a_minute(kafka.wait_for(64 * last as usize)).await;
    third.stop().await;
    assert_eq!(published.len(), 64 * last as usize, "nothing twice");
    let expected: Vec<i64> = (1..=last).collect();
    assert!(
        by_customer(&published).values().all(|ns| *ns == expected),
        "{:?}",
        by_customer(&published)
    );
}

async fn the_lanes_of_a_relay_that_died_are_taken_over<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    let dies = RunningRelay::start(relay(&outbox, &kafka));
    let lives = RunningRelay::start(relay(&outbox, &kafka));
    lanes_are_held_by(&outbox, &[8, 8]).await;
    dies.abort().await;
    lanes_are_held_by(&outbox, &[LANES]).await;
    commit(&outbox, (0..64).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    within_a_minute(kafka.wait_for(64)).await;
    lives.stop().await;
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
    let running = RunningRelay::start(relay(outbox, kafka));
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
    let running = RunningRelay::start(relay(&outbox, &kafka));
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
        RunningRelay::start(relay(&outbox, &kafka).retry_parked(Duration::from_millis(50)));
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
    let running = RunningRelay::start(relay(&outbox, &kafka));
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
    let running = RunningRelay::start(relay(&outbox, &kafka));
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

async fn published_events_are_retained_and_can_be_replayed<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let before = SystemTime::now() - Duration::from_secs(1);
    commit(&outbox, (0..10).map(|n| OrderCreated::new("a", n))).await;
    let published = drained(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 10)]).await; // not published, so not replayed

    assert_eq!(outbox.replay(Replay::all().topic("none")).await.unwrap(), 0);
    assert_eq!(outbox.replay(Replay::all().occurred_before(before)).await.unwrap(), 0);
    assert_eq!(
        outbox.replay(Replay::all().ids([published[3].id, published[7].id])).await.unwrap(),
        2
    );
    let again = drained(&outbox).await;
    assert_eq!(by_customer(&again)["a"], [10, 3, 7], "after what was there");
    assert_eq!(again[1], published[3], "the same event, id and all");

    let all =
        outbox.replay(Replay::all().topic("order-events").occurred_from(before)).await.unwrap();
    assert_eq!(all, 11, "each once, also those that were replayed before");
    assert_eq!(
        by_customer(&drained(&outbox).await)["a"],
        (0..=10).collect::<Vec<_>>(),
        "in their first order"
    );
}

async fn the_status_counts_what_is_not_published<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let before = SystemTime::now() - Duration::from_secs(1);
    let status = outbox.status().await.unwrap();
    assert_eq!(
        (status.backlog, status.oldest_pending, status.parked, status.lanes.len()),
        (0, None, 0, LANES)
    );
    commit(&outbox, (0..50).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    let status = outbox.status().await.unwrap();
    assert_eq!(status.backlog, 50);
    assert!(status.oldest_pending.unwrap() > before);
    drain(&outbox).await;
    assert_eq!(outbox.status().await.unwrap().backlog, 0);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(outbox.status().await.unwrap().backlog, 1);
}

async fn drain<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> u64 {
    drain_to(outbox, MemoryPublisher::new()).await
}

#[tokio::test]
async fn on_sqlite_published_rows_are_deleted_and_others_stay() {
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "none is published");
    assert_eq!(drain(&outbox).await, 10);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(
        outbox.reclaim(Duration::from_secs(3600)).await.unwrap(),
        0,
        "all are younger than that"
    );
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
    assert_eq!(drain(&outbox).await, 1);
}

async fn on_postgres() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 8).await)).await
}

#[tokio::test]
async fn a_leaf_is_truncated_when_all_of_it_is_published_and_old_enough() {
    let outbox = on_postgres().await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    assert_eq!(drain(&outbox).await, 10);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "it is the current leaf");
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(
        outbox.reclaim(Duration::from_secs(3600)).await.unwrap(),
        0,
        "it is younger than that"
    );
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
    assert_eq!(drain(&outbox).await, 1, "the other leaf is whole");
}

#[tokio::test]
async fn a_leaf_with_events_that_are_not_published_is_left_alone() {
    let outbox = on_postgres().await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(drain(&outbox).await, 11);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
}

/// Neither an open nor a prepared transaction loses its event, and reclaiming waits for neither.
#[tokio::test]
async fn a_leaf_is_left_alone_while_a_transaction_that_wrote_to_it_is_open() {
    let outbox = on_postgres().await;
    let gid = format!("outbox_{}", Uuid::now_v7().simple());
    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new("open", 1)).unwrap();
    tx.commit().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drain(&outbox).await, 2);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    open.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{gid}'"))).await.unwrap();
    open.commit().await.unwrap(); // only tells sqlx that it is over
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    outbox.pool().execute(sqlx::AssertSqlSafe(format!("commit prepared '{gid}'"))).await.unwrap();
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "it is not published yet");
    assert_eq!(drain(&outbox).await, 1);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 2);
}

#[tokio::test]
async fn a_row_that_arrives_in_a_leaf_after_its_truncation_is_published() {
    let outbox = on_postgres().await;
    let mut open = outbox.pool().begin().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    // Its transaction id and its number are drawn, and its row is not inserted.
    let seq: i64 = sqlx::query_scalar("select nextval('outbox_seq') from pg_current_xact_id()")
        .fetch_one(&mut *open)
        .await
        .unwrap();
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drain(&outbox).await, 2);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 1);
    sqlx::query(
        "insert into outbox_event (seq, lane, id, topic, name, version, content_type, headers, payload, occurred_at) \
         values ($1, 0, gen_random_uuid(), 'order-events', 'order.created', 1, 'application/json', '{}', '{}', now())",
    )
    .bind(seq)
    .execute(&mut *open)
    .await
    .unwrap();
    open.commit().await.unwrap();
    assert_eq!(drain(&outbox).await, 1);
}

/// With the lock of every leaf that may be reclaimed held by the reclaiming transaction, the
/// business still inserts.
#[tokio::test]
async fn inserts_never_wait_for_reclaiming() {
    let outbox = on_postgres().await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    let mut reclaiming = outbox.pool().begin().await.unwrap();
    reclaiming.execute("lock table outbox_event_0 in access exclusive mode").await.unwrap();
    within_a_minute(commit(
        &outbox,
        (3..100).map(|n| OrderCreated::new(format!("customer-{n}"), n)),
    ))
    .await;
    reclaiming.rollback().await.unwrap();
    assert_eq!(drain(&outbox).await, 99);
}

async fn tables_of_another_version_are_named_by_whatever_needs_them<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    for statement in [
        "alter table outbox_event drop column kafka_partition",
        "alter table outbox_discarded drop column reason",
        "drop index outbox_inbox_handled_at",
        "alter table outbox_inbox drop column handled_at",
    ] {
        outbox.pool().execute(statement).await.unwrap();
    }
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    for error in [
        tx.commit().await.unwrap_err(),
        outbox.replay(Replay::all()).await.unwrap_err(),
        outbox.forget_handled("a group", Duration::ZERO).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error}");
        assert!(error.to_string().contains("of another version"), "{error}");
    }
    // A statement of the user's says nothing about the outbox.
    let error = outbox.pool().execute("select total from outbox_lane").await.err().unwrap();
    assert_eq!(OutboxError::from(error).kind(), ErrorKind::Database);
}
