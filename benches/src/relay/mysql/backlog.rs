//! A backlog. Who publishes it deletes it, so that each contender has its own, for one drain.

use std::time::{Duration, Instant};

use outbox::Outbox;
use sqlx::{Executor, MySql};

use super::{bare, open};
use crate::{Failure, drain};

const COPIED_AT_ONCE: i64 = 10_000;
/// A server that does nothing for this long leaves the rest until there is more to do.
const QUIET_AFTER: Duration = Duration::from_secs(5);
/// After ten million events.
const QUIET_WITHIN: Duration = Duration::from_secs(1200);

/// An empty database with the outbox's tables, and a backlog in them.
pub(super) async fn fill_outbox(events: u64) -> Result<Outbox<MySql>, Failure> {
    let old = open(1).await?;
    old.pool().execute("drop database outbox; create database outbox").await?;
    old.pool().close().await;
    let outbox = open(2).await?;
    outbox.migrate().await?;
    drain::emit_all(&outbox, events, drain::emit).await?;
    Ok(outbox)
}

/// The same in the table of the loop by hand, too.
pub(super) async fn fill(events: u64) -> Result<(), Failure> {
    let outbox = fill_outbox(events).await?;
    bare::create_tables(&outbox).await?;
    let last: Option<i64> =
        sqlx::query_scalar("select max(seq) from outbox_event").fetch_one(outbox.pool()).await?;
    for first in (0..=last.unwrap_or(0)).step_by(COPIED_AT_ONCE as usize) {
        sqlx::query(
            "insert into bare_event
             select seq, id, topic, event_key, name, version, content_type, headers, payload,
                    from_unixtime(occurred_at / 1000000)
             from outbox_event where seq > ? and seq <= ? order by seq",
        )
        .bind(first)
        .bind(first + COPIED_AT_ONCE)
        .execute(outbox.pool())
        .await?;
    }
    outbox.pool().execute("analyze table outbox_event, bare_event").await?;
    settled(&outbox).await
}

/// Waits until the rows that were deleted are removed, and all that was written is in the tables'
/// files: what the server does in the background for one contender is no burden of the next.
pub(super) async fn settled(outbox: &Outbox<MySql>) -> Result<(), Failure> {
    let pool = outbox.pool();
    until_quiet(outbox, "trx_rseg_history_len", 100).await?;
    let usual: f64 =
        sqlx::query_scalar("select @@innodb_max_dirty_pages_pct + 0e0").fetch_one(pool).await?;
    pool.execute("set global innodb_max_dirty_pages_pct = 0").await?;
    let flushed = until_quiet(outbox, "buffer_pool_pages_dirty", 200).await;
    sqlx::query("set global innodb_max_dirty_pages_pct = ?").bind(usual).execute(pool).await?;
    flushed
}

/// Waits until one of the server's counters is no higher than `most`, or falls no more. An error if
/// it still falls after [`QUIET_WITHIN`].
async fn until_quiet(outbox: &Outbox<MySql>, counter: &str, most: i64) -> Result<(), Failure> {
    let begin = Instant::now();
    let (mut lowest, mut since) = (i64::MAX, begin);
    while begin.elapsed() < QUIET_WITHIN {
        let query = "select cast(max(count) as signed) from information_schema.innodb_metrics where name = ?";
        let count: i64 = sqlx::query_scalar(query).bind(counter).fetch_one(outbox.pool()).await?;
        if count < lowest {
            (lowest, since) = (count, Instant::now());
        }
        if count <= most || since.elapsed() > QUIET_AFTER {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("the server is not quiet after {QUIET_WITHIN:?}: {counter} is {lowest}").into())
}
