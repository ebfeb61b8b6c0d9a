//! Consumers: ours, and the loop that one writes by hand with the same SQL.

pub(crate) mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::{Outbox, OutboxTx};
use outbox_bench_report::Handled;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message as _};
use sqlx::{Executor, PgPool, Postgres};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Failure, OrderCreated, TOPIC, brokers, outbox, topic};

const CUSTOMERS: u64 = 1_000;
const INSERT: &str = "insert into handled (customer, number) values ($1, $2)";

/// Prepares the tables, and `events` events on the topic.
pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    let outbox = outbox(1).await?;
    outbox.pool().execute("drop schema public cascade; create schema public").await?;
    outbox.migrate().await?;
    outbox
        .pool()
        .execute("create table handled (customer bigint not null, number bigint not null)")
        .await?;
    topic::create(TOPIC, &[]).await?;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers()?)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    let mut sent = Vec::new();
    for n in 0..events {
        let event = OrderCreated::new(n % CUSTOMERS, n);
        let (key, payload) = (event.customer.to_string(), serde_json::to_vec(&event)?);
        let id = Uuid::now_v7().to_string();
        let headers = [("ce_id", &*id), ("ce_type", "order.created"), ("ce_dataversion", "1")];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let record = FutureRecord::to(TOPIC).key(&key).payload(&payload).headers(headers);
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for delivery in sent {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// One event after the other: begin, inbox, effect, commit, offset.
pub(crate) async fn by_hand(events: u64) -> Result<Handled, Failure> {
    let pool = outbox(1).await?.pool().clone();
    let group = Uuid::now_v7().to_string();
    let consumer = subscribed(&group)?;
    let mut begin = None;
    for _ in 0..events {
        let message = consumer.recv().await?;
        // The time that the group takes to form is not counted.
        begin.get_or_insert_with(Instant::now);
        handle_by_hand(&pool, &group, event_id(&message)?, message.payload()).await?;
        consumer.store_offset_from_message(&message)?;
    }
    handled(begin, events)
}

fn subscribed(group: &str) -> Result<StreamConsumer, Failure> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers()?)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    Ok(consumer)
}

fn event_id(message: &BorrowedMessage<'_>) -> Result<Uuid, Failure> {
    let id = message.headers().and_then(|headers| {
        let header = headers.iter().find(|header| header.key == "ce_id")?;
        std::str::from_utf8(header.value?).ok()?.parse().ok()
    });
    Ok(id.ok_or("an event without an id")?)
}

/// The transaction of an event.
async fn handle_by_hand(
    pool: &PgPool,
    group: &str,
    id: Uuid,
    payload: Option<&[u8]>,
) -> Result<(), Failure> {
    let event: OrderCreated = serde_json::from_slice(payload.unwrap_or_default())?;
    let mut tx = pool.begin().await?;
    let new = sqlx::query(
        "insert into outbox_inbox (consumer_group, event_id) values ($1, $2) on conflict do nothing",
    )
    .bind(group)
    .bind(id)
    .execute(&mut *tx)
    .await?;
    if new.rows_affected() == 1 {
        sqlx::query(INSERT)
            .bind(event.customer as i64)
            .bind(event.number as i64)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(())
}

struct Handler {
    begin: std::sync::OnceLock<Instant>,
    left: AtomicU64,
    done: Notify,
}

impl EventHandler<Postgres> for Handler {
    type Event = OrderCreated;
    type Error = sqlx::Error;

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: OrderCreated,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        self.begin.get_or_init(Instant::now);
        sqlx::query(INSERT)
            .bind(event.customer as i64)
            .bind(event.number as i64)
            .execute(tx)
            .await?;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

pub(crate) async fn by_outbox(
    events: u64,
    concurrency: u32,
    shared: u32,
) -> Result<Handled, Failure> {
    let outbox: Outbox<Postgres> = outbox(concurrency + 1).await?;
    handle(outbox, Uuid::now_v7().to_string(), events, concurrency, shared).await
}

/// By a consumer of this group.
pub(crate) async fn handle(
    outbox: Outbox<Postgres>,
    group: String,
    events: u64,
    concurrency: u32,
    shared: u32,
) -> Result<Handled, Failure> {
    let handler = Arc::new(Handler {
        begin: std::sync::OnceLock::new(),
        left: AtomicU64::new(events),
        done: Notify::new(),
    });
    let done = Arc::clone(&handler);
    Consumer::builder(outbox, brokers()?)
        .group(group)
        .handler(Arc::clone(&handler).with_options(|options| options.shared_transaction(shared)))
        .concurrency(concurrency as usize)
        .build()?
        .run(async move { done.done.notified().await })
        .await?;
    handled(handler.begin.get().copied(), events)
}

fn handled(begin: Option<Instant>, events: u64) -> Result<Handled, Failure> {
    let seconds = begin.map_or(Duration::ZERO, |begin| begin.elapsed()).as_secs_f64();
    if seconds == 0.0 {
        return Err("nothing was handled".into());
    }
    Ok(Handled { rate: events as f64 / seconds, peak_mib: crate::peak_mib() })
}
