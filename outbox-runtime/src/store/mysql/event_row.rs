//! Events, as statements return them.

use std::time::UNIX_EPOCH;

use outbox_event::Headers;
use sqlx::mysql::MySqlRow;
use sqlx::{Decode, MySql, Row, Type};

use crate::check::from_unix_micros;
use crate::record::{EventRecord, Lane, StoredEvent};
use crate::store::headers;

/// A row that was written by hand may have any content that its columns accept. That is not an
/// error, which would stop all lanes: the event is marked as unreadable, and parked.
pub(super) fn stored_event(row: &MySqlRow) -> Result<StoredEvent, sqlx::Error> {
    let mut unreadable = None;
    let version: i64 = field(row, "version", &mut unreadable);
    let record = EventRecord {
        id: field(row, "id", &mut unreadable),
        topic: field::<String>(row, "topic", &mut unreadable).into(),
        key: field(row, "event_key", &mut unreadable),
        name: field::<String>(row, "name", &mut unreadable).into(),
        version: u32::try_from(version).unwrap_or_else(|_| {
            unreadable = Some("its `version` is negative".into());
            0
        }),
        content_type: field::<String>(row, "content_type", &mut unreadable).into(),
        headers: read_headers(field(row, "headers", &mut unreadable)).unwrap_or_else(|error| {
            unreadable.get_or_insert(error);
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

/// The column is a blob: one of type JSON would come back in another order than it was written.
fn read_headers(json: &[u8]) -> Result<Headers, Box<str>> {
    let json = std::str::from_utf8(json)
        .map_err(|error| format!("its `headers` are not UTF-8: {error}"))?;
    headers::from_json(json).map_err(|error| error.to_string().into())
}

fn field<'r, T>(row: &'r MySqlRow, name: &str, unreadable: &mut Option<Box<str>>) -> T
where
    T: Default + Decode<'r, MySql> + Type<MySql>,
{
    row.try_get(name).unwrap_or_else(|error| {
        *unreadable = Some(format!("its `{name}` cannot be read: {error}").into());
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_no_text_are_unreadable_and_no_error() {
        assert_eq!(read_headers(br#"{"a":"1"}"#).unwrap().get("a"), Some("1"));
        assert!(read_headers(b"\xff").unwrap_err().contains("not UTF-8"));
        assert!(read_headers(b"[]").is_err());
    }
}
