//! Reclaims space by TRUNCATE of the leaves of the ring: no row is deleted, nothing is left to
//! vacuum.
//!
//! A leaf holds the events of a block of 2^20 numbers, and is free when every lane has published
//! all of it. Its lock is not granted while a transaction that has inserted into it is open (or
//! prepared), since that transaction holds a lock itself. A transaction that has drawn its number
//! but not inserted yet finds an empty leaf, and its row is read later like every straggler. The
//! business inserts into the leaf of the current block, and soon into the next one: these two are
//! never locked.

use std::time::Duration;

use sqlx::{Executor, PgPool};

use super::fragments::fill;
use super::lanes::{BLOCK_BITS, LEAVES};
use super::{compact, connection};
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::store::databases::fault_of;
use crate::store::error::StoreError;
use crate::store::fault::Fault;
use crate::store::names::Names;
use crate::store::row::row;

/// Free leaves ahead of the current one. With fewer, the retention no longer counts.
const KEPT_FREE: i64 = 2;

/// At most a hundred marks within a retention, and one for each run.
const MARK_SEQUENCE: &str = "\
insert into {sequence_mark} (seq)
select last_value from {sequence}
where last_value is not null
  and not exists (select from {sequence_mark} where at > clock_timestamp() - $1 * interval '1 millisecond' / 100 and seq >= last_value)
on conflict (seq) do nothing";

const HOW_FAR: &str = "\
select coalesce(last_value, 0) as last,
       coalesce((select max(seq) from {sequence_mark} where at <= clock_timestamp() - $1 * interval '1 millisecond'), 0) as old
from {sequence}";

/// Rows of a leaf that some lane has not published, by the two ways in which a window's rows are
/// found (see `window.rs`). All rows of a window that is partly read count as pending, and so do
/// all rows of a lane without progress.
const PENDING: &str = "\
select exists (
  select from generate_series(0, 15) as lanes (lane)
  left join {cursors} l on l.lane = lanes.lane
  where l.lane is null or exists (
    (select from {leaf} e where e.lane = l.lane and e.seq > l.prev_floor order by e.seq limit 1)
    union all
    (select from {unfinished} cross join lateral (
       select from {leaf} e
       where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane and e.seq <= l.prev_floor
       order by e.xid limit 1) e)))";

/// How many numbers lie between the first and the last event of a leaf: about how many events it
/// has, found by its index. A count would read all of it.
const SPAN: &str = "\
select coalesce(max(edge.seq) - min(edge.seq) + 1, 0)
from {lane} l
cross join lateral (
  (select e.seq from {leaf} e where e.lane = l.lane order by e.seq limit 1)
  union all
  (select e.seq from {leaf} e where e.lane = l.lane order by e.seq desc limit 1)) edge";

/// An event whose space was reclaimed cannot be replayed any more, so its discard is forgotten.
const FORGET_DISCARDED: &str = "delete from {discarded} where ((seq >> 20) & 15) = $1";

/// One relay at a time: two relays that have both read a leaf and then request its lock would
/// deadlock.
const OUR_TURN: &str = "select pg_try_advisory_xact_lock(hashtextextended('outbox reclaim ' || {'event'}::regclass::oid, 0))";

pub(super) async fn reclaim(
    pool: &PgPool,
    names: &Names,
    retention: Duration,
) -> Result<u64, StoreError> {
    compact::compact(pool, names, retention, compact::LARGE).await?;
    let Leaves { last, old } = note_how_far(pool, names, retention).await?;
    let mut events = 0;
    for leaf in leaves_to_reclaim(last, old) {
        match reclaim_leaf(pool, names, leaf).await {
            Ok(of_leaf) => events += of_leaf,
            // Another relay reads or reclaims, or a long query runs: next time.
            Err(error) if is_in_the_way(&error) => {
                tracing::debug!(target: target::STORE, %error, leaf, "leaf not reclaimed now")
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(events)
}

row! {
    struct Leaves {
        /// The last number drawn.
        last: i64,
        /// The last number that was drawn longer ago than the retention.
        old: i64,
    }
}

async fn note_how_far(
    pool: &PgPool,
    names: &Names,
    retention: Duration,
) -> Result<Leaves, sqlx::Error> {
    let millis = retention.as_millis() as f64;
    let mut tx = connection::begin(pool).await?;
    sqlx::query(fill(names, MARK_SEQUENCE)).bind(millis).execute(&mut *tx).await?;
    let leaves = sqlx::query_as(fill(names, HOW_FAR)).bind(millis).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(leaves)
}

/// Returns about how many events the leaf had, or 0 if it was not truncated.
async fn reclaim_leaf(pool: &PgPool, names: &Names, leaf: i64) -> Result<u64, sqlx::Error> {
    let fill =
        |statement: &str| fill(names, &statement.replace("{leaf}", &format!("{{event_{leaf}}}")));
    // Explicitly `READ COMMITTED`: the statements below must see all that was committed before the
    // lock was granted.
    let mut tx = connection::begin(pool).await?;
    tx.execute(connection::BY_INDEX).await?;
    let in_leaf = if sqlx::query_scalar(fill(OUR_TURN)).fetch_one(&mut *tx).await?
        && !sqlx::query_scalar(fill(PENDING)).fetch_one(&mut *tx).await?
    {
        sqlx::query_scalar::<_, i64>(fill(SPAN)).fetch_one(&mut *tx).await?
    } else {
        0
    };
    if in_leaf == 0 {
        tx.rollback().await?;
        return Ok(0);
    }
    // A statement that comes after us waits no longer than this.
    tx.execute("set local lock_timeout = '100ms'").await?;
    tx.execute(fill("lock table {leaf} in access exclusive mode")).await?;
    // Again, now that nothing can be added: in a new statement, which sees all that was.
    if sqlx::query_scalar(fill(PENDING)).fetch_one(&mut *tx).await? {
        tx.rollback().await?;
        return Ok(0);
    }
    tx.execute(fill("truncate {leaf}")).await?;
    sqlx::query(fill(FORGET_DISCARDED)).bind(leaf).execute(&mut *tx).await?;
    failpoint("in-reclaim");
    tx.commit().await?;
    failpoint("after-reclaim");
    Ok(in_leaf.unsigned_abs())
}

fn is_in_the_way(error: &sqlx::Error) -> bool {
    let fault = fault_of(error);
    fault == Fault::LockTimeout || fault.is_conflict()
}

/// The leaves whose events are all older than the number `old`, or that are needed soon; the oldest
/// first.
fn leaves_to_reclaim(last: i64, old: i64) -> Vec<i64> {
    let current = last >> BLOCK_BITS;
    let first = (current - (LEAVES - KEPT_FREE)).max(0);
    (first..current)
        .filter(|block| {
            let is_old = (block + 1) << BLOCK_BITS <= old + 1;
            let is_needed = *block <= current - (LEAVES - 1 - KEPT_FREE);
            is_old || is_needed
        })
        .map(|block| block & (LEAVES - 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i64 = 1 << BLOCK_BITS;

    #[test]
    fn leaves_that_the_business_inserts_into_now_or_next_are_never_reclaimed() {
        for current in 0..40 {
            for leaf in leaves_to_reclaim(current * BLOCK + 5, i64::MAX - 1) {
                assert!(
                    leaf != current % LEAVES && leaf != (current + 1) % LEAVES,
                    "block {current}: {leaf}"
                );
            }
        }
        assert_eq!(leaves_to_reclaim(3 * BLOCK + 5, 3 * BLOCK + 5), [0, 1, 2]);
    }

    #[test]
    fn what_is_younger_than_the_retention_stays_until_the_ring_is_full() {
        assert_eq!(leaves_to_reclaim(3 * BLOCK + 5, 0), [] as [i64; 0]);
        assert_eq!(leaves_to_reclaim(3 * BLOCK + 5, 2 * BLOCK - 2), [0]);
        assert_eq!(leaves_to_reclaim(3 * BLOCK + 5, 2 * BLOCK - 1), [0, 1]);
        assert_eq!(leaves_to_reclaim(14 * BLOCK, 0), [0, 1]);
        assert_eq!(leaves_to_reclaim(30 * BLOCK, 0), [0, 1], "blocks 16 and 17");
    }
}
