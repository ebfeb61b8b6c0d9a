//! Space comes back: retained rows are deleted, a few at a time. The table of events has none that
//! are published.
//!
//! What is deleted is kept by the server as long as any transaction may see it. While one is open
//! for long, each look at the oldest rows passes over all that were deleted since. So a run looks at
//! the rows behind those that it has deleted, and not from the start again.

use std::time::Duration;

use sqlx::MySqlPool;

use super::clock::micros;
use super::lists::json;
use super::{connection, statement};
use crate::failpoint::failpoint;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::row::row;

/// Most rows that one transaction deletes.
const DELETED_AT_ONCE: u32 = 1_000;
const DELETED_IN_A_RUN: u64 = 100_000;

/// The time before which what was published is old.
const OLD: &str = "select {now} - ?";

const OLD_SENT: &str = "\
select e.seq, e.sent_at from {sent} e
where e.sent_at <= ? and (e.sent_at > ? or e.sent_at = ? and e.seq > ?)
order by e.sent_at, e.seq limit ?";

/// By the list: with `in (…)`, the table may be scanned.
const DELETE_SENT: &str = "\
delete e from json_table(?, '$[*]' columns (s bigint path '$')) x
straight_join {sent} e force index (primary) on e.seq = x.s";

/// An event whose space was reclaimed cannot be replayed any more, so its discard is forgotten.
const OLD_DISCARDED: &str = "\
select d.seq from {discarded} d
where d.at <= ? and not exists (select 1 from {sent} e where e.seq = d.seq) order by d.seq limit ?";

const DELETE_DISCARDED: &str = "\
delete d from json_table(?, '$[*]' columns (s bigint path '$')) x
straight_join {discarded} d force index (primary) on d.seq = x.s";

row! {
    struct SentRow {
        seq: i64,
        sent_at: i64,
    }
}

pub(super) async fn reclaim(
    pool: &MySqlPool,
    names: &Names,
    retention: Duration,
) -> Result<u64, StoreError> {
    let old: i64 =
        sqlx::query_scalar(statement(names, OLD)).bind(micros(retention)).fetch_one(pool).await?;
    let (mut events, mut seen) = (0, 0);
    let mut last = SentRow { seq: 0, sent_at: i64::MIN };
    while seen < DELETED_IN_A_RUN {
        let mut tx = connection::begin(pool).await?;
        let rows: Vec<SentRow> = sqlx::query_as(statement(names, OLD_SENT))
            .bind(old)
            .bind(last.sent_at)
            .bind(last.sent_at)
            .bind(last.seq)
            .bind(DELETED_AT_ONCE)
            .fetch_all(&mut *tx)
            .await?;
        let found = rows.len();
        let numbers: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        match rows.into_iter().next_back() {
            Some(row) => last = row,
            None => {
                tx.rollback().await?;
                break;
            }
        }
        let delete = sqlx::query(statement(names, DELETE_SENT)).bind(json(&numbers));
        let deleted = delete.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        failpoint("after-reclaim");
        events += deleted;
        seen += found as u64;
        if found < DELETED_AT_ONCE as usize {
            break;
        }
    }
    if events > 0 {
        forget_discarded(pool, names, old).await?;
    }
    Ok(events)
}

async fn forget_discarded(pool: &MySqlPool, names: &Names, old: i64) -> Result<(), StoreError> {
    for _ in 0..DELETED_IN_A_RUN / u64::from(DELETED_AT_ONCE) {
        let mut tx = connection::begin(pool).await?;
        let numbers: Vec<i64> = sqlx::query_scalar(statement(names, OLD_DISCARDED))
            .bind(old)
            .bind(DELETED_AT_ONCE)
            .fetch_all(&mut *tx)
            .await?;
        if numbers.is_empty() {
            tx.rollback().await?;
            break;
        }
        let delete = sqlx::query(statement(names, DELETE_DISCARDED)).bind(json(&numbers));
        delete.execute(&mut *tx).await?;
        tx.commit().await?;
        if numbers.len() < DELETED_AT_ONCE as usize {
            break;
        }
    }
    Ok(())
}
