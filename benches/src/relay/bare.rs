//! The loop that one writes by hand, written well: it reads 20,000 rows from a cursor while the
//! last ones are sent, sends without waiting, and saves its progress when all before it is
//! delivered. It loses events that commit late, keeps no order when events are refused, and cannot
//! run twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox_bench_report::Drained;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Executor, PgConnection, PgPool, Row};
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::raw::{Delivered, Event, Producer, producer, send, wait};
use crate::tenths::Times;
use crate::{Failure, outbox, peak_mib};

pub(crate) const ROWS: i64 = 20_000;

/// Where the loop reads, over a connection.
pub(crate) trait Source: Send + 'static {
    /// The next events whose numbers are above `after`, in order: [`ROWS`] of them at most.
    fn read(&mut self, after: i64) -> impl Future<Output = Result<Vec<BareEvent>, Failure>> + Send;

    /// Saves that these numbers, which are in order, are delivered, as all before them.
    fn save(&mut self, delivered: &[i64]) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Empty tables, instead of those that there are.
pub(crate) async fn create_tables(pool: &PgPool) -> Result<(), Failure> {
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
    Ok(())
}

const READ: &str = "\
select seq, id, topic, key, name, version, content_type, headers::text, payload, occurred_at
from bare_event where seq > $1 order by seq limit $2";

pub(crate) struct BareEvent {
    pub(crate) seq: i64,
    pub(crate) id: Uuid,
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) occurred_at: OffsetDateTime,
}

/// The rows of `READ`, whose headers `$parse` takes. A macro: the bounds of a function that reads the
/// rows of either database are longer than it.
macro_rules! bare_events {
    ($rows:expr, $parse:path) => {{
        let event = |row| {
            // All columns are read, as a relay for any topic and name must do.
            let (_, _): (&str, &str) = (Row::try_get(row, 4)?, Row::try_get(row, 6)?);
            let _: i32 = Row::try_get(row, 5)?;
            let _: std::collections::BTreeMap<String, String> = $parse(Row::try_get(row, 7)?)?;
            Ok($crate::bare::BareEvent {
                seq: Row::try_get(row, 0)?,
                id: Row::try_get(row, 1)?,
                topic: Row::try_get(row, 2)?,
                key: Row::try_get(row, 3)?,
                payload: Row::try_get(row, 8)?,
                occurred_at: Row::try_get(row, 9)?,
            })
        };
        $rows.iter().map(event).collect()
    }};
}
pub(crate) use bare_events;

impl Source for PgConnection {
    async fn read(&mut self, after: i64) -> Result<Vec<BareEvent>, Failure> {
        let rows = sqlx::query(READ).bind(after).bind(ROWS).fetch_all(self).await?;
        bare_events!(rows, serde_json::from_str)
    }

    async fn save(&mut self, delivered: &[i64]) -> Result<(), Failure> {
        let last = delivered.last().ok_or("there is nothing to save")?;
        sqlx::query("update bare_progress set seq = $1").bind(last).execute(self).await?;
        Ok(())
    }
}

async fn publish(
    producer: &Producer,
    delivered: &Delivered,
    events: &[BareEvent],
) -> Result<(), Failure> {
    for (n, event) in events.iter().enumerate() {
        let time = event.occurred_at.format(&Rfc3339)?;
        let mut id = Uuid::encode_buffer();
        let id = event.id.hyphenated().encode_lower(&mut id);
        send(
            producer,
            delivered,
            &Event {
                topic: &event.topic,
                id,
                key: &event.key,
                payload: &event.payload,
                time: &time,
            },
        )
        .await?;
        if n % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

pub(crate) async fn drain(events: u64) -> Result<Drained, Failure> {
    let pool = outbox(2).await?.pool().clone();
    sqlx::query("update bare_progress set seq = 0").execute(&pool).await?;
    let reading = pool.acquire().await?.detach();
    drain_from(reading, pool.acquire().await?.detach(), events).await
}

/// What is read over one connection is saved over another one.
pub(crate) async fn drain_from<S: Source>(
    mut reading: S,
    mut saving: S,
    events: u64,
) -> Result<Drained, Failure> {
    let (producer, delivered) = producer()?;
    let begin = Instant::now();
    let (batches, mut read_batches) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let mut after = 0;
        loop {
            let batch = reading.read(after).await?;
            let Some(last) = batch.last() else { return Ok::<_, Failure>(()) };
            after = last.seq;
            if batches.send(batch).await.is_err() {
                return Ok(());
            }
        }
    });
    let times = Times::of(events);
    let (mut sent, mut unsaved) = (0, None::<(u64, Vec<i64>)>);
    let mut noted = 0;
    let watched = Arc::clone(&delivered);
    while let Some(batch) = read_batches.recv().await {
        publish(&producer, &delivered, &batch).await?;
        // The batch before is delivered by now, or soon.
        if let Some((count, numbers)) = unsaved {
            wait(&watched, count).await?;
            times.note(count - noted);
            noted = count;
            saving.save(&numbers).await?;
        }
        sent += batch.len() as u64;
        unsaved = Some((sent, batch.iter().map(|event| event.seq).collect()));
    }
    reader.await??;
    if let Some((count, numbers)) = unsaved {
        wait(&watched, count).await?;
        saving.save(&numbers).await?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    if sent != events {
        return Err(format!("{sent} events of {events} were published").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: times.tenths() })
}

/// Publishes what is committed, until it is aborted. `on_read`: called with each batch that was
/// read.
pub(crate) async fn run(
    pool: PgPool,
    bell: Arc<Notify>,
    on_read: impl Fn(&[BareEvent]) + Send,
) -> Result<(), Failure> {
    let (producer, delivered) = producer()?;
    let mut reading = pool.acquire().await?.detach();
    let (progress, to_save) = mpsc::unbounded_channel();
    tokio::spawn(save_progress(pool, Arc::clone(&delivered), to_save));
    let (mut after, mut sent) = (0, 0);
    loop {
        let batch = reading.read(after).await?;
        let Some(last) = batch.last() else {
            let _ = tokio::time::timeout(Duration::from_millis(250), bell.notified()).await;
            continue;
        };
        after = last.seq;
        on_read(&batch);
        sent += batch.len() as u64;
        publish(&producer, &delivered, &batch).await?;
        progress.send(Progress { sent, seq: after })?;
    }
}

/// Where a batch ends.
struct Progress {
    /// How many events were sent by then.
    sent: u64,
    seq: i64,
}

/// Saves the last batch that is delivered, while the next ones are sent.
async fn save_progress(
    pool: PgPool,
    delivered: Arc<Delivered>,
    mut to_save: mpsc::UnboundedReceiver<Progress>,
) -> Result<(), Failure> {
    let mut saving = pool.acquire().await?.detach();
    while let Some(mut last) = to_save.recv().await {
        while let Ok(later) = to_save.try_recv() {
            last = later;
        }
        wait(&delivered, last.sent).await?;
        saving.save(&[last.seq]).await?;
    }
    Ok(())
}
