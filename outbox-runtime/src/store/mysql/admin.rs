//! What an operator asks.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{MySql, MySqlPool};

use super::counter::last_drawn;
use super::{connection, reclaim, replay};
use crate::record::Lane;
use crate::store::admin::Replay;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::row::row;
use crate::store::sealed::Admin;

/// Tables of all databases of the server that this user sees. The name of the type is that of their
/// columns on all servers.
const TABLES: &str = "\
select convert(t.table_schema using utf8mb4) as in_schema, convert(t.table_name using utf8mb4) as named,
       coalesce(t.table_schema = database(), false) as is_current
from information_schema.tables t
where t.table_name like '%event' or t.table_name like '%lane'
limit 10000";

/// Most other outboxes that are told.
const MOST_OTHERS: usize = 10;

row! {
    /// A table, and the database that it is in.
    struct TableRow {
        in_schema: String,
        named: String,
        is_current: bool,
    }
}

impl Admin for MySql {
    fn own_pool(pool: &MySqlPool) -> MySqlPool {
        connection::own_pool(pool)
    }

    fn follow(own: &MySqlPool, pool: &MySqlPool) {
        connection::follow(own, pool);
    }

    async fn reclaim(
        pool: &MySqlPool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn others_if_unused(pool: &MySqlPool, names: &Names) -> Result<Vec<String>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let mut tables: Vec<TableRow> = Vec::new();
        if last_drawn(&mut tx, names).await? == 0 {
            tables = sqlx::query_as(sql(TABLES)).fetch_all(&mut *tx).await?;
        }
        tx.rollback().await?;
        Ok(others(names, &tables))
    }

    async fn replay(pool: &MySqlPool, names: &Names, which: &Replay) -> Result<u64, StoreError> {
        replay::replay(pool, names, which).await
    }

    async fn to_replay(
        pool: &MySqlPool,
        names: &Names,
        which: &Replay,
        limit: u32,
    ) -> Result<Vec<(Lane, i64)>, StoreError> {
        replay::to_replay(pool, names, which, limit).await
    }

    async fn replay_rows(
        pool: &MySqlPool,
        names: &Names,
        rows: &[(Lane, i64)],
    ) -> Result<u64, StoreError> {
        replay::replay_rows(pool, names, rows).await
    }
}

/// The other outboxes among tables: each has a table of events and one of lanes.
fn others(names: &Names, tables: &[TableRow]) -> Vec<String> {
    let known: BTreeSet<(&str, &str)> =
        tables.iter().map(|table| (&*table.in_schema, &*table.named)).collect();
    let is_ours = |table: &TableRow, prefix: &str| {
        let is_here = match &names.schema {
            Some(schema) => *schema == table.in_schema,
            None => table.is_current,
        };
        is_here && prefix == names.prefix
    };
    let other = |table: &TableRow| {
        let prefix = table.named.strip_suffix("event")?;
        let lanes = format!("{prefix}lane");
        let is_other = known.contains(&(&*table.in_schema, &*lanes)) && !is_ours(table, prefix);
        is_other.then(|| (!table.is_current, format!("{}.{prefix}", table.in_schema)))
    };
    // Those of this database first: a mistyped prefix is likelier than another database.
    let others: BTreeSet<(bool, String)> = tables.iter().filter_map(other).collect();
    others.into_iter().take(MOST_OTHERS).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_outbox_has_events_and_lanes_and_is_not_this_one() {
        let table = |in_schema: &str, named: &str| TableRow {
            in_schema: in_schema.to_owned(),
            named: named.to_owned(),
            is_current: in_schema == "shop",
        };
        let tables = [
            table("shop", "outbox_event"),
            table("shop", "outbox_lane"),
            table("shop", "calendar_event"),
            table("shop", "b_event"),
            table("shop", "b_lane"),
            table("other", "outbox_event"),
            table("other", "outbox_lane"),
        ];
        let here = Names { quote: '`', ..Names::default() };
        assert_eq!(others(&here, &tables), ["shop.b_", "other.outbox_"]);
        let there = Names { schema: Some("other".to_owned()), ..here };
        assert_eq!(others(&there, &tables), ["shop.b_", "shop.outbox_"]);
    }
}
