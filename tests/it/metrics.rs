//! The metrics that a relay promises (`outbox::observe`), as an exporter sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::relays::{RunningRelay, new_relay, until_parked};
use crate::support::{
    self, OrderCreated, POSTGRES, eventually, migrated, postgres, within_a_minute,
};
use metrics_util::CompositeKey;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outbox::observe::{METRICS, MetricKind, MetricSource, describe};
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, OutboxDatabase, RelayBuilder};

/// On one thread, whose recorder hears all that the relay tells.
#[tokio::test]
async fn what_a_relay_does_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    describe();

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

    let mut counted = BTreeMap::new();
    let mut histograms = BTreeSet::new();
    for (key, unit, help, value) in snapshotter.snapshot().into_vec() {
        let (name, labels) = (key.key().name(), key.key().labels());
        let labels: Vec<_> =
            labels.map(|label| format!("{}={}", label.key(), label.value())).collect();
        let metric = METRICS.iter().find(|metric| metric.name == name).expect(name);
        for label in key.key().labels() {
            assert!(metric.labels.contains(&label.key()), "{name} {labels:?}");
        }
        assert!(unit.is_some() && help.is_some_and(|help| &*help == metric.help), "{name}");
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.0,
            DebugValue::Histogram(_) => {
                histograms.insert(name.to_owned());
                continue;
            }
        };
        counted.insert(format!("{name} {}", labels.join(" ")), value);
    }
    let expected = [
        ("outbox_emitted_total outbox=outbox", 0.0),
        ("outbox_emitted_total outbox=outbox topic=order-events event=order.created", 3.0),
        ("outbox_published_total outbox=outbox", 0.0),
        ("outbox_published_total outbox=outbox topic=order-events event=order.created", 2.0),
        ("outbox_parked_total outbox=outbox topic=order-events", 1.0),
        ("outbox_take_overs_total outbox=outbox", 0.0),
        ("outbox_leases_lost_total outbox=outbox", 0.0),
        ("outbox_lanes_held outbox=outbox", 0.0),
        ("outbox_bytes_held outbox=outbox", 0.0),
        ("outbox_database_up outbox=outbox", 1.0),
    ];
    for (series, value) in expected {
        assert_eq!(counted.get(series), Some(&value), "{series}: {counted:#?}");
    }
    assert!(counted["outbox_last_turn_timestamp_seconds outbox=outbox"] > 1e9);
    let of_relay = METRICS.iter().filter(|metric| {
        metric.source == MetricSource::Relay && metric.kind == MetricKind::Histogram
    });
    assert_eq!(histograms, of_relay.map(|metric| metric.name.to_owned()).collect());
}

/// Of three relays, one is dropped as in a crash.
#[tokio::test]
async fn lanes_of_a_relay_that_died_are_counted_as_taken_over_and_those_given_back_are_not() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::builder(pool).name("shop").build().unwrap()).await;
    let relay = || new_relay(&outbox, MemoryPublisher::new()).lease(Duration::from_millis(300));
    let take_overs = || {
        let of_name =
            |(key, ..): &(CompositeKey, _, _, _)| key.key().name() == "outbox_take_overs_total";
        let (key, .., value) = snapshotter.snapshot().into_vec().into_iter().find(of_name).unwrap();
        let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
        assert_eq!(labels, ["shop"]);
        value
    };

    running(relay()).await.stop().await;
    let second = running(relay()).await;
    assert_eq!(take_overs(), DebugValue::Counter(0), "the first one gave its lanes back");
    let before = outbox.status().await.unwrap().lanes[0].owner;
    second.abort().await;
    let third = running(relay()).await;
    eventually("it holds all lanes", async || {
        let status = outbox.status().await.unwrap();
        status.lanes.iter().all(|lane| lane.owner.is_some() && lane.owner != before)
    })
    .await;
    third.stop().await;
    assert_eq!(take_overs(), DebugValue::Counter(16));
}

/// A relay that has claimed its lanes.
async fn running<DB: OutboxDatabase>(relay: RelayBuilder<DB, MemoryPublisher>) -> RunningRelay {
    let relay = relay.build().unwrap();
    let health = relay.health();
    let relay = RunningRelay::run(relay);
    assert!(within_a_minute(health.ready()).await);
    relay
}

#[tokio::test]
#[allow(clippy::float_cmp)] // what is set is read
async fn a_process_without_a_relay_reports_what_the_tables_say() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let outbox = migrated(Outbox::new(postgres(POSTGRES, 4).await)).await;
    let mut tx = outbox.begin().await.unwrap();
    for customer in ["a", "b", "a"] {
        tx.emit(OrderCreated::new(customer, 1)).unwrap();
    }
    tx.commit().await.unwrap();
    let mut gauges = outbox.gauges();
    // A snapshot takes the values away.
    let seen = || -> BTreeMap<String, f64> {
        let all = snapshotter.snapshot().into_vec().into_iter();
        let gauges = all.filter_map(|(key, .., value)| match value {
            DebugValue::Gauge(value) => Some((key.key().name().to_owned(), value.0)),
            _ => None,
        });
        gauges.collect()
    };
    gauges.set().await.unwrap();
    let first = seen();
    assert_eq!(first["outbox_backlog"], 3.0);
    assert_eq!(first["outbox_lanes_owned"], 0.0, "no relay runs");
    assert_eq!(first["outbox_ring_leaves_free"], 15.0);
    assert_eq!(first["outbox_database_up"], 1.0);
    let age = first["outbox_oldest_pending_seconds"];
    assert!(age > 0.0);
    outbox.pool().close().await;
    gauges.set().await.unwrap_err();
    let second = seen();
    let still_pending = second["outbox_oldest_pending_seconds"];
    assert!(still_pending > age, "it grows on: {age} {still_pending}");
    assert_eq!(second["outbox_database_up"], 0.0);
}
