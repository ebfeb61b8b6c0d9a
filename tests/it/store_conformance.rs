//! One suite for every store: what the outbox promises whatever the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::relays::{RunningRelay, drain, drain_to, drain_when_free, drained, new_relay};
use crate::support::{
    HeldPublisher, OrderCreated, by_customer, commit, eventually, order, within_a_minute,
};
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase};

on_every_store! {
    a_committed_event_is_published_as_it_was_emitted
    events_are_published_in_the_order_of_their_commits
    a_rolled_back_or_dropped_transaction_publishes_nothing
    a_failed_savepoint_takes_its_events_along_and_no_others
    a_saved_event_is_not_published_again
    a_relay_killed_before_it_saved_leaves_its_events_to_the_next
    a_refused_event_stops_its_lane_and_no_other_and_none_overtakes_it
    a_second_relay_stands_by_and_takes_over
    a_relay_that_was_paused_past_its_lease_does_not_set_its_successor_back
    a_commit_wakes_the_relay
    any_bytes_survive_in_keys_and_headers
    migrating_twice_or_at_once_is_harmless
    a_transaction_with_many_events_keeps_their_order
    a_shutdown_waits_for_what_is_in_flight
    a_batch_larger_than_the_byte_limit_arrives_whole
}

async fn a_committed_event_is_published_as_it_was_emitted<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let before = SystemTime::now() - Duration::from_millis(1);
    let event = OrderCreated { customer: "c1".into(), tenant: Some("acme".into()), n: 7 };
    let mut tx = outbox.begin().await.unwrap();
    let id = tx.emit(&event).unwrap();
    assert_eq!(tx.pending_events(), 1);
    tx.commit().await.unwrap();

    let published = drained(&outbox).await;
    let [record] = &published[..] else { panic!("{published:?}") };
    assert_eq!(record.id, id);
    assert_eq!(
        (&*record.topic, &*record.name, record.version),
        ("order-events", "order.created", 1)
    );
    assert_eq!(record.key.as_deref(), Some(&b"c1"[..]));
    assert_eq!(record.headers.iter().collect::<Vec<_>>(), [("tenant", "acme")]);
    assert_eq!(record.content_type, "application/json");
    assert_eq!(order(record), event);
    assert!(record.occurred_at >= before && record.occurred_at <= SystemTime::now());
}

async fn events_are_published_in_the_order_of_their_commits<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    for n in 0..40 {
        commit(&outbox, ["a", "b", "c"].map(|customer| OrderCreated::new(customer, n))).await;
    }
    let expected: Vec<i64> = (0..40).collect();
    let by_customer = by_customer(&drained(&outbox).await);
    assert_eq!(by_customer.len(), 3);
    assert!(by_customer.values().all(|ns| *ns == expected), "{by_customer:?}");
}

async fn a_rolled_back_or_dropped_transaction_publishes_nothing<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.rollback().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 2)).unwrap();
    drop(tx);
    commit(&outbox, [OrderCreated::new("a", 3)]).await;
    assert_eq!(by_customer(&drained(&outbox).await)["a"], [3]);
}

async fn a_failed_savepoint_takes_its_events_along_and_no_others<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    let mut inner = tx.savepoint().await.unwrap();
    inner.emit(OrderCreated::new("a", 2)).unwrap();
    inner.rollback().await.unwrap();
    let mut inner = tx.savepoint().await.unwrap();
    inner.emit(OrderCreated::new("a", 3)).unwrap();
    drop(inner);
    let mut inner = tx.savepoint().await.unwrap();
    inner.emit(OrderCreated::new("a", 4)).unwrap();
    let mut innermost = inner.savepoint().await.unwrap();
    innermost.emit(OrderCreated::new("a", 5)).unwrap();
    innermost.commit().await.unwrap();
    inner.commit().await.unwrap();
    tx.emit(OrderCreated::new("a", 6)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(by_customer(&drained(&outbox).await)["a"], [1, 4, 5, 6]);
}

async fn a_saved_event_is_not_published_again<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, (0..5).map(|n| OrderCreated::new("a", n))).await;
    assert_eq!(drained(&outbox).await.len(), 5);
    assert_eq!(drained(&outbox).await.len(), 0);
    commit(&outbox, [OrderCreated::new("a", 5)]).await;
    assert_eq!(by_customer(&drained(&outbox).await)["a"], [5]);
}

async fn a_relay_killed_before_it_saved_leaves_its_events_to_the_next<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    commit(&outbox, (0..5).map(|n| OrderCreated::new("a", n))).await;
    let unanswered = HeldPublisher::default();
    let relay = new_relay(&outbox, unanswered.clone()).lease(Duration::from_millis(300));
    let relay = RunningRelay::start(relay);
    within_a_minute(unanswered.got(5)).await;
    relay.abort().await;

    let kafka = MemoryPublisher::new();
    let successor = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    let published = within_a_minute(kafka.wait_for(5)).await;
    assert_eq!(by_customer(&published)["a"], [0, 1, 2, 3, 4]);
    successor.abort().await;
}

async fn a_refused_event_stops_its_lane_and_no_other_and_none_overtakes_it<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let kafka = MemoryPublisher::new();
    let poison = Arc::new(AtomicBool::new(true));
    kafka.refuse({
        let poison = Arc::clone(&poison);
        move |record| {
            let order = order(record);
            (poison.load(Ordering::SeqCst) && order.customer == "poisoned" && order.n == 3)
                .then(|| "too large".to_owned())
        }
    });
    // Its lane waits until this test ends.
    let relay = new_relay(&outbox, kafka.clone()).park_after(u32::MAX);
    let relay = RunningRelay::start(relay);

    // Customers enough for every lane to have some.
    let customers: Vec<String> =
        (0..64).map(|c| format!("customer-{c}")).chain(["poisoned".to_owned()]).collect();
    for n in 0..6 {
        commit(&outbox, customers.iter().map(|customer| OrderCreated::new(customer, n))).await;
    }
    // The poisoned customer's lane waits, with the customers that share it. Far more than half of
    // the others do not wait.
    within_a_minute(kafka.wait_for(6 * 48)).await;
    let of_poisoned = || by_customer(&kafka.published()).remove("poisoned").unwrap_or_default();
    eventually("what comes before the poison is published", async || of_poisoned().len() >= 3)
        .await;
    let published = kafka.published();
    assert_eq!(by_customer(&published).get("poisoned").map(Vec::as_slice), Some(&[0, 1, 2][..]));

    poison.store(false, Ordering::SeqCst);
    let published = within_a_minute(kafka.wait_for(6 * 65)).await;
    relay.stop().await;
    assert_eq!(published.len(), 6 * 65, "nothing twice");
    assert!(
        by_customer(&published).values().all(|ns| *ns == [0, 1, 2, 3, 4, 5]),
        "{:?}",
        by_customer(&published)
    );
}

async fn a_second_relay_stands_by_and_takes_over<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let first = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, first.clone()));
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    within_a_minute(first.wait_for(1)).await;

    let second = MemoryPublisher::new();
    let error = drain(new_relay(&outbox, second.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");

    relay.stop().await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    drain_to(&outbox, second.clone()).await;
    assert_eq!(
        (
            by_customer(&first.published())["a"].as_slice(),
            by_customer(&second.published())["a"].as_slice()
        ),
        (&[1][..], &[2][..])
    );
}

/// Stops its whole thread, as a paused process does: on a runtime of that thread, the relay cannot
/// even renew its lease.
struct PausingPublisher {
    paused: tokio::sync::mpsc::UnboundedSender<()>,
    resume: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Publisher for PausingPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        self.paused.send(()).unwrap();
        self.resume.lock().unwrap().recv().unwrap();
        batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
    }
}

async fn a_relay_that_was_paused_past_its_lease_does_not_set_its_successor_back<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    commit(&outbox, (0..5).map(|n| OrderCreated::new("a", n))).await;
    let (paused, mut is_paused) = tokio::sync::mpsc::unbounded_channel();
    let (resume, resumed) = std::sync::mpsc::channel();
    let publisher = PausingPublisher { paused, resume: Mutex::new(resumed) };
    // It has a pool of its own, like a process: a connection that a paused thread has not given
    // back cannot block others.
    let pool = outbox
        .pool()
        .options()
        .clone()
        .connect_lazy_with((*outbox.pool().connect_options()).clone());
    let relay = new_relay(&Outbox::new(pool), publisher).lease(Duration::from_millis(50));
    let relay = relay.build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(relay.run(async { _ = stopped.await }))
    });
    within_a_minute(is_paused.recv()).await.unwrap();

    // Its lease runs out; the successor publishes the five events, and five more.
    let successor = MemoryPublisher::new();
    drain_when_free(&outbox, successor.clone()).await;
    commit(&outbox, (5..10).map(|n| OrderCreated::new("a", n))).await;
    drain_to(&outbox, successor.clone()).await;
    assert_eq!(by_customer(&successor.published())["a"], (0..10).collect::<Vec<_>>());

    // Awake again, it reports its five as delivered.
    drop(stop);
    resume.send(()).unwrap();
    let relay = tokio::task::spawn_blocking(move || relay.join().unwrap());
    within_a_minute(relay).await.unwrap().unwrap();
    assert_eq!(drained(&outbox).await.len(), 0, "nothing is published again");
}

async fn a_commit_wakes_the_relay<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let kafka = MemoryPublisher::new();
    // It will not poll within the life of this test.
    let relay = new_relay(&outbox, kafka.clone())
        .poll_interval(Duration::from_secs(3600))
        .lease(Duration::from_secs(3 * 3600));
    let task = RunningRelay::start(relay);
    for n in 1..=3 {
        commit(&outbox, [OrderCreated::new("a", n)]).await;
        within_a_minute(kafka.wait_for(n as usize)).await;
    }
    task.abort().await;
}

async fn any_bytes_survive_in_keys_and_headers<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let awkward = [
        "",
        "\0",
        "nul \0 inside",
        "quote ' and \" and \\",
        "ünï¢ode 🦀",
        "{\"json\":1}",
        "\r\n\t",
    ];
    for (n, text) in awkward.iter().enumerate() {
        commit(
            &outbox,
            [OrderCreated { customer: (*text).into(), tenant: Some((*text).into()), n: n as i64 }],
        )
        .await;
    }
    let mut published = drained(&outbox).await;
    published.sort_by_key(|record| order(record).n);
    assert_eq!(published.len(), awkward.len());
    for (record, text) in published.iter().zip(awkward) {
        assert_eq!(record.key.as_deref(), Some(text.as_bytes()));
        assert_eq!(record.headers.get("tenant"), Some(text));
    }
}

async fn migrating_twice_or_at_once_is_harmless<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let outbox = outbox.clone();
        at_once.spawn(async move { outbox.migrate().await });
    }
    while let Some(result) = at_once.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(drained(&outbox).await.len(), 1);
}

async fn a_transaction_with_many_events_keeps_their_order<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, (0..5_000).map(|n| OrderCreated::new("a", n))).await;
    assert_eq!(by_customer(&drained(&outbox).await)["a"], (0..5_000).collect::<Vec<_>>());
}

async fn a_shutdown_waits_for_what_is_in_flight<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, (0..5).map(|n| OrderCreated::new("a", n))).await;
    let kafka = HeldPublisher::default();
    let mut relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    within_a_minute(kafka.got(5)).await;
    relay.ask_to_stop();
    tokio::task::yield_now().await;
    assert!(relay.is_running(), "it still waits for the broker");
    kafka.answer();
    relay.stop().await;
    assert_eq!(drained(&outbox).await.len(), 0, "the delivery was saved, and the lanes given back");
}

async fn a_batch_larger_than_the_byte_limit_arrives_whole<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let big = "x".repeat(10_000);
    commit(
        &outbox,
        (0..20).map(|n| OrderCreated { customer: "a".into(), tenant: Some(big.clone()), n }),
    )
    .await;
    let kafka = MemoryPublisher::new();
    let published =
        drain(new_relay(&outbox, kafka.clone()).batch_events(7).batch_bytes(100)).await.unwrap();
    assert_eq!(published, 20);
    assert_eq!(by_customer(&kafka.published())["a"], (0..20).collect::<Vec<_>>());
}
