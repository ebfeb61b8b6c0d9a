//! The inbox.

use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::store::sealed::Inbox;

const FORGET: &str = "\
delete from {inbox} where rowid in (
  select rowid from {inbox}
  where handled_at < cast(unixepoch('subsec') * 1000 as integer) - $2 and consumer_group = $1
  limit $3)";
/// Rows in the state `kept` stay: their events are nowhere else.
const FORGET_QUEUED: &str = "\
delete from {key_queue}
where consumer_group = $1 and since < cast(unixepoch('subsec') * 1000 as integer) - $2 and state <> 'kept'";

const BEFORE: &str = "handled_at < cast(unixepoch('subsec') * 1000 as integer) - $2";
const NOW: &str = "cast(unixepoch('subsec') * 1000 as integer)";
const OLD: &str = "since < cast(unixepoch('subsec') * 1000 as integer) - 60000";

const ANY_QUEUED: &str = "\
select exists (
  select 1 from {key_queue} where consumer_group = $1 and topic = $2 and key_digest = $3)";

fn micros(time: &str) -> String {
    format!("{time} * 1000")
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2)
}

/// There is one writer at a time.
#[allow(clippy::unused_async)] // as on other databases
async fn lock(_: &mut SqliteConnection, _: &Names, _: &GroupKey<'_>) -> Result<(), sqlx::Error> {
    Ok(())
}

/// One statement for each event: SQLite runs in this process, so there is no round trip to save.
async fn insert_all(
    connection: &mut SqliteConnection,
    names: &Names,
    group: &str,
    event_ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let insert = sql(names.fill(INSERT));
    let mut new = Vec::new();
    for event_id in event_ids {
        let insert = sqlx::query(insert.clone()).bind(group).bind(event_id);
        if insert.execute(&mut *connection).await?.rows_affected() == 1 {
            new.push(*event_id);
        }
    }
    Ok(new)
}

async fn any_queued(
    connection: &mut SqliteConnection,
    names: &Names,
    group: &str,
    topic: &str,
    keys: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let any = sql(names.fill(ANY_QUEUED));
    for key in keys {
        let any = sqlx::query_scalar(any.clone()).bind(group).bind(topic).bind(key);
        if any.fetch_one(&mut *connection).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

crate::store::inbox::statements::impl_inbox!(Sqlite, SqliteConnection);
