//! A consumer group among others that have their rows in the same inbox.

use std::time::{Duration, Instant};

use outbox_bench_report::HandledAmong;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{Failure, consume, outbox};

/// A group's rows, in the order of its events' ids, which begin with their time.
const INSERT: &str = "\
insert into outbox_inbox (consumer_group, event_id, handled_at)
select $1 || g, overlay(gen_random_uuid()::text placing
         regexp_replace(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0'), '(.{8})', '\\1-') from 1 for 13)::uuid,
       at
from generate_series($2::bigint, $3::bigint) g,
     lateral (select now() - interval '30 days' + n * interval '10 milliseconds' as at
              from generate_series(1, $4::bigint) n) rows";

/// Adds the groups from `from` to `to`, with `rows` rows each. The indexes are made anew: row by
/// row, most of the time would be theirs.
pub(crate) async fn fill(from: u64, to: u64, rows: u64) -> Result<(), Failure> {
    let outbox = outbox(1).await?;
    let pool = outbox.pool();
    pool.execute(
        "alter table outbox_inbox drop constraint outbox_inbox_pkey; drop index outbox_inbox_handled_at",
    )
    .await?;
    sqlx::query(INSERT)
        .bind("group-")
        .bind(from.cast_signed())
        .bind(to.cast_signed() - 1)
        .bind(rows.cast_signed())
        .execute(pool)
        .await?;
    pool.execute(
        "alter table outbox_inbox add primary key (consumer_group, event_id);
         create index outbox_inbox_handled_at on outbox_inbox (consumer_group, handled_at)",
    )
    .await?;
    pool.execute("vacuum analyze outbox_inbox").await?;
    pool.execute("checkpoint").await?;
    Ok(())
}

/// Handles the events of the topic by a new group that has handled `rows` others long ago, and then
/// forgets those.
pub(crate) async fn handle(
    concurrency: u32,
    events: u64,
    rows: u64,
) -> Result<HandledAmong, Failure> {
    let outbox = outbox(concurrency + 1).await?;
    let group = format!("group-{}-", Uuid::now_v7());
    let insert = sqlx::query(INSERT).bind(&group).bind(0_i64).bind(0_i64).bind(rows.cast_signed());
    insert.execute(outbox.pool()).await?;
    let group = format!("{group}0");
    let handled = consume::handle(outbox.clone(), group.clone(), events, concurrency, 1).await?;
    let begin = Instant::now();
    let forgotten = outbox.forget_handled(&group, Duration::from_secs(24 * 3600)).await?;
    let seconds = begin.elapsed().as_secs_f64();
    if forgotten != rows {
        return Err(format!("{forgotten} events of {rows} were forgotten").into());
    }
    Ok(HandledAmong { rate: handled.rate, forgotten: forgotten as f64 / seconds })
}
