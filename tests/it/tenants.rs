//! Several outboxes in one process, each with a relay, on one publisher and one budget of memory:
//! tenants with a schema or a database each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::consumers::header;
use crate::support::proxy::{Proxy, Way};
use crate::support::relays::{
    RunningRelay, drain_when_free, kafka_publisher, kafka_publisher_of, new_relay, quick, run_error,
};
use crate::support::topics::{create_topic, read_topic};
use crate::support::{
    self, HeldPublisher, OTHER_POSTGRES, OrderCreated, POSTGRES, by_customer, commit, eventually,
    kafka, migrated, within_a_minute,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outbox::kafka::KafkaConfig;
use outbox::observe::METRICS;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, MemoryBudget, Outbox, OutboxDatabase};
use rdkafka::Message as _;
use rdkafka::message::OwnedMessage;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres};

on_every_store! {
    tenants_that_are_not_served_leave_the_others_their_share_of_the_memory
}

const MIB: u64 = 1024 * 1024;

async fn in_schema(pool: &PgPool, schema: &str) -> Outbox<Postgres> {
    migrated(Outbox::builder(pool.clone()).schema(schema).build().unwrap()).await
}

async fn in_a_database(server: &str) -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(server, 4).await)).await
}

async fn until_published(outbox: &Outbox<Postgres>) {
    let is_done = async || outbox.status().await.unwrap().backlog == 0;
    eventually("all is published", is_done).await;
}

/// Key and number of each message, in the order of their arrival; again, if it came again.
fn numbers(messages: &[OwnedMessage]) -> Vec<(String, i64)> {
    let number = |message: &OwnedMessage| {
        let event: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        (event["customer"].as_str().unwrap().to_owned(), event["n"].as_i64().unwrap())
    };
    messages.iter().map(number).collect()
}

/// All of a tenant's events are there, and none before an earlier one of its customer.
fn assert_all_in_order(numbers: &[(String, i64)], tenant: &str, count: i64) {
    for customer in 0..CUSTOMERS {
        let customer = format!("{tenant}-{customer}");
        let of_customer = numbers.iter().filter(|(of, _)| *of == customer);
        let mut first_times = Vec::new();
        for (_, n) in of_customer {
            if first_times.last().is_none_or(|last| n > last) {
                first_times.push(*n);
            } else {
                let again = first_times.binary_search(n).is_ok();
                assert!(again, "{customer}: {n} came after a later one");
            }
        }
        assert_eq!(first_times, (0..count).collect::<Vec<_>>(), "{customer}");
    }
}

const CUSTOMERS: i64 = 5;

macro_rules! events_of {
    ($event:ident, $tenant:expr, $numbers:expr) => {
        $numbers.flat_map(|n| {
            (0..CUSTOMERS).map(move |customer| $event::new(format!("{}-{customer}", $tenant), n))
        })
    };
}

async fn emit<E: outbox::DomainEvent>(outbox: &Outbox<Postgres>, events: impl Iterator<Item = E>) {
    let mut tx = outbox.begin().await.unwrap();
    for event in events {
        tx.emit(event).unwrap();
    }
    tx.commit().await.unwrap();
}

event_on_topic!(Shared, "tenants-shared");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_with_a_schema_or_a_database_each_publish_by_one_publisher_in_order() {
    const PREFIXED: &str = "office.tenants-shared";
    create_topic(Shared::TOPIC, 3, &[]).await;
    create_topic(PREFIXED, 3, &[]).await;
    let pool = support::postgres(POSTGRES, 4).await;
    let kafka = kafka_publisher();
    let tenants = [
        ("shop", in_schema(&pool, "shop").await, kafka.clone().with_source("/shop")),
        ("mill", in_schema(&pool, "mill").await, kafka.clone().with_source("/mill")),
        ("bank", in_a_database(OTHER_POSTGRES).await, kafka.clone().with_source("/bank")),
        ("office", in_a_database(POSTGRES).await, kafka.with_topic_prefix("office.").unwrap()),
    ];
    let budget = MemoryBudget::new(8 * MIB);
    let relays: Vec<_> = tenants
        .iter()
        .map(|(_, outbox, kafka)| new_relay(outbox, kafka.clone()).shared_memory(&budget))
        .map(RunningRelay::start)
        .collect();
    for (name, outbox, _) in &tenants {
        emit(outbox, events_of!(Shared, name, 0..100)).await;
    }
    for (_, outbox, _) in &tenants {
        until_published(outbox).await;
    }
    for relay in relays {
        relay.stop().await;
    }
    assert_eq!(budget.bytes_held(), 0);

    let messages = read_topic(Shared::TOPIC).await;
    for tenant in ["shop", "mill", "bank"] {
        assert_all_in_order(&numbers(&messages), tenant, 100);
    }
    for message in &messages {
        let tenant = String::from_utf8_lossy(message.key().unwrap());
        let source = format!("/{}", tenant.split('-').next().unwrap());
        assert_eq!(header(message, "ce_source"), Some(&*source));
    }
    assert_all_in_order(&numbers(&read_topic(PREFIXED).await), "office", 100);
}

/// On one thread, whose recorder hears all that the relays tell.
#[tokio::test]
async fn the_metrics_of_tenants_are_told_apart_by_the_label_outbox() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let pool = support::postgres(POSTGRES, 4).await;
    let named = Outbox::builder(support::postgres(POSTGRES, 4).await).name("bank");
    let bank = migrated(named.build().unwrap()).await;
    let tenants = [
        ("shop.outbox", in_schema(&pool, "shop").await, 2),
        ("mill.outbox", in_schema(&pool, "mill").await, 3),
        ("bank", bank, 4),
    ];
    let kafka = MemoryPublisher::new();
    let relays: Vec<_> = tenants
        .iter()
        .map(|(_, outbox, _)| RunningRelay::start(new_relay(outbox, kafka.clone())))
        .collect();
    for (name, outbox, count) in &tenants {
        commit(outbox, (0..*count).map(|n| OrderCreated::new(*name, n))).await;
    }
    for (_, outbox, _) in &tenants {
        until_published(outbox).await;
    }
    for relay in relays {
        relay.stop().await;
    }

    let mut series: BTreeMap<_, BTreeMap<String, f64>> = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let (name, labels) = (key.key().name(), key.key().labels());
        let metric = METRICS.iter().find(|metric| metric.name == name).expect(name);
        let labels: BTreeMap<_, _> = labels.map(|label| (label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.0,
            DebugValue::Histogram(values) => values.len() as f64,
        };
        if metric.labels.contains(&"outbox") {
            let of_metric = series.entry(name.to_owned()).or_default();
            *of_metric.entry(labels["outbox"].to_owned()).or_default() += value;
        }
    }
    for (name, _, count) in &tenants {
        for metric in ["outbox_emitted_total", "outbox_published_total"] {
            assert_eq!(series[metric][*name], *count as f64, "{metric} {name}: {series:#?}");
        }
        assert_eq!(series["outbox_database_up"][*name], 1.0, "{name}: {series:#?}");
    }
    // Each metric of a relay is told by all three of them, and by no other name.
    for (metric, of_metric) in &series {
        let outboxes: Vec<_> = of_metric.keys().map(String::as_str).collect();
        assert_eq!(outboxes, ["bank", "mill.outbox", "shop.outbox"], "{metric}");
    }
}

event_on_topic!(Dropped, "tenants-dropped");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_dropped_does_not_take_the_events_of_another_tenant_with_it() {
    const DROPS: i64 = 20;
    const EACH: i64 = 200;
    create_topic(Dropped::TOPIC, 3, &[]).await;
    let (shop, mill) = (in_a_database(POSTGRES).await, in_a_database(POSTGRES).await);
    // Most events wait in the producer when it forgets them.
    let kafka = kafka_publisher_of(KafkaConfig::new(kafka()).property("linger.ms", "50"));
    emit(&mill, events_of!(Dropped, "mill", 0..DROPS * EACH)).await;
    let of_mill = RunningRelay::start(new_relay(&mill, kafka.clone()));
    for drop in 0..DROPS {
        emit(&shop, events_of!(Dropped, "shop", drop * EACH..(drop + 1) * EACH)).await;
        let of_shop = RunningRelay::start(quick(&shop, kafka.clone()));
        let holds =
            async || shop.status().await.unwrap().lanes.iter().any(|lane| lane.owner.is_some());
        eventually("the relay of the shop has begun", holds).await;
        of_shop.abort().await;
    }
    until_published(&mill).await;
    of_mill.stop().await;
    drain_when_free(&shop, kafka).await;
    let numbers = numbers(&read_topic(Dropped::TOPIC).await);
    assert_all_in_order(&numbers, "shop", DROPS * EACH);
    assert_all_in_order(&numbers, "mill", DROPS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_without_tables_or_without_a_database_does_not_stop_the_others() {
    let pool = support::postgres(POSTGRES, 4).await;
    let healthy = in_schema(&pool, "healthy").await;
    let missing = Outbox::builder(pool).schema("missing").build().unwrap();
    let direct = in_a_database(POSTGRES).await;
    let (proxy, through) = Proxy::of_pool(direct.pool()).await;
    let away = Outbox::new(PgPoolOptions::new().connect_with(through).await.unwrap());

    let (kafka, budget) = (Arc::new(MemoryPublisher::new()), MemoryBudget::new(MIB));
    let relay = |outbox| quick(outbox, Arc::clone(&kafka)).shared_memory(&budget);
    let of_healthy = RunningRelay::start(relay(&healthy));
    let of_away = RunningRelay::start(relay(&away));
    assert_eq!(run_error(relay(&missing)).await.kind(), ErrorKind::NotMigrated);

    commit(&direct, [OrderCreated::new("away", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    proxy.silence(Way::Both);
    commit(&direct, [OrderCreated::new("away", 2)]).await;
    commit(&healthy, (1..=50).map(|n| OrderCreated::new("healthy", n))).await;
    let healthy_is_done = async || {
        let published = by_customer(&kafka.published());
        published.get("healthy").is_some_and(|numbers| numbers.len() == 50)
    };
    eventually("the healthy tenant is served", healthy_is_done).await;
    proxy.heal();
    proxy.cut();
    let away_is_done = async || by_customer(&kafka.published())["away"].contains(&2);
    eventually("the other one is served again", away_is_done).await;
    of_healthy.stop().await;
    of_away.stop().await;
}

/// Publishes, and remembers the most bytes that were held then.
#[derive(Clone)]
struct Measured {
    kafka: MemoryPublisher,
    budget: MemoryBudget,
    most: Arc<AtomicU64>,
}

impl Publisher for Measured {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        self.most.fetch_max(self.budget.bytes_held(), Ordering::SeqCst);
        self.kafka.publish(batch).await
    }
}

async fn tenants_that_are_not_served_leave_the_others_their_share_of_the_memory<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    let tenant = async |name: &str| {
        let tenant = Outbox::builder(outbox.pool().clone()).table_prefix(format!("{name}_"));
        migrated(tenant.build().unwrap()).await
    };
    let large = |customer| OrderCreated {
        tenant: Some("x".repeat(60 * 1024)),
        ..OrderCreated::new(format!("c{customer}"), 0)
    };
    let (budget, held) = (MemoryBudget::new(4 * MIB), HeldPublisher::default());
    let mut stalled = Vec::new();
    for name in ["one", "two", "three"] {
        let tenant = tenant(name).await;
        commit(&tenant, (0..100).map(large)).await;
        stalled.push(new_relay(&tenant, held.clone()).shared_memory(&budget));
    }
    let served = tenant("served").await;
    let kafka =
        Measured { kafka: MemoryPublisher::new(), budget: budget.clone(), most: Arc::default() };
    let relay = new_relay(&served, kafka.clone()).shared_memory(&budget).build().unwrap();
    // The budget is theirs before the first event of the other one.
    let stalled: Vec<_> = stalled.into_iter().map(RunningRelay::start).collect();
    eventually("they hold all they can", async || budget.bytes_held() > 2 * MIB).await;

    let relay = RunningRelay::run(relay);
    commit(&served, (0..100).map(large)).await;
    within_a_minute(kafka.kafka.wait_for(100)).await;
    let most = kafka.most.load(Ordering::SeqCst);
    // Each relay may hold a single event for which it has no room.
    let single = 2 * 64 * 1024;
    assert!(most <= 4 * MIB + 4 * single, "{most} bytes were held");
    relay.stop().await;
    for relay in stalled {
        relay.abort().await;
    }
    eventually("all is given back", async || budget.bytes_held() == 0).await;
}
