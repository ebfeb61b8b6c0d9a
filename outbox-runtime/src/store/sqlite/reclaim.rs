//! Space comes back: published rows are deleted, a few at a time.

use std::time::Duration;

use sqlx::SqlitePool;

use super::clock::{millis, unix_millis};
use crate::failpoint::failpoint;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};

/// Most rows that one transaction deletes: the business waits for it.
const DELETED_AT_ONCE: u32 = 1_000;
const DELETED_IN_A_RUN: u64 = 100_000;

/// At most a hundred marks within a retention, and one for each run.
const MARK_SEQUENCE: &str = "\
insert into {sequence_mark} (seq, at)
select last.seq, $1 from (select max(seq) as seq from {event}) last
where last.seq is not null and not exists (select 1 from {sequence_mark} where at > $1 - $2 / 100 and seq >= last.seq)
on conflict (seq) do nothing";

const FORGET_MARKS: &str =
    "delete from {sequence_mark} where seq < (select max(seq) from {sequence_mark} where at <= $1)";

const DELETE_PUBLISHED: &str = "\
delete from {event} where seq in (
  select e.seq from {event} e join {lane} l on l.lane = e.lane
  where e.seq <= l.last_seq and e.seq <= (select max(seq) from {sequence_mark} where at <= $1)
  order by e.seq limit $2)";

/// An event whose space was reclaimed cannot be replayed any more, so its discard is forgotten.
const FORGET_DISCARDED: &str = "delete from {discarded} where not exists (select 1 from {event} e where e.seq = {discarded}.seq)";

pub(super) async fn reclaim(
    pool: &SqlitePool,
    names: &Names,
    retention: Duration,
) -> Result<u64, StoreError> {
    let now = unix_millis();
    let old = now - millis(retention);
    sqlx::query(sql(names.fill(MARK_SEQUENCE)))
        .bind(now)
        .bind(millis(retention))
        .execute(pool)
        .await?;
    sqlx::query(sql(names.fill(FORGET_MARKS))).bind(old).execute(pool).await?;
    let mut events = 0;
    while events < DELETED_IN_A_RUN {
        let deleted = sqlx::query(sql(names.fill(DELETE_PUBLISHED)))
            .bind(old)
            .bind(DELETED_AT_ONCE)
            .execute(pool)
            .await?
            .rows_affected();
        if deleted > 0 {
            failpoint("after-reclaim");
        }
        events += deleted;
        if deleted < u64::from(DELETED_AT_ONCE) {
            break;
        }
    }
    if events > 0 {
        sqlx::query(sql(names.fill(FORGET_DISCARDED))).execute(pool).await?;
    }
    Ok(events)
}
