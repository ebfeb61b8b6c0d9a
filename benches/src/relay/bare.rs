//! The loop that one writes by hand, written well: it reads 20,000 rows from a cursor while the
//! last ones are sent, sends without waiting, and saves its progress when all before it is
//! delivered. It loses events that commit late, keeps no order when events are refused, and cannot
//! run twice.

use std::sync::Arc;
use std::time::Instant;

use outbox_bench_report::Drained;
use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, Row};
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::raw::{Delivered, Event, Producer, producer, send, wait};
use crate::tenths::Times;
use crate::{Failure, outbox, peak_mib};

const ROWS: i64 = 20_000;

const READ: &str = "\
select seq, id, topic, key, name, version, content_type, headers::text, payload, occurred_at
from bare_event where seq > $1 order by seq limit $2";

pub(crate) struct BareEvent {
    pub(crate) seq: i64,
    id: Uuid,
    key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    occurred_at: OffsetDateTime,
}

pub(crate) async fn read(
    connection: &mut PgConnection,
    after: i64,
) -> Result<Vec<BareEvent>, Failure> {
    let rows = sqlx::query(READ).bind(after).bind(ROWS).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            // All columns are read, as a relay for any topic and name must do.
            let (_, _, _): (&str, &str, &str) = (row.try_get(2)?, row.try_get(4)?, row.try_get(6)?);
            let _: i32 = row.try_get(5)?;
            let _: std::collections::BTreeMap<String, String> =
                serde_json::from_str(row.try_get(7)?)?;
            Ok(BareEvent {
                seq: row.try_get(0)?,
                id: row.try_get(1)?,
                key: row.try_get(3)?,
                payload: row.try_get(8)?,
                occurred_at: row.try_get(9)?,
            })
        })
        .collect()
}

pub(crate) async fn publish(
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
            &Event { id, key: &event.key, payload: &event.payload, time: &time },
        )
        .await?;
        if n % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

pub(crate) async fn save(connection: &mut PgConnection, seq: i64) -> Result<(), Failure> {
    sqlx::query("update bare_progress set seq = $1").bind(seq).execute(connection).await?;
    Ok(())
}

pub(crate) async fn drain(events: u64) -> Result<Drained, Failure> {
    let (producer, delivered) = producer()?;
    let pool = outbox(2).await?.pool().clone();
    sqlx::query("update bare_progress set seq = 0").execute(&pool).await?;
    let begin = Instant::now();
    let (batches, mut read_batches) = mpsc::channel(1);
    let mut reading = pool.acquire().await?.detach();
    let reader = tokio::spawn(async move {
        let mut after = 0;
        loop {
            let batch = read(&mut reading, after).await?;
            let Some(last) = batch.last() else { return Ok::<_, Failure>(()) };
            after = last.seq;
            if batches.send(batch).await.is_err() {
                return Ok(());
            }
        }
    });
    let mut saving = pool.acquire().await?.detach();
    let times = Times::of(events);
    let (mut sent, mut unsaved) = (0, None::<(u64, i64)>);
    let mut noted = 0;
    let watched = Arc::clone(&delivered);
    while let Some(batch) = read_batches.recv().await {
        publish(&producer, &delivered, &batch).await?;
        // The batch before is delivered by now, or soon.
        if let Some((count, seq)) = unsaved {
            wait(&watched, count).await?;
            times.note(count - noted);
            noted = count;
            save(&mut saving, seq).await?;
        }
        sent += batch.len() as u64;
        unsaved = batch.last().map(|last| (sent, last.seq));
    }
    reader.await??;
    if let Some((count, seq)) = unsaved {
        wait(&watched, count).await?;
        save(&mut saving, seq).await?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    if sent != events {
        return Err(format!("{sent} events of {events} were published").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: times.tenths() })
}
