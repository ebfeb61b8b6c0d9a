//! From the commit of an event to its arrival at a consumer: writer, relay and consumer in one process, each on its own
//! connections, at a given rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::Deserialize;
use sqlx::{Executor, Postgres};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::bare::{publish, read, save};
use crate::raw::{producer, wait};
use crate::{Failure, OrderCreated, TOPIC, brokers, outbox as open, peak_mib};

const CONNECTIONS: u32 = 16;
const WARM_UP: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Number {
    number: u64,
}

/// Reads the topic from its end, and notes when each number arrives, until nothing came for a while after `done`.
fn consume(
    numbers: usize,
    ready: std::sync::mpsc::Sender<()>,
    done: Arc<AtomicBool>,
) -> Result<Vec<Option<Instant>>, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers()?)
        .set("group.id", "latency")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let timeout = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(TOPIC), timeout)?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, high) = consumer.fetch_watermarks(TOPIC, partition.id(), timeout)?;
        assignment.add_partition_offset(TOPIC, partition.id(), Offset::Offset(high))?;
    }
    consumer.assign(&assignment)?;
    let mut arrived = vec![None; numbers];
    ready.send(())?;
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(message) => {
                let message = message?;
                let Number { number } = serde_json::from_slice(message.payload().unwrap_or_default())?;
                if let Some(slot) = arrived.get_mut(number as usize) {
                    slot.get_or_insert_with(Instant::now);
                }
            }
            None if done.load(Ordering::Acquire) => return Ok(arrived),
            None => {}
        }
    }
}

/// Has `commit` called at `rate` for `seconds`, and prints the latencies.
async fn measure<F, C>(rate: u64, seconds: u64, commit: F) -> Result<(), Failure>
where
    F: Fn(u64) -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let total = rate * (seconds + WARM_UP.as_secs());
    let done = Arc::new(AtomicBool::new(false));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let consumer = tokio::task::spawn_blocking({
        let done = Arc::clone(&done);
        move || consume(total as usize, ready, done)
    });
    tokio::task::spawn_blocking(move || is_ready.recv()).await??;

    let (committed, mut all_committed) = mpsc::unbounded_channel();
    let begin = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..u64::from(CONNECTIONS) {
        let (commit, committed) = (commit.clone(), committed.clone());
        writers.spawn(async move {
            let mut n = writer;
            while n < total {
                // At its time, not at a distance from the last: a slow commit must not thin out the load.
                let due = begin + Duration::from_secs_f64(n as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                commit(n).await?;
                committed.send((n, Instant::now()))?;
                n += u64::from(CONNECTIONS);
            }
            Ok::<_, Failure>(())
        });
    }
    drop(committed);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let took = begin.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Release);
    let arrived = consumer.await??;

    let (mut latencies, mut lost) = (Vec::new(), 0);
    while let Some((n, commit)) = all_committed.recv().await {
        match arrived[n as usize] {
            None => lost += 1,
            Some(_) if n < rate * WARM_UP.as_secs() => {}
            Some(arrival) => latencies.push(arrival.saturating_duration_since(commit).as_secs_f64() * 1000.0),
        }
    }
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    println!(
        r#"{{"rate": {:.0}, "p50": {:.3}, "p99": {:.3}, "p999": {:.3}, "lost": {lost}, "peak_mib": {:.1}}}"#,
        total as f64 / took,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        peak_mib()
    );
    Ok(())
}

pub(crate) async fn outbox(rate: u64, seconds: u64) -> Result<(), Failure> {
    let outbox: Outbox<Postgres> = open(CONNECTIONS).await?;
    let relay = Relay::new(outbox.clone(), KafkaPublisher::new(brokers()?)?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    measure(rate, seconds, move |n| {
        let outbox = outbox.clone();
        async move {
            let mut tx = outbox.begin().await?;
            tx.emit(OrderCreated::new(n % 10_000, n))?;
            tx.commit().await?;
            Ok(())
        }
    })
    .await?;
    drop(stop);
    relay.await??;
    Ok(())
}

pub(crate) async fn bare(rate: u64, seconds: u64) -> Result<(), Failure> {
    let pool = open(CONNECTIONS + 2).await?.pool().clone();
    pool.execute(
        "drop table if exists bare_event; drop table if exists bare_progress;
         create table bare_event (
           seq bigserial primary key, id uuid not null, topic text not null, key bytea, name text not null,
           version integer not null, content_type text not null, headers json not null, payload bytea not null,
           occurred_at timestamptz not null);
         create table bare_progress (seq bigint not null);
         insert into bare_progress values (0)",
    )
    .await?;
    let bell = Arc::new(Notify::new());
    let relay = tokio::spawn({
        let (bell, pool) = (Arc::clone(&bell), pool.clone());
        async move {
            let (producer, delivered) = producer()?;
            let (mut reading, mut saving) = (pool.acquire().await?.detach(), pool.acquire().await?.detach());
            let (mut after, mut sent) = (0, 0);
            let (progress, mut to_save) = mpsc::unbounded_channel::<(u64, i64)>();
            let watched = Arc::clone(&delivered);
            tokio::spawn(async move {
                while let Some(mut last) = to_save.recv().await {
                    while let Ok(later) = to_save.try_recv() {
                        last = later;
                    }
                    wait(&watched, last.0).await?;
                    save(&mut saving, last.1).await?;
                }
                Ok::<_, Failure>(())
            });
            loop {
                let batch = read(&mut reading, after).await?;
                match batch.last() {
                    Some(last) => {
                        after = last.seq;
                        sent += batch.len() as u64;
                        publish(&producer, &delivered, &batch).await?;
                        progress.send((sent, after))?;
                    }
                    None => {
                        let _ = tokio::time::timeout(Duration::from_millis(250), bell.notified()).await;
                    }
                }
            }
            #[allow(unreachable_code)]
            Ok::<_, Failure>(())
        }
    });
    measure(rate, seconds, move |n| {
        let (pool, bell) = (pool.clone(), Arc::clone(&bell));
        async move {
            let mut tx = pool.begin().await?;
            let customer = n % 10_000;
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
            bell.notify_one();
            Ok(())
        }
    })
    .await?;
    relay.abort();
    Ok(())
}
