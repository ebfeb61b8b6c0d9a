//! Gives back the space of progress, signs of life and sequence marks: only the latest rows of each
//! table count.
//!
//! The table is locked, its latest rows are kept aside, it is truncated, and they are put back, in
//! one transaction. A statement that waited for the lock reads by a snapshot taken after it, since
//! Postgres takes the locks of a statement before its snapshot. An older snapshot (of a transaction
//! that is not READ COMMITTED, and we have none) finds no rows: see `{cursors}`.
//!
//! A lock that is held on these tables for long, as by `pg_dump`, only means that they grow until
//! it is released: about 150 bytes for each lane whose progress is saved, at most 20 times a
//! second. Reading stays as fast.

use std::time::Duration;

use sqlx::{Executor, PgPool, SqlStr};

use super::connection;
use super::fragments::fill;
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::store::databases::fault_of;
use crate::store::error::StoreError;
use crate::store::fault::Fault;
use crate::store::names::Names;

/// Size in bytes above which a table is truncated: about 5 minutes of a relay that is busy in all
/// lanes.
pub(super) const LARGE: i64 = 16 * 1024 * 1024;

/// A table, and the rows of it that count.
const TABLES: [(&str, &str); 4] = [
    (
        "{progress}",
        "select latest.row from generate_series(0, 15) as lanes (lane)
         cross join lateral (
           select p::text as row from {progress} p where p.lane = lanes.lane order by p.id desc limit 1) latest",
    ),
    (
        "{heartbeat}",
        "select latest.row from {relay} r
         cross join lateral (
           select h::text as row from {heartbeat} h where h.owner = r.owner order by h.id desc limit 1) latest",
    ),
    (
        "{witness}",
        "select latest.row from (select claim from {group} union all select unnest(earlier) from {group}) c
         cross join lateral (
           select w::text as row from {witness} w where w.claim = c.claim order by w.id desc limit 1) latest",
    ),
    (
        "{sequence_mark}",
        "select m::text from {sequence_mark} m
         where m.seq >= coalesce((
           select max(seq) from {sequence_mark} where at <= clock_timestamp() - {retention} * interval '1 millisecond'), 0)",
    ),
];

/// Truncates those of the tables that have more bytes than `large`. `retention`: of the events.
pub(super) async fn compact(
    pool: &PgPool,
    names: &Names,
    retention: Duration,
    large: i64,
) -> Result<(), StoreError> {
    let retention = retention.as_millis().to_string();
    for (table, latest) in TABLES {
        let literal = table.replacen('{', "{'", 1).replacen('}', "'}", 1);
        let fill = |statement: &str| {
            let statement = statement.replace("{table}", table).replace("{'table'}", &literal);
            fill(names, &statement.replace("{retention}", &retention))
        };
        match compact_table(pool, fill, latest, large).await {
            Err(error) if fault_of(&error) == Fault::LockTimeout => tracing::debug!(
                target: target::STORE,
                table = names.fill(table),
                "not truncated: another session has a lock on it"
            ),
            compacted => compacted?,
        }
    }
    Ok(())
}

/// `fill` makes statements for the table, and `latest` selects the rows of it that count.
async fn compact_table(
    pool: &PgPool,
    fill: impl Fn(&str) -> SqlStr,
    latest: &str,
    large: i64,
) -> Result<(), sqlx::Error> {
    let mut tx = connection::begin(pool).await?;
    let bytes: i64 = sqlx::query_scalar(fill("select pg_relation_size({'table'}::regclass)"))
        .fetch_one(&mut *tx)
        .await?;
    if bytes <= large {
        return tx.rollback().await;
    }
    tx.execute(connection::BY_INDEX).await?;
    // Without waiting: while we waited, no relay could save.
    tx.execute(fill("lock table {table} in access exclusive mode nowait")).await?;
    let latest: Vec<String> = sqlx::query_scalar(fill(latest)).fetch_all(&mut *tx).await?;
    tx.execute(fill("truncate table {table}")).await?;
    failpoint("while-compacting");
    sqlx::query(fill(
        "insert into {table} select (latest::{table}).* from unnest($1::text[]) as latest",
    ))
    .bind(&latest)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
