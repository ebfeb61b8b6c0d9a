//! The inbox.

use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection};

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

crate::store::inbox::impl_inbox!(Sqlite, SqliteConnection);
