//! Orders of which one is refused, and parked with the later ones of its key.

use std::time::Duration;

use outbox::admin::ParkedEvent;
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, OutboxDatabase};

use super::relays::{RunningRelay, quick, until_parked};
use super::{OrderCreated, commit, order};

/// Refuses an order of "poisoned", unless the cause is removed.
pub fn refuse_order(kafka: &MemoryPublisher, n: i64) {
    kafka.refuse(move |record| {
        let poison = record.topic == "order-events" && {
            let order = order(record);
            order.customer.starts_with("poisoned") && order.n == n
        };
        poison.then(|| "no".to_owned())
    });
}

/// Commits orders 1 to 5 of the customer "poisoned", the third of which is refused. Three are
/// parked then, and nothing is reclaimed.
pub async fn one_is_parked<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    kafka: &MemoryPublisher,
) -> Vec<ParkedEvent> {
    refuse_order(kafka, 3);
    let relay = quick(outbox, kafka.clone()).retention(Duration::from_secs(3600));
    let running = RunningRelay::start(relay);
    for n in 1..=5 {
        commit(outbox, [OrderCreated::new("poisoned", n)]).await;
    }
    let parked = until_parked(outbox, 3).await;
    running.stop().await;
    parked
}
