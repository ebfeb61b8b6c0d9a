//! A backlog, and the relay that publishes it.

use std::sync::Arc;
use std::time::Instant;

use outbox::event::EventRecord;
use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{Outbox, OutboxDatabase, OutboxError, OutboxTx, Relay};
use outbox_bench_report::{Drained, Filled, Spread};
use sqlx::{Executor, Postgres};

use crate::tenths::Times;
use crate::{Failure, OrderCreated, TOPIC, bare, brokers, outbox, peak_mib, topic};

const IN_ONE_TRANSACTION: u64 = 10_000;

/// Prepares a backlog of `events` events.
pub(crate) async fn fill_outbox(events: u64) -> Result<(), Failure> {
    filled(events, emit).await?;
    Ok(())
}

pub(crate) fn emit<DB: OutboxDatabase>(
    tx: &mut OutboxTx<'_, DB>,
    n: u64,
) -> Result<(), OutboxError> {
    tx.emit(OrderCreated::new(n % 10_000, n)).map(drop)
}

/// The outbox with its backlog. `emit`: called with the number of each event.
pub(crate) async fn filled(
    events: u64,
    emit: impl Fn(&mut OutboxTx<'_, Postgres>, u64) -> Result<(), OutboxError>,
) -> Result<Outbox<Postgres>, Failure> {
    let outbox = outbox(2).await?;
    let tables =
        "drop publication if exists debezium; drop schema public cascade; create schema public";
    outbox.pool().execute(tables).await?;
    outbox.migrate().await?;
    emit_all(&outbox, events, emit).await?;
    outbox.pool().execute("vacuum analyze").await?;
    outbox.pool().execute("checkpoint").await?;
    Ok(outbox)
}

pub(crate) async fn emit_all<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    events: u64,
    emit: impl Fn(&mut OutboxTx<'_, DB>, u64) -> Result<(), OutboxError>,
) -> Result<(), Failure> {
    for first in (0..events).step_by(IN_ONE_TRANSACTION as usize) {
        let mut tx = outbox.begin().await?;
        for n in first..events.min(first + IN_ONE_TRANSACTION) {
            emit(&mut tx, n)?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Prepares a backlog of `events` events, and the same in the table of the bare loop.
pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    copy_to_bare_table(&filled(events, emit).await?).await
}

/// Prepares such a backlog whose events are spread over topics or keys.
pub(crate) async fn fill_spread(events: u64, spread: Spread) -> Result<Filled, Failure> {
    let begin = Instant::now();
    let (topics, keys) = match spread {
        Spread::Topics(topics) => ((0..topics).map(|n| format!("orders-{n}")).collect(), 10_000),
        Spread::Keys(keys) => (vec![TOPIC.to_owned()], keys),
    };
    match spread {
        Spread::Topics(_) => topic::create_small(&topics).await?,
        Spread::Keys(_) => topic::create(TOPIC, &[]).await?,
    }
    let topics_seconds = begin.elapsed().as_secs_f64();
    let emit = |tx: &mut OutboxTx<'_, Postgres>, n: u64| {
        let mut record = EventRecord::from_event(&OrderCreated::new(n % keys, n))?;
        record.topic = topics[n as usize % topics.len()].clone().into();
        tx.emit_record(record).map(drop)
    };
    copy_to_bare_table(&filled(events, emit).await?).await?;
    Ok(Filled { topics_seconds })
}

async fn copy_to_bare_table(outbox: &Outbox<Postgres>) -> Result<(), Failure> {
    bare::create_tables(outbox.pool()).await?;
    outbox
        .pool()
        .execute(
            "insert into bare_event
             select seq, id, topic, key, name, version, content_type, headers, payload, occurred_at
             from outbox_event order by seq",
        )
        .await?;
    outbox.pool().execute("vacuum analyze bare_event").await?;
    outbox.pool().execute("checkpoint").await?;
    Ok(())
}

/// Resets progress, so that the backlog is published once more.
pub(crate) async fn rewind(outbox: &Outbox<Postgres>) -> Result<(), Failure> {
    outbox
        .pool()
        .execute("insert into outbox_progress (lane) select lane from outbox_lane")
        .await?;
    Ok(())
}

/// The relay from the beginning of the backlog.
pub(crate) async fn drain(events: u64) -> Result<Drained, Failure> {
    drain_from(outbox(2).await?, events).await
}

pub(crate) async fn drain_from(outbox: Outbox<Postgres>, events: u64) -> Result<Drained, Failure> {
    rewind(&outbox).await?;
    publish_all(outbox, events).await
}

/// All that is in the outbox.
pub(crate) async fn publish_all<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    events: u64,
) -> Result<Drained, Failure> {
    let times = Arc::new(Times::of(events));
    let publisher = Timed { kafka: KafkaPublisher::new(brokers()?)?, times: Arc::clone(&times) };
    let relay = Relay::new(outbox, publisher);
    let begin = Instant::now();
    let published = relay.drain().await?;
    let seconds = begin.elapsed().as_secs_f64();
    if published != events {
        return Err(format!("{published} events of {events} were published").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: times.tenths() })
}

struct Timed {
    kafka: KafkaPublisher,
    times: Arc<Times>,
}

impl Publisher for Timed {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let reports = self.kafka.publish(batch).await;
        self.times.note(reports.len() as u64);
        reports
    }
}
