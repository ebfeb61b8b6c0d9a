//! The metrics that a relay promises (`outbox::observe`), as an exporter sees them.

use std::time::Duration;

use crate::support::{self, OrderCreated, migrated, within_a_minute};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, Relay};

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
    let relay = Relay::new(outbox.clone(), kafka.clone())
        .park_after(1)
        .retry_parked(Duration::from_secs(3600));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    within_a_minute(kafka.wait_for(2)).await;
    within_a_minute(async {
        while outbox.parked(1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(stop);
    within_a_minute(relay).await.unwrap().unwrap();

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
