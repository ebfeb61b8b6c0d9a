//! What an operator relies on: relays share the lanes, what is published can be replayed, the
//! status is right, and tables of another version are named.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::support::relays::{RunningRelay, drained_and_retained, quick};
use crate::support::{OrderCreated, by_customer, commit, eventually, within_a_minute};
use outbox::admin::{LANES, Replay};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase, OutboxError};
use sqlx::Executor;
use uuid::Uuid;

on_every_store! {
    relays_share_the_lanes_and_nothing_is_published_twice_when_they_come_and_go
    the_lanes_of_a_relay_that_died_are_taken_over
    published_events_are_retained_and_can_be_replayed
    the_status_counts_what_is_not_published
    the_status_says_where_each_relay_is_found
    a_status_that_cannot_be_read_is_an_error_in_time
    tables_of_another_version_are_named_by_whatever_needs_them
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
    let relay =
        |kafka: &MemoryPublisher| quick(&outbox, kafka.clone()).lease(Duration::from_secs(3600));
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
    let dies = RunningRelay::start(quick(&outbox, kafka.clone()));
    let lives = RunningRelay::start(quick(&outbox, kafka.clone()));
    lanes_are_held_by(&outbox, &[8, 8]).await;
    dies.abort().await;
    lanes_are_held_by(&outbox, &[LANES]).await;
    commit(&outbox, (0..64).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    within_a_minute(kafka.wait_for(64)).await;
    lives.stop().await;
}

async fn published_events_are_retained_and_can_be_replayed<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let before = SystemTime::now() - Duration::from_secs(1);
    commit(&outbox, (0..10).map(|n| OrderCreated::new("a", n))).await;
    let published = drained_and_retained(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 10)]).await; // not published, so not replayed

    assert_eq!(outbox.replay(Replay::all().topic("none")).await.unwrap(), 0);
    assert_eq!(outbox.replay(Replay::all().occurred_before(before)).await.unwrap(), 0);
    assert_eq!(
        outbox.replay(Replay::all().ids([published[3].id, published[7].id])).await.unwrap(),
        2
    );
    let again = drained_and_retained(&outbox).await;
    assert_eq!(by_customer(&again)["a"], [10, 3, 7], "after what was there");
    let mut marked = published[3].clone();
    marked.headers.insert("outbox-replayed", "1");
    assert_eq!(again[1], marked, "the same event, id and all");

    let all =
        outbox.replay(Replay::all().topic("order-events").occurred_from(before)).await.unwrap();
    assert_eq!(all, 11, "each once, also those that were replayed before");
    assert_eq!(
        by_customer(&drained_and_retained(&outbox).await)["a"],
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
    drained_and_retained(&outbox).await;
    assert_eq!(outbox.status().await.unwrap().backlog, 0);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(outbox.status().await.unwrap().backlog, 1);
}

async fn the_status_says_where_each_relay_is_found<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let before = SystemTime::now() - Duration::from_secs(1);
    let kafka = MemoryPublisher::new();
    let stops = RunningRelay::start(quick(&outbox, kafka.clone()));
    let dies = RunningRelay::start(quick(&outbox, kafka.clone()));
    lanes_are_held_by(&outbox, &[8, 8]).await;
    let status = outbox.status().await.unwrap();
    assert_eq!(status.relays.len(), 2);
    for relay in &status.relays {
        assert_eq!(relay.pid, Some(std::process::id()));
        assert_eq!(relay.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(relay.host.as_ref().is_some_and(|host| !host.is_empty()));
        assert!(
            relay.started > before
                && relay.last_sign >= Some(relay.started - Duration::from_secs(1))
        );
        assert_eq!((relay.lease, relay.is_drain), (Duration::from_millis(300), false));
        let held = status.lanes.iter().filter(|lane| lane.owner == Some(relay.id));
        assert_eq!(relay.lanes, held.map(|lane| lane.lane).collect::<Vec<_>>());
    }
    stops.stop().await;
    lanes_are_held_by(&outbox, &[LANES]).await;
    assert_eq!(outbox.status().await.unwrap().relays.len(), 1, "one that stops says so");
    dies.abort().await;
    let is_dead = async || {
        let relays = outbox.status().await.unwrap().relays;
        relays.len() == 1 && !relays[0].is_alive && relays[0].lanes.is_empty()
    };
    eventually("the other is told to be dead", is_dead).await;
}

async fn a_status_that_cannot_be_read_is_an_error_in_time<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(outbox.pool().acquire().await.unwrap());
    }
    // The pool alone would wait for 20 s or more.
    let error = outbox.status_within(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("did not answer within 1ms"), "{error}");
    drop(taken);
    outbox.status().await.unwrap();
}

async fn tables_of_another_version_are_named_by_whatever_needs_them<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    for statement in [
        "alter table outbox_event drop column kafka_partition",
        "alter table outbox_discarded drop column reason",
        if DB::NAME == "MySQL" {
            "drop index inbox_handled_at on outbox_inbox"
        } else {
            "drop index outbox_inbox_handled_at"
        },
        "alter table outbox_inbox drop column handled_at",
        if DB::NAME == "MySQL" { "alter table outbox_sent drop column lane" } else { "select 1" },
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
