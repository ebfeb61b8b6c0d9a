//! Who holds the lanes, whatever the clocks and the settings say.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::relays::{RunningRelay, drain, drain_to, new_relay};
use crate::support::{
    self, HeldPublisher, OrderCreated, POSTGRES, by_customer, commit, eventually, eventually_some,
    migrated, within_a_minute,
};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase, RelayBuilder};
use sqlx::{Executor, PgPool, SqlitePool};

on_every_store! {
    a_drain_says_who_holds_the_lanes_and_until_when
    the_shortest_and_the_longest_durations_are_harmless
    a_relay_that_stops_at_once_leaves_nothing_leased
    a_relay_that_reads_without_a_pause_ends_a_drain_and_gives_lanes_up
}

const DEAD: [&str; 2] = [
    "insert into outbox_relay (owner, shares) values ('00000000-0000-0000-0000-0000000000dd', true);
     insert into outbox_heartbeat (owner, alive_until, lease_millis)
     values ('00000000-0000-0000-0000-0000000000dd', clock_timestamp() + interval '1 hour', 500);
     update outbox_lane set owner = '00000000-0000-0000-0000-0000000000dd', epoch = 7",
    "insert into outbox_relay (owner, shares, sign, alive_until, lease_millis)
     values (x'000000000000000000000000000000dd', 1, 1, (unixepoch() + 3600) * 1000, 500);
     update outbox_lane set owner = x'000000000000000000000000000000dd', epoch = 7",
];

/// It renewed its lease, the clock was set back by an hour, and it died.
async fn a_dead_relays_lanes_are_taken_over<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let kafka = MemoryPublisher::new();
    let error = drain(new_relay(&outbox, kafka.clone())).await.unwrap_err();
    assert!(error.to_string().contains("00000000-0000-0000-0000-0000000000dd"), "{error}");
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    within_a_minute(kafka.wait_for(1)).await;
    // All of them: the dead one is not reckoned with.
    until_lanes_are_of(&outbox, 1).await;
    relay.abort().await;
}

#[tokio::test]
async fn a_lease_that_a_clock_set_back_makes_long_is_not_believed_on_postgres() {
    let pool: PgPool = support::postgres(POSTGRES, 4).await;
    let outbox = migrated(Outbox::new(pool.clone())).await;
    pool.execute(DEAD[0]).await.unwrap();
    a_dead_relays_lanes_are_taken_over(outbox).await;
}

#[tokio::test]
async fn a_lease_that_a_clock_set_back_makes_long_is_not_believed_on_sqlite() {
    let (pool, _directory): (SqlitePool, _) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool.clone())).await;
    pool.execute(DEAD[1]).await.unwrap();
    a_dead_relays_lanes_are_taken_over(outbox).await;
}

#[tokio::test]
async fn a_drain_says_which_lanes_a_transaction_has_locked() {
    let pool: PgPool = support::postgres(POSTGRES, 4).await;
    let outbox = migrated(Outbox::new(pool.clone())).await;
    let mut tx = pool.begin().await.unwrap();
    tx.execute("select from outbox_lane where lane in (3, 4) for update").await.unwrap();
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err();
    assert!(error.to_string().contains("[3, 4]"), "{error}");
    tx.rollback().await.unwrap();
    assert_eq!(drain_to(&outbox, MemoryPublisher::new()).await, 0);
}

#[tokio::test]
async fn rows_of_lanes_that_are_missing_stop_the_relay_with_the_way_out_on_sqlite() {
    let (pool, _directory): (SqlitePool, _) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool.clone())).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    pool.execute("delete from outbox_lane").await.unwrap();
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let message = error.to_string();
    let remedy = message.split('`').nth(1).expect("the statement to run, in backquotes");
    pool.execute(sqlx::AssertSqlSafe(remedy)).await.unwrap();
    assert_eq!(drain_to(&outbox, MemoryPublisher::new()).await, 1);
}

async fn a_drain_says_who_holds_the_lanes_and_until_when<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let relay = new_relay(&outbox, MemoryPublisher::new()).lease(Duration::from_secs(1_000));
    let relay = RunningRelay::start(relay);
    let owner = async || outbox.status().await.unwrap().lanes[15].owner;
    let owner = eventually_some("the last lane is leased", owner).await;
    let error = drain(new_relay(&outbox, MemoryPublisher::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let message = error.to_string();
    for part in ["holds 16 of the 16 lanes", &owner.to_string(), "[0, 1, 2, 3", "for 9"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    relay.abort().await;
}

/// Waits until all lanes are leased, by this number of relays together.
async fn until_lanes_are_of<DB: OutboxDatabase>(outbox: &Outbox<DB>, relays: usize) {
    let are = async || {
        let lanes = outbox.status().await.unwrap().lanes;
        let owners: HashSet<_> = lanes.iter().filter_map(|lane| lane.owner).collect();
        lanes.iter().all(|lane| lane.owner.is_some()) && owners.len() == relays
    };
    eventually(&format!("all lanes are leased by {relays} relays"), are).await;
}

async fn nothing_is_leased<DB: OutboxDatabase>(outbox: &Outbox<DB>) {
    let lanes = outbox.status().await.unwrap().lanes;
    assert!(lanes.iter().all(|lane| lane.owner.is_none()), "{lanes:?}");
}

type Setter<R> = fn(R, Duration) -> R;

async fn the_shortest_and_the_longest_durations_are_harmless<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    for duration in [Duration::ZERO, Duration::MAX] {
        let setters: [Setter<RelayBuilder<DB, MemoryPublisher>>; 5] = [
            RelayBuilder::poll_interval,
            RelayBuilder::lease,
            RelayBuilder::drain_timeout,
            RelayBuilder::retry_parked,
            RelayBuilder::retention,
        ];
        for (n, set) in setters.into_iter().enumerate() {
            let kafka = MemoryPublisher::new();
            let relay = set(new_relay(&outbox, kafka.clone()), duration);
            let relay = RunningRelay::start(relay);
            commit(&outbox, [OrderCreated::new("a", n as i64)]).await;
            within_a_minute(kafka.wait_for(1)).await;
            relay.stop().await;
            nothing_is_leased(&outbox).await;
        }
        outbox.reclaim(duration).await.unwrap();
        outbox.forget_handled("group", duration).await.unwrap();
    }
}

async fn a_relay_that_stops_at_once_leaves_nothing_leased<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    for n in 0..20 {
        commit(&outbox, [OrderCreated::new("a", n)]).await;
        let held = HeldPublisher::default();
        let relay = new_relay(&outbox, held.clone()).drain_timeout(Duration::ZERO);
        let relay = RunningRelay::start(relay);
        if n % 2 == 0 {
            within_a_minute(held.got(1)).await;
        }
        relay.stop().await;
        nothing_is_leased(&outbox).await;
    }
}

/// Each read takes longer than the poll interval, so the next one is always due.
async fn a_relay_that_reads_without_a_pause_ends_a_drain_and_gives_lanes_up<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let relay = || new_relay(&outbox, MemoryPublisher::new()).poll_interval(Duration::ZERO);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(drain(relay()).await.unwrap(), 1);

    let first = RunningRelay::start(relay());
    until_lanes_are_of(&outbox, 1).await;
    let second = RunningRelay::start(relay());
    until_lanes_are_of(&outbox, 2).await;
    first.abort().await;
    second.abort().await;
}

/// Such as `select … for update` in an operator's session. The bound is shorter than the time after
/// which the relay gives up a statement.
#[tokio::test]
async fn a_lock_on_the_row_of_a_lane_stops_only_that_lane() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let kafka = MemoryPublisher::new();
    let relay = new_relay(&outbox, kafka.clone()).lease(Duration::from_millis(300));
    let relay = RunningRelay::start(relay);
    until_lanes_are_of(&outbox, 1).await;
    let mut lock = outbox.pool().begin().await.unwrap();
    lock.execute("select from outbox_lane where lane = 0 for update").await.unwrap();

    let customers: Vec<String> = (0..64).map(|n| format!("customer-{n}")).collect();
    let others_continue = async {
        for n in 1..=5 {
            let events = customers.iter().map(|customer| OrderCreated::new(customer, n as i64));
            commit(&outbox, events).await;
            kafka.wait_for(n * 48).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), others_continue).await.expect("no lane waits");
    lock.rollback().await.unwrap();

    let is_published = async || outbox.status().await.unwrap().backlog == 0;
    eventually("the lane is published too", is_published).await;
    relay.stop().await;
    for mut numbers in by_customer(&kafka.published()).into_values() {
        // What was not saved when the lane was lost may come twice.
        let mut seen = HashSet::new();
        numbers.retain(|number| seen.insert(*number));
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }
}
