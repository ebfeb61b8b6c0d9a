//! What is parked costs a relay a bounded amount of memory. A program of its own: the memory of a
//! process is measured.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use outbox::Outbox;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use sqlx::Executor;
use support::relays::{RunningRelay, quick, until_parked_count};
use support::{OrderCreated, POSTGRES, commit, eventually, migrated};

const MIB: u64 = 1024 * 1024;
/// What a relay may take beyond what it had. In bytes of events it reads a quarter of it at once.
const BOUND: u64 = 32 * MIB;

/// Keeps only the number of events that it received; refuses all on request.
#[derive(Clone, Default)]
struct Counting {
    refuses: Arc<AtomicBool>,
    got: Arc<AtomicUsize>,
}

impl Publisher for Counting {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        if self.refuses.load(Ordering::SeqCst) {
            let refused = |_| DeliveryReport::EventRefused(sqlx::Error::RowNotFound.into());
            return batch.events.iter().map(refused).collect();
        }
        self.got.fetch_add(batch.events.len(), Ordering::SeqCst);
        batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
    }
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// From now on, `VmHWM` is the most that is resident.
fn resident_now() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    status("VmRSS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_parked_events_and_many_parked_keys_take_a_bounded_amount_of_memory() {
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let publisher = Counting::default();
    publisher.refuses.store(true, Ordering::SeqCst);
    let running = RunningRelay::start(quick(&outbox, publisher.clone()));
    let large = "x".repeat(450_000);
    for n in 0..100 {
        let event = OrderCreated { customer: "a".into(), tenant: Some(large.clone()), n };
        commit(&outbox, [event]).await;
    }
    until_parked_count(&outbox, 100).await;
    running.stop().await;

    let before = resident_now();
    publisher.refuses.store(false, Ordering::SeqCst);
    outbox.release_all_parked().await.unwrap();
    let running = RunningRelay::start(quick(&outbox, publisher.clone()));
    until_parked_count(&outbox, 0).await;
    running.stop().await;
    assert_eq!(publisher.got.load(Ordering::SeqCst), 100);
    let taken = status("VmHWM").saturating_sub(before);
    assert!(taken < BOUND, "{} MiB for large parked events", taken / MIB);

    let many = "insert into outbox_parked_key (lane, key_digest, topic, released)
                select n % 16, md5(n::text)::uuid, 'order-events', false from generate_series(1, 400000) n";
    outbox.pool().execute(many).await.unwrap();
    let before = resident_now();
    let running = RunningRelay::start(quick(&outbox, publisher.clone()));
    commit(&outbox, (0..100).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    let has = async || publisher.got.load(Ordering::SeqCst) >= 200;
    eventually("the publisher has got 200 events", has).await;
    running.stop().await;
    let taken = status("VmHWM").saturating_sub(before);
    assert!(taken < BOUND / 2, "{} MiB for many parked keys", taken / MIB);
}
