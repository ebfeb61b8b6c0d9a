//! Events, as statements return them.

use std::time::UNIX_EPOCH;

use outbox_event::Headers;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::check::from_unix_micros;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::headers;

/// A row that was written by hand may have any content that its columns accept. That is not an
/// error, which would stop all lanes: the event is marked as unreadable, and parked.
pub(super) fn stored_event(row: &SqliteRow) -> Result<StoredEvent, sqlx::Error> {
    let mut unreadable = None;
    let record = EventRecord {
        id: field(row, "id", &mut unreadable),
        topic: field::<String>(row, "topic", &mut unreadable).into(),
        key: field(row, "key", &mut unreadable),
        name: field::<String>(row, "name", &mut unreadable).into(),
        version: field(row, "version", &mut unreadable),
        content_type: field::<String>(row, "content_type", &mut unreadable).into(),
        headers: headers::from_json(&field::<String>(row, "headers", &mut unreadable))
            .unwrap_or_else(|error| {
                unreadable.get_or_insert_with(|| error.to_string().into());
                Headers::new()
            }),
        payload: field(row, "payload", &mut unreadable),
        occurred_at: from_unix_micros(field(row, "occurred_at", &mut unreadable)).unwrap_or_else(
            || {
                unreadable = Some("its `occurred_at` is in no calendar".into());
                UNIX_EPOCH
            },
        ),
        partition: field(row, "kafka_partition", &mut unreadable),
    };
    Ok(StoredEvent {
        lane: Lane::from_number(row.try_get("lane")?),
        seq: row.try_get("seq")?,
        record,
        unreadable,
    })
}

fn field<'r, T>(row: &'r SqliteRow, name: &str, unreadable: &mut Option<Box<str>>) -> T
where
    T: Default + Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).unwrap_or_else(|error| {
        *unreadable = Some(format!("its `{name}` cannot be read: {error}").into());
        T::default()
    })
}
