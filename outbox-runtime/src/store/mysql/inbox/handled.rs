//! Which events are handled.

use std::collections::HashSet;

use sqlx::{MySqlConnection, Row as _};
use uuid::Uuid;

use super::{hex, list};
use crate::store::Names;
use crate::store::error::StoreError;
use crate::store::mysql::statement;

const INSERT: &str =
    "insert into {inbox} (consumer_group, event_id, handled_at) values (?, ?, {now})";

/// Inserts the event, unless it is there. A duplicate waits for the transaction that has inserted
/// the first one. `insert ignore` would also truncate silently.
pub(super) async fn insert(
    connection: &mut MySqlConnection,
    names: &Names,
    group: &str,
    event_id: Uuid,
) -> Result<bool, StoreError> {
    let insert = sqlx::query(statement(names, INSERT)).bind(group).bind(event_id);
    is_new(insert.execute(connection).await)
}

/// Inserts those that are not there, and returns them. Mostly in one statement, which a duplicate
/// undoes: what is committed by then is left out of the next one.
pub(super) async fn insert_all(
    connection: &mut MySqlConnection,
    names: &Names,
    group: &str,
    mut new: Vec<Uuid>,
) -> Result<Vec<Uuid>, StoreError> {
    let hex_group = hex(group.as_bytes());
    while !new.is_empty() {
        let rows = list(&new, |id| format!("({hex_group}, {}, {{now}})", hex(id.as_bytes())));
        let insert =
            format!("insert into {{inbox}} (consumer_group, event_id, handled_at) values {rows}");
        if is_new(sqlx::raw_sql(statement(names, &insert)).execute(&mut *connection).await)? {
            break;
        }
        let known = format!(
            "select event_id from {{inbox}} where consumer_group = {hex_group} and event_id in ({})",
            list(&new, |id| hex(id.as_bytes()))
        );
        let known = sqlx::raw_sql(statement(names, &known)).fetch_all(&mut *connection).await?;
        let known = known.iter().map(|row| row.try_get("event_id"));
        let known = known.collect::<Result<HashSet<Uuid>, _>>()?;
        if known.is_empty() {
            // It was forgotten at this moment, or this transaction sees only what is older.
            return insert_one_by_one(connection, names, group, new).await;
        }
        new.retain(|id| !known.contains(id));
    }
    Ok(new)
}

async fn insert_one_by_one(
    connection: &mut MySqlConnection,
    names: &Names,
    group: &str,
    event_ids: Vec<Uuid>,
) -> Result<Vec<Uuid>, StoreError> {
    let mut new = Vec::new();
    for event_id in event_ids {
        if insert(connection, names, group, event_id).await? {
            new.push(event_id);
        }
    }
    Ok(new)
}

/// Whether a row was inserted, and not there before.
fn is_new<T>(inserted: Result<T, sqlx::Error>) -> Result<bool, StoreError> {
    match inserted {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
