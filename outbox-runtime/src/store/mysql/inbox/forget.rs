//! Forgets what was handled long ago.

use std::time::Duration;

use sqlx::MySqlConnection;
use uuid::Uuid;

use super::{AT_ONCE, list};
use crate::store::Names;
use crate::store::error::StoreError;
use crate::store::mysql::clock::micros;
use crate::store::mysql::lists::json;
use crate::store::mysql::statement;

/// By an index, and without locks. It is deleted by the primary key, so that no row of an event
/// that is being handled is locked, or waited for.
const OLD: &str = "\
select event_id from {inbox} force index (inbox_handled_at)
where consumer_group = ? and handled_at < {now} - ? order by handled_at limit ?";
pub(super) const FORGET: &str = "\
delete i from json_table(?, '$[*]' columns (id char(32) path '$')) old
straight_join {inbox} i force index (primary) on i.consumer_group = ? and i.event_id = unhex(old.id)
where i.handled_at < {now} - ?";
/// Rows in the state `kept` stay: their events are nowhere else.
const OLD_QUEUED: &str = "\
select place from {key_queue}
where consumer_group = ? and since < {now} - ? and state <> 'kept' limit ?";
const FORGET_QUEUED: &str = "\
delete q from json_table(?, '$[*]' columns (place bigint path '$')) old
straight_join {key_queue} q force index (primary) on q.place = old.place
where q.since < {now} - ? and q.state <> 'kept'";

/// Forgets up to `most` events that the group handled longer ago than `retention`. Returns how many.
pub(super) async fn handled(
    connection: &mut MySqlConnection,
    names: &Names,
    group: &str,
    retention: Duration,
    most: u32,
) -> Result<u64, StoreError> {
    let old = sqlx::query_scalar(statement(names, OLD)).persistent(false);
    let old = old.bind(group).bind(micros(retention)).bind(most);
    let old: Vec<Uuid> = old.fetch_all(&mut *connection).await?;
    if old.is_empty() {
        return Ok(0);
    }
    let forget = sqlx::query(statement(names, FORGET)).persistent(false);
    let forget = forget.bind(json_of(&old)).bind(group).bind(micros(retention));
    Ok(forget.execute(connection).await?.rows_affected())
}

pub(super) fn json_of(ids: &[Uuid]) -> String {
    format!("[{}]", list(ids, |id| format!("\"{}\"", id.simple())))
}

/// Forgets all that are noted as being in a retry topic for longer.
pub(super) async fn queued(
    connection: &mut MySqlConnection,
    names: &Names,
    group: &str,
    retention: Duration,
) -> Result<(), StoreError> {
    loop {
        let old = sqlx::query_scalar(statement(names, OLD_QUEUED)).persistent(false);
        let old = old.bind(group).bind(micros(retention)).bind(AT_ONCE as u64);
        let old: Vec<i64> = old.fetch_all(&mut *connection).await?;
        if old.is_empty() {
            return Ok(());
        }
        let forget = sqlx::query(statement(names, FORGET_QUEUED)).persistent(false);
        forget.bind(json(&old)).bind(micros(retention)).execute(&mut *connection).await?;
        if old.len() < AT_ONCE {
            return Ok(());
        }
    }
}
