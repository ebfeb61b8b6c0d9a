//! Parked events hold up only their own topic and key, and take a bounded amount of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::parked::{one_is_parked, refuse_order};
use crate::support::relays::{RunningRelay, quick, until_parked, until_parked_count};
use crate::support::{
    self, OrderCreated, POSTGRES, by_customer, commit, eventually, migrated, until_true,
    within_a_minute,
};
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, OutboxDatabase};
use sqlx::{AssertSqlSafe, Executor, MySql, Postgres, Sqlite};
use uuid::Uuid;

on_every_store! {
    a_refused_event_parks_its_key_on_its_topic_and_on_no_other
    a_key_too_long_for_an_index_is_parked_and_no_lane_begins_again
    what_cannot_be_parked_stops_its_own_lane_only
    no_event_overtakes_its_key_among_more_parked_keys_than_a_relay_knows
    what_is_parked_of_one_key_is_published_in_order_in_several_rounds
    a_parked_event_that_was_not_sent_counts_no_attempt
}

/// What a test does to the tables, in each database's words.
trait Raw: OutboxDatabase {
    async fn run(outbox: &Outbox<Self>, on_postgres: &str, on_sqlite: &str, on_mysql: &str);
}

impl Raw for Postgres {
    async fn run(outbox: &Outbox<Self>, on_postgres: &str, _: &str, _: &str) {
        outbox.pool().execute(AssertSqlSafe(on_postgres.to_owned())).await.unwrap();
    }
}

impl Raw for Sqlite {
    async fn run(outbox: &Outbox<Self>, _: &str, on_sqlite: &str, _: &str) {
        outbox.pool().execute(AssertSqlSafe(on_sqlite.to_owned())).await.unwrap();
    }
}

impl Raw for MySql {
    async fn run(outbox: &Outbox<Self>, _: &str, _: &str, on_mysql: &str) {
        outbox.pool().execute(AssertSqlSafe(on_mysql.to_owned())).await.unwrap();
    }
}

#[derive(serde::Serialize, outbox::DomainEvent)]
#[event(topic = "payment-events")]
struct Paid {
    #[event(key)]
    customer: String,
    n: i64,
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
        "create trigger sabotage before insert on outbox_parked for each row signal sqlstate '45000' set message_text = 'sabotage'",
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
    DB::run(
        &outbox,
        "alter table outbox_parked drop constraint sabotage",
        "drop trigger sabotage",
        "drop trigger sabotage",
    )
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
        "insert into outbox_parked_key (lane, key_digest, topic, released)
         select p.lane, md5(n::text)::uuid, p.topic, false from outbox_parked p, generate_series(1, 10001) n
         where p.attempts > 0",
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 10001)
         insert into outbox_parked_key (lane, key_digest, topic, since, released)
         select p.lane, randomblob(16), p.topic, p.since, 0 from outbox_parked p, n where p.attempts > 0",
        "insert into outbox_parked_key (lane, key_digest, topic, since, released)
         select p.lane, unhex(md5(s.slot * 16 + l.lane)), p.topic, p.since, 0
         from outbox_parked p join outbox_slot s join outbox_lane l where p.attempts > 0",
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
