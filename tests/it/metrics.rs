//! The metrics that a relay promises (`outbox::observe`), as an exporter sees them.

use std::time::Duration;

use crate::support::relays::{RunningRelay, new_relay, until_parked};
use crate::support::{self, OrderCreated, migrated, within_a_minute};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outbox::Outbox;
use outbox::testing::MemoryPublisher;

/// On one thread, whose recorder hears all that the relay tells.
#[tokio::test]
async fn what_a_relay_does_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kafka = MemoryPublisher::new();
    kafka.refuse(|record| (record.key.as_deref() == Some(b"poisoned")).then(|| "no".to_owned()));
    let mut tx = outbox.begin().await.unwrap();
    for customer in ["a", "b", "poisoned"] {
        tx.emit(OrderCreated::new(customer, 1)).unwrap();
    }
    tx.commit().await.unwrap();
    let relay =
        new_relay(&outbox, kafka.clone()).park_after(1).retry_parked(Duration::from_secs(3600));
    let relay = RunningRelay::start(relay);
    within_a_minute(kafka.wait_for(2)).await;
    until_parked(&outbox, 1).await;
    relay.stop().await;

    let mut published = 0;
    let mut parked = 0;
    let mut held = None;
    let mut histograms = Vec::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        match (key.key().name(), value) {
            ("outbox_published_total", DebugValue::Counter(events)) => published = events,
            ("outbox_parked_total", DebugValue::Counter(events)) => parked = events,
            ("outbox_bytes_held", DebugValue::Gauge(bytes)) => held = Some(bytes.0),
            (name, DebugValue::Histogram(_)) => histograms.push(name.to_owned()),
            ("outbox_lanes_held", DebugValue::Gauge(lanes)) => {
                assert!((lanes.0 - 16.0).abs() < f64::EPSILON)
            }
            _ => {}
        }
    }
    histograms.sort_unstable();
    assert_eq!((published, parked), (2, 1));
    assert_eq!(held, Some(0.0), "what was held is given back");
    assert_eq!(
        histograms,
        ["outbox_batch_events", "outbox_delivery_seconds", "outbox_publish_lag_seconds"]
    );
}
