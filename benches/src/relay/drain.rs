//! A backlog, and the relay that publishes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{Outbox, OutboxTx, Relay};
use outbox_bench_report::{Drained, Tenths};
use sqlx::{Executor, Postgres};

use crate::{Failure, OrderCreated, brokers, outbox, peak_mib};

const IN_ONE_TRANSACTION: u64 = 10_000;

/// Prepares a backlog of `events` events.
pub(crate) async fn fill_outbox(events: u64) -> Result<(), Failure> {
    filled(events, |_, _| {}).await?;
    Ok(())
}

/// The outbox with its backlog. `before`: called before each event is emitted, with its number.
pub(crate) async fn filled(
    events: u64,
    before: impl Fn(&mut OutboxTx<'_, Postgres>, u64),
) -> Result<Outbox<Postgres>, Failure> {
    let outbox = outbox(2).await?;
    let tables =
        "drop publication if exists debezium; drop schema public cascade; create schema public";
    outbox.pool().execute(tables).await?;
    outbox.migrate().await?;
    for first in (0..events).step_by(IN_ONE_TRANSACTION as usize) {
        let mut tx = outbox.begin().await?;
        for n in first..events.min(first + IN_ONE_TRANSACTION) {
            before(&mut tx, n);
            tx.emit(OrderCreated::new(n % 10_000, n))?;
        }
        tx.commit().await?;
    }
    outbox.pool().execute("vacuum analyze").await?;
    outbox.pool().execute("checkpoint").await?;
    Ok(outbox)
}

/// Prepares a backlog of `events` events, and the same in the table of the bare loop.
pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    let outbox = filled(events, |_, _| {}).await?;
    outbox
        .pool()
        .execute(
            "create table bare_event (
               seq bigserial primary key, id uuid not null, topic text not null, key bytea, name text not null,
               version integer not null, content_type text not null, headers json not null, payload bytea not null,
               occurred_at timestamptz not null);
             create table bare_progress (seq bigint not null);
             insert into bare_progress values (0);
             insert into bare_event
             select seq, id, topic, key, name, version, content_type, headers, payload, occurred_at
             from outbox_event order by seq;",
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
    let times =
        Arc::new(Times { tenth: events / 10, delivered: AtomicU64::new(0), at: Mutex::default() });
    let publisher = Timed { kafka: KafkaPublisher::new(brokers()?)?, times: Arc::clone(&times) };
    let relay = Relay::new(outbox, publisher);
    let begin = Instant::now();
    let published = relay.drain().await?;
    let seconds = begin.elapsed().as_secs_f64();
    if published != events {
        return Err(format!("{published} events of {events} were published").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: Some(times.tenths()?) })
}

/// When each tenth of the events was delivered.
struct Times {
    tenth: u64,
    delivered: AtomicU64,
    at: Mutex<Vec<Reported>>,
}

/// How many events had been delivered at a time.
struct Reported {
    events: u64,
    at: Instant,
}

impl Times {
    fn note(&self, delivered: usize) {
        let before = self.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        let now = before + delivered as u64;
        if before == 0 || before / self.tenth.max(1) != now / self.tenth.max(1) {
            let reported = Reported { events: now, at: Instant::now() };
            self.at.lock().unwrap_or_else(PoisonError::into_inner).push(reported);
        }
    }

    /// From the first report to the end of the first tenth, and from the end of the ninth to the
    /// last report.
    fn tenths(&self) -> Result<Tenths, Failure> {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = |from: &Reported, to: &Reported| {
            (to.events - from.events) as f64 / (to.at - from.at).as_secs_f64()
        };
        match at.as_slice() {
            [first, tenth, .., ninth, last] => {
                Ok(Tenths { first: rate(first, tenth), last: rate(ninth, last) })
            }
            _ => Err("too few events for tenths".into()),
        }
    }
}

struct Timed {
    kafka: KafkaPublisher,
    times: Arc<Times>,
}

impl Publisher for Timed {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let reports = self.kafka.publish(batch).await;
        self.times.note(reports.len());
        reports
    }
}
