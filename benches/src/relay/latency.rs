//! From the commit of an event to its arrival at a consumer: writer, relay and consumer in one
//! process, each on its own connections, at a given rate.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{DomainEvent, Outbox, Relay};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Postgres};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::bare::{publish, read, save};
use crate::raw::{producer, wait};
use crate::{Failure, OrderCreated, TOPIC, brokers, debezium, outbox as open, peak_mib, topic};

const CONNECTIONS: u32 = 16;
const WARM_UP: Duration = Duration::from_secs(3);
const CUSTOMERS: u64 = 10_000;
/// A number of commits a second that writers on two cores do not reach.
const MOST_PER_SECOND: u64 = 50_000;

#[derive(Deserialize)]
struct Number {
    number: u64,
}

/// When each number had been read from the database.
type ReadAt = Arc<Mutex<HashMap<u64, Instant>>>;

fn note<'p>(read_at: &ReadAt, payloads: impl Iterator<Item = &'p [u8]>) {
    let now = Instant::now();
    let mut read_at = read_at.lock().unwrap_or_else(PoisonError::into_inner);
    for Number { number } in payloads.filter_map(|payload| serde_json::from_slice(payload).ok()) {
        read_at.entry(number).or_insert(now);
    }
}

/// Records when it receives each event.
struct Noting(KafkaPublisher, ReadAt);

impl Publisher for Noting {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        note(
            &self.1,
            batch.events.iter().map(|event| event.record.payload.as_deref().unwrap_or_default()),
        );
        self.0.publish(batch).await
    }
}

/// Reads the topic from its end, and notes when each number arrives, until nothing came for a while
/// after `done`.
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
                let Number { number } =
                    serde_json::from_slice(message.payload().unwrap_or_default())?;
                if let Some(slot) = arrived.get_mut(number as usize) {
                    slot.get_or_insert_with(Instant::now);
                }
            }
            None if done.load(Ordering::Acquire) => return Ok(arrived),
            None => {}
        }
    }
}

/// Calls `commit` at `rate` a second, or as fast as possible if that is 0, for `seconds`, and
/// prints the latencies of all customers except the `held_up`.
async fn measure<F, C>(
    rate: u64,
    seconds: u64,
    held_up: HashSet<u64>,
    read_at: ReadAt,
    commit: F,
) -> Result<(), Failure>
where
    F: Fn(u64) -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Failure>> + Send + 'static,
{
    topic::create(TOPIC, &[]).await?;
    let all_seconds = seconds + WARM_UP.as_secs();
    let total = if rate == 0 { MOST_PER_SECOND } else { rate } * all_seconds;
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
                // At its own time, not some time after the last one: a slow commit must not reduce
                // the load.
                if rate > 0 {
                    let due = begin + Duration::from_secs_f64(n as f64 / rate as f64);
                    tokio::time::sleep_until(due.into()).await;
                } else if begin.elapsed().as_secs() >= all_seconds {
                    break;
                }
                let begun = Instant::now();
                commit(n).await?;
                let now = Instant::now();
                committed.send((n, now, now - begun))?;
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
    // Late events have this time to arrive; the consumer then waits until nothing has come for half
    // a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Release);
    let arrived = consumer.await??;

    let (mut latencies, mut reads, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut commits) = (0, 0);
    let read_at = read_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
    while let Some((n, commit, took)) = all_committed.recv().await {
        commits += 1;
        if commit >= begin + WARM_UP {
            writes.push(took.as_secs_f64() * 1000.0);
        }
        match arrived[n as usize] {
            _ if held_up.contains(&(n % CUSTOMERS)) => {}
            None => lost += 1,
            Some(_) if commit < begin + WARM_UP => {}
            Some(arrival) => {
                let since =
                    |then: Instant| then.saturating_duration_since(commit).as_secs_f64() * 1000.0;
                latencies.push(since(arrival));
                reads.extend(read_at.get(&n).copied().map(since));
            }
        }
    }
    if latencies.is_empty() {
        return Err("nothing arrived".into());
    }
    latencies.sort_by(f64::total_cmp);
    reads.sort_by(f64::total_cmp);
    writes.sort_by(f64::total_cmp);
    // Debezium does not say when it read what.
    let read_p99 =
        if reads.is_empty() { "null".to_owned() } else { format!("{:.3}", quantile(&reads, 0.99)) };
    println!(
        r#"{{"rate": {:.0}, "p50": {:.3}, "p99": {:.3}, "p999": {:.3}, "worst": {:.3}, "read_p99": {read_p99}, "write_p99": {:.3}, "lost": {lost}, "peak_mib": {:.1}}}"#,
        f64::from(commits) / took,
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        quantile(&latencies, 0.999),
        quantile(&latencies, 1.0),
        quantile(&writes, 0.99),
        peak_mib()
    );
    Ok(())
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) as f64 * q) as usize).copied().unwrap_or(f64::NAN)
}

/// An event of a topic that takes nothing, as it wants two copies on one broker.
#[derive(Serialize, DomainEvent)]
#[event(topic = "slow")]
struct OnSlowTopic {
    #[event(key)]
    customer: &'static str,
}

/// An event that its topic refuses for its size.
#[derive(Serialize, DomainEvent)]
#[event(topic = "small")]
struct TooLarge {
    #[event(key)]
    customer: &'static str,
    noise: String,
}

/// A disturbance that runs beside the measured events.
async fn disturb(outbox: &Outbox<Postgres>, what: &str) -> Result<HashSet<u64>, Failure> {
    match what {
        "open-transaction" => {
            let mut open = outbox.pool().acquire().await?.detach();
            open.execute(
                "begin; insert into outbox_event (lane, id, topic, name, version, content_type, headers, \
                          payload, occurred_at) values (3, gen_random_uuid(), 'orders', 'order.created', 1, \
                          'application/json', '{}', '{}', now())",
            )
            .await?;
            // It stays open until this process ends.
            std::mem::forget(open);
            Ok(HashSet::new())
        }
        "held-snapshot" => {
            let mut open = outbox.pool().acquire().await?.detach();
            open.execute(
                "begin isolation level repeatable read; select count(*) from outbox_progress",
            )
            .await?;
            // It stays open until this process ends.
            std::mem::forget(open);
            outbox
                .pool()
                .execute(
                    "insert into outbox_progress (lane)
                     select l.lane from generate_series(1, 72000), outbox_lane l order by 1",
                )
                .await?;
            Ok(HashSet::new())
        }
        "slow-topic" => {
            topic::create("slow", &[("min.insync.replicas", "2")]).await?;
            let mut tx = outbox.begin().await?;
            for customer in 0..CUSTOMERS {
                tx.emit(OrderCreated::new(customer, u64::MAX))?;
            }
            tx.commit().await?;
            let mut tx = outbox.begin().await?;
            tx.emit(OnSlowTopic { customer: "slow" })?;
            tx.commit().await?;
            let same_lane: Vec<String> = sqlx::query_scalar(
                "select distinct convert_from(key, 'utf8') from outbox_event
                 where topic = 'orders' and lane = (select lane from outbox_event where topic = 'slow' limit 1)",
            )
            .fetch_all(outbox.pool())
            .await?;
            every_100_ms(outbox, || OnSlowTopic { customer: "slow" });
            Ok(same_lane.iter().filter_map(|customer| customer.parse().ok()).collect())
        }
        "poison-key" => {
            topic::create("small", &[("max.message.bytes", "4000")]).await?;
            every_100_ms(outbox, || TooLarge {
                customer: "poison",
                noise: (0..400).map(|_| uuid::Uuid::now_v7().simple().to_string()).collect(),
            });
            Ok(HashSet::new())
        }
        "reclaiming" => {
            let outbox = outbox.clone();
            tokio::spawn(async move {
                loop {
                    // The rest of the leaf is used up; those before it are full, published, and
                    // free.
                    sqlx::query(
                        "select setval('outbox_seq', ((last_value >> 20) + 1) << 20) from outbox_seq",
                    )
                    .execute(outbox.pool())
                    .await?;
                    outbox.reclaim(Duration::ZERO).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                #[allow(unreachable_code)]
                Ok::<_, Failure>(())
            });
            Ok(HashSet::new())
        }
        _ => Ok(HashSet::new()),
    }
}

fn every_100_ms<E: DomainEvent + Send>(
    outbox: &Outbox<Postgres>,
    event: impl Fn() -> E + Send + 'static,
) {
    let outbox = outbox.clone();
    tokio::spawn(async move {
        loop {
            let mut tx = outbox.begin().await?;
            tx.emit(event())?;
            tx.commit().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        #[allow(unreachable_code)]
        Ok::<_, Failure>(())
    });
}

pub(crate) async fn debezium(rate: u64, seconds: u64) -> Result<(), Failure> {
    let pool = open(CONNECTIONS).await?.pool().clone();
    measure(rate, seconds, HashSet::new(), ReadAt::default(), move |n| {
        let pool = pool.clone();
        async move { debezium::insert(&pool, n).await }
    })
    .await
}

pub(crate) async fn outbox(rate: u64, seconds: u64, disturbance: &str) -> Result<(), Failure> {
    let outbox: Outbox<Postgres> = open(CONNECTIONS + 2).await?;
    let read_at = ReadAt::default();
    let publisher = Noting(KafkaPublisher::new(brokers()?)?, Arc::clone(&read_at));
    let relay = Relay::new(outbox.clone(), publisher);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    let held_up = disturb(&outbox, disturbance).await?;
    measure(rate, seconds, held_up, read_at, move |n| {
        let outbox = outbox.clone();
        async move {
            let mut tx = outbox.begin().await?;
            tx.emit(OrderCreated::new(n % CUSTOMERS, n))?;
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
    let read_at = ReadAt::default();
    let relay = tokio::spawn({
        let (bell, pool, read_at) = (Arc::clone(&bell), pool.clone(), Arc::clone(&read_at));
        async move {
            let (producer, delivered) = producer()?;
            let (mut reading, mut saving) =
                (pool.acquire().await?.detach(), pool.acquire().await?.detach());
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
                        note(&read_at, batch.iter().map(|event| event.payload.as_slice()));
                        sent += batch.len() as u64;
                        publish(&producer, &delivered, &batch).await?;
                        progress.send((sent, after))?;
                    }
                    None => {
                        let _ =
                            tokio::time::timeout(Duration::from_millis(250), bell.notified()).await;
                    }
                }
            }
            #[allow(unreachable_code)]
            Ok::<_, Failure>(())
        }
    });
    measure(rate, seconds, HashSet::new(), read_at, move |n| {
        let (pool, bell) = (pool.clone(), Arc::clone(&bell));
        async move {
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
            bell.notify_one();
            Ok(())
        }
    })
    .await?;
    relay.abort();
    Ok(())
}
