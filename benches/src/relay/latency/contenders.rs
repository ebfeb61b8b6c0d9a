//! Who is timed: each commits events in its own way, and has them published.

use std::collections::HashSet;
use std::sync::Arc;

use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{ExactlyOnce, Outbox, OutboxDatabase, Relay};
use outbox_bench_report::{Disturbance, Latencies, Load};
use sqlx::{PgPool, Postgres};
use tokio::sync::Notify;

use super::{CONNECTIONS, CUSTOMERS, ReadAt, disturbances, timed};
use crate::bare::{self, BareEvent};
use crate::{Failure, OrderCreated, brokers, debezium as table, outbox as open};

/// Records when it receives each event.
struct Noting {
    kafka: KafkaPublisher,
    read_at: ReadAt,
}

impl Publisher for Noting {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let payloads = batch.events.iter().map(|event| event.record.payload.as_deref());
        self.read_at.note(payloads.map(Option::unwrap_or_default));
        self.kafka.publish(batch).await
    }
}

pub(super) async fn outbox(
    load: Load,
    disturbance: Option<Disturbance>,
) -> Result<Latencies, Failure> {
    let outbox: Outbox<Postgres> = open(CONNECTIONS + 2).await?;
    let disturbed = outbox.clone();
    let held_up = async move {
        match disturbance {
            Some(disturbance) => disturbances::begin(&disturbed, disturbance).await,
            None => Ok(HashSet::new()),
        }
    };
    with_relay(outbox, load, held_up).await
}

/// The relay is in the process of those who emit, and so rung by them. `held_up`: the customers whose
/// events something holds up that begins now.
pub(crate) async fn with_relay<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    load: Load,
    held_up: impl Future<Output = Result<HashSet<u64>, Failure>>,
) -> Result<Latencies, Failure> {
    let read_at = ReadAt::default();
    let publisher = Noting { kafka: KafkaPublisher::new(brokers()?)?, read_at: read_at.clone() };
    let relay = Relay::new(outbox.clone(), publisher);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    let held_up = held_up.await?;
    let emitting = move |n| emit(outbox.clone(), n);
    let latencies = timed(load, held_up, read_at, emitting).await?;
    drop(stop);
    relay.await??;
    Ok(latencies)
}

/// By a relay that delivers exactly once.
pub(super) async fn exactly_once(load: Load) -> Result<Latencies, Failure> {
    let outbox: Outbox<Postgres> = open(CONNECTIONS + 2).await?;
    let relay = Relay::builder(outbox.clone(), KafkaPublisher::new(brokers()?)?)
        .build_exactly_once(ExactlyOnce::new())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    let emitting = move |n| emit(outbox.clone(), n);
    let latencies = timed(load, HashSet::new(), ReadAt::default(), emitting).await?;
    drop(stop);
    relay.await??;
    Ok(latencies)
}

/// Who publishes is in a process of its own.
pub(crate) async fn emitted<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    load: Load,
) -> Result<Latencies, Failure> {
    let emitting = move |n| emit(outbox.clone(), n);
    timed(load, HashSet::new(), ReadAt::default(), emitting).await
}

async fn emit<DB: OutboxDatabase>(outbox: Outbox<DB>, n: u64) -> Result<(), Failure> {
    let mut tx = outbox.begin().await?;
    tx.emit(OrderCreated::new(n % CUSTOMERS, n))?;
    tx.commit().await?;
    Ok(())
}

/// The relay is in a process of its own.
pub(super) async fn debezium(load: Load) -> Result<Latencies, Failure> {
    let pool = open(CONNECTIONS).await?.pool().clone();
    timed(load, HashSet::new(), ReadAt::default(), move |n| {
        let pool = pool.clone();
        async move { table::insert(&pool, n).await }
    })
    .await
}

pub(super) async fn bare_loop(load: Load) -> Result<Latencies, Failure> {
    let pool = open(CONNECTIONS + 2).await?.pool().clone();
    bare::create_tables(&pool).await?;
    let bell = Arc::new(Notify::new());
    let read_at = ReadAt::default();
    let noting = {
        let read_at = read_at.clone();
        move |batch: &[BareEvent]| {
            read_at.note(batch.iter().map(|event| event.payload.as_slice()));
        }
    };
    let relay = tokio::spawn(bare::run(pool.clone(), Arc::clone(&bell), noting));
    let latencies = timed(load, HashSet::new(), read_at, move |n| {
        let (pool, bell) = (pool.clone(), Arc::clone(&bell));
        async move {
            insert_by_hand(&pool, n).await?;
            bell.notify_one();
            Ok(())
        }
    })
    .await?;
    relay.abort();
    Ok(latencies)
}

async fn insert_by_hand(pool: &PgPool, n: u64) -> Result<(), Failure> {
    let mut tx = pool.begin().await?;
    let customer = n % CUSTOMERS;
    let payload = serde_json::to_vec(&OrderCreated::new(customer, n))?;
    sqlx::query(
        "insert into bare_event (id, topic, key, name, version, content_type, headers, payload, occurred_at)
         values ($1, 'orders', $2, 'order.created', 1, 'application/json', '{}', $3, clock_timestamp())",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(customer.to_string().into_bytes())
    .bind(payload)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
