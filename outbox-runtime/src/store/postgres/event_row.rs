//! Events, as statements return them.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use outbox_event::Headers;
use sqlx::postgres::PgRow;
use sqlx::{Column, Row};

use crate::check::from_unix_micros;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::headers;
use crate::store::interned::Repeated;

/// Positions of an event's columns in a result. They are looked up by name once for a result, since
/// its rows are read in the relay's hottest loop.
pub(super) struct EventColumns {
    lane: usize,
    seq: usize,
    id: usize,
    topic: (usize, Repeated),
    key: usize,
    name: (usize, Repeated),
    version: usize,
    content_type: (usize, Repeated),
    headers: usize,
    payload: usize,
    occurred_at: usize,
    kafka_partition: usize,
}

impl EventColumns {
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let repeated = |name| Ok::<_, sqlx::Error>((position(row, name)?, Repeated::default()));
        Ok(Self {
            lane: position(row, "lane")?,
            seq: position(row, "seq")?,
            id: position(row, "id")?,
            topic: repeated("topic")?,
            key: position(row, "key")?,
            name: repeated("name")?,
            version: position(row, "version")?,
            content_type: repeated("content_type")?,
            headers: position(row, "headers")?,
            payload: position(row, "payload")?,
            occurred_at: position(row, "occurred_at")?,
            kafka_partition: position(row, "kafka_partition")?,
        })
    }

    /// The event of a row.
    ///
    /// A row that was written by hand may have any content that its columns accept. That is not an
    /// error, which would stop all lanes: the event is marked as unreadable, and parked.
    fn event(&self, row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
        let version: i32 = row.try_get(self.version)?;
        let mut unreadable = None;
        // JSON is sent as text.
        let headers = row.try_get_unchecked(self.headers)?;
        let headers = headers::from_json(headers).unwrap_or_else(|error| {
            unreadable = Some(error.to_string().into());
            Headers::new()
        });
        // sqlx panics at a time outside of its calendar, such as infinity.
        let micros = row.try_get_unchecked(self.occurred_at)?;
        let occurred_at = from_micros_since_2000(micros).unwrap_or_else(|| {
            unreadable = Some("its `occurred_at` is in no calendar".into());
            UNIX_EPOCH
        });
        if version < 0 {
            unreadable = Some("its `version` is negative".into());
        }
        Ok(StoredEvent {
            lane: Lane::from_number(row.try_get(self.lane)?),
            seq: row.try_get(self.seq)?,
            record: EventRecord {
                id: row.try_get(self.id)?,
                topic: text(row, &self.topic)?,
                key: row.try_get(self.key)?,
                name: text(row, &self.name)?,
                version: version.unsigned_abs(),
                content_type: text(row, &self.content_type)?,
                headers,
                payload: row.try_get(self.payload)?,
                occurred_at,
                partition: row.try_get(self.kafka_partition)?,
            },
            unreadable,
        })
    }
}

fn text(
    row: &PgRow,
    (column, texts): &(usize, Repeated),
) -> Result<Cow<'static, str>, sqlx::Error> {
    Ok(texts.text(row.try_get(*column)?))
}

/// The events of a result.
pub(super) fn stored_events(rows: &[PgRow]) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns = EventColumns::of(first)?;
    rows.iter().map(|row| columns.event(row)).collect()
}

/// A row with its contents, or with its size only.
#[allow(clippy::large_enum_variant)] // it lives for one turn of the loop, which allocates nothing for it
pub(super) enum BoundedRow {
    Event(StoredEvent),
    TooLarge { seq: i64, size: u64 },
}

impl BoundedRow {
    pub(super) fn seq(&self) -> i64 {
        match self {
            Self::Event(event) => event.seq,
            Self::TooLarge { seq, .. } => *seq,
        }
    }
}

/// Positions of the columns of a result whose rows may be too large to have their contents.
pub(super) struct BoundedColumns {
    event: EventColumns,
    too_large: usize,
}

impl BoundedColumns {
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { event: EventColumns::of(row)?, too_large: position(row, "too_large")? })
    }

    /// The lane of a row. `None`: the row has no event.
    pub(super) fn lane(&self, row: &PgRow) -> Result<Option<Lane>, sqlx::Error> {
        Ok(row.try_get::<Option<i16>, _>(self.event.lane)?.map(Lane::from_number))
    }

    pub(super) fn row(&self, row: &PgRow) -> Result<BoundedRow, sqlx::Error> {
        Ok(match row.try_get::<Option<i64>, _>(self.too_large)? {
            None => BoundedRow::Event(self.event.event(row)?),
            Some(size) => BoundedRow::TooLarge {
                seq: row.try_get(self.event.seq)?,
                size: size.max(1).unsigned_abs(),
            },
        })
    }
}

/// The position of a column.
pub(super) fn position(row: &PgRow, name: &str) -> Result<usize, sqlx::Error> {
    Ok(row.try_column(name)?.ordinal())
}

/// A `timestamptz` as Postgres sends it: microseconds since 2000.
fn from_micros_since_2000(micros: i64) -> Option<SystemTime> {
    const MICROS_OF_2000: i64 = 946_684_800_000_000;
    from_unix_micros(micros.checked_add(MICROS_OF_2000)?)
}
