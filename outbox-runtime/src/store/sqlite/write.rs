//! What runs inside the user's transaction.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::SqliteConnection;

use crate::record::{EventRecord, Lane};
use crate::store::{Names, sql};

const INSERT_EVENT: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// A statement per event: SQLite runs in this process, so there is no round trip to save.
pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
    names: &Names,
    events: &[EventRecord],
) -> Result<(), sqlx::Error> {
    let insert = sql(names.fill(INSERT_EVENT));
    for event in events {
        sqlx::query(insert.clone())
            .bind(Lane::of(event.key.as_deref(), event.id).number())
            .bind(event.id)
            .bind(event.topic.as_ref())
            .bind(event.key.as_deref())
            .bind(event.name.as_ref())
            .bind(event.version)
            .bind(event.content_type.as_ref())
            .bind(event.headers.to_json())
            .bind(event.payload.as_deref())
            .bind(unix_micros(event.occurred_at))
            .bind(event.partition)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) fn unix_micros(time: SystemTime) -> i64 {
    let micros = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    micros.unwrap_or(i64::MAX)
}
