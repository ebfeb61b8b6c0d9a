//! What an operator asks.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::clock::unix_micros;
use super::reclaim;
use crate::record::Lane;
use crate::store::admin::Replay;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::sealed::Admin;

/// If an event is retained several times, because it was replayed before, the first copy.
const TO_REPLAY: &str = "\
select e.lane, min(e.seq) as seq from {event} e join {lane} l on l.lane = e.lane
where e.seq <= l.last_seq
  and ($1 is null or e.id = $1) and ($2 is null or e.topic = $2)
  and ($3 is null or e.occurred_at >= $3) and ($4 is null or e.occurred_at < $4)
  and ($5 is null or e.key = $5) and ($6 is null or e.lane = $6) and ($7 is null or e.name = $7)
  and e.seq > $8
  and not exists (select 1 from {parked} p where p.id = e.id)
  and ($1 is not null or not exists (select 1 from {discarded} d where d.id = e.id))
group by e.id order by seq limit $9";

/// The copy is marked by a header, once: consumers then know that it does not come for the first
/// time. `char(123)` and `char(125)` are braces, which would name an object of ours here.
const REPLAY: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type,
       case when substr(e.headers, 1, 18) = char(123) || '\"outbox-replayed\"' then e.headers
            when e.headers = char(123, 125) then char(123) || '\"outbox-replayed\":\"1\"' || char(125)
            when substr(e.headers, 1, 2) = char(123) || '\"'
              then char(123) || '\"outbox-replayed\":\"1\",' || substr(e.headers, 2)
            else e.headers end,
       e.payload, e.occurred_at, e.kafka_partition
from {event} e where not exists (select 1 from {parked} p where p.id = e.id) and ";

const TAKE_BACK: &str =
    "delete from {discarded} where id = (select id from {event} where seq = $1)";

/// `sqlite_sequence` has a row for each table that was ever inserted into.
const OTHERS_IF_UNUSED: &str = "\
select substr(name, 1, length(name) - length('event')) from sqlite_master e
where type = 'table' and name like '%event' and name <> $1 || 'event'
  and exists (
    select 1 from sqlite_master l
    where l.type = 'table' and l.name = substr(e.name, 1, length(e.name) - length('event')) || 'lane')
  and not exists (select 1 from sqlite_sequence where name = $1 || 'event')
order by name
limit 10";

impl Admin for Sqlite {
    /// The user's own pool: an in-memory database cannot be reached in another way.
    fn own_pool(pool: &SqlitePool) -> SqlitePool {
        pool.clone()
    }

    fn follow(_: &SqlitePool, _: &SqlitePool) {}

    async fn reclaim(
        pool: &SqlitePool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn others_if_unused(pool: &SqlitePool, names: &Names) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(sql(OTHERS_IF_UNUSED)).bind(&names.prefix).fetch_all(pool).await?)
    }

    async fn replay(pool: &SqlitePool, names: &Names, which: &Replay) -> Result<u64, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let replayed = match which.ids {
            Some(_) => {
                let rows = to_replay(&mut tx, names, which, i64::MAX).await?;
                copy(&mut tx, names, &rows).await?
            }
            None => {
                let meant =
                    format!("{REPLAY} e.seq in (select seq from ({TO_REPLAY})) order by e.seq");
                let copy =
                    meaning(sqlx::query(sql(names.fill(&meant))), None, which).bind(i64::MAX);
                copy.execute(&mut *tx).await?.rows_affected()
            }
        };
        tx.commit().await?;
        Ok(replayed)
    }

    async fn to_replay(
        pool: &SqlitePool,
        names: &Names,
        which: &Replay,
        limit: u32,
    ) -> Result<Vec<(Lane, i64)>, StoreError> {
        Ok(to_replay(&mut *pool.acquire().await?, names, which, i64::from(limit)).await?)
    }

    async fn replay_rows(
        pool: &SqlitePool,
        names: &Names,
        rows: &[(Lane, i64)],
    ) -> Result<u64, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let replayed = copy(&mut tx, names, rows).await?;
        tx.commit().await?;
        Ok(replayed)
    }
}

/// One statement for each id, if there are any: SQLite has no arrays.
async fn to_replay(
    connection: &mut SqliteConnection,
    names: &Names,
    which: &Replay,
    limit: i64,
) -> Result<Vec<(Lane, i64)>, sqlx::Error> {
    let ids: Vec<Option<Uuid>> = match &which.ids {
        None => vec![None],
        Some(ids) => ids.iter().copied().map(Some).collect(),
    };
    let mut rows = BTreeMap::new();
    for id in ids {
        let found = meaning(sqlx::query(sql(names.fill(TO_REPLAY))), id, which).bind(limit);
        for row in found.fetch_all(&mut *connection).await? {
            rows.insert(row.try_get("seq")?, Lane::from_number(row.try_get("lane")?));
        }
    }
    let rows = rows.into_iter().map(|(seq, lane): (i64, Lane)| (lane, seq));
    Ok(rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// A statement whose first parameters are those of [`TO_REPLAY`].
fn meaning<'q>(
    statement: Query<'q, Sqlite, SqliteArguments>,
    id: Option<Uuid>,
    which: &'q Replay,
) -> Query<'q, Sqlite, SqliteArguments> {
    statement
        .bind(id)
        .bind(which.topic.as_deref())
        .bind(which.from.map(unix_micros))
        .bind(which.until.map(unix_micros))
        .bind(which.key.as_deref())
        .bind(which.lane())
        .bind(which.name.as_deref())
        .bind(which.after)
}

/// Returns how many of the rows were copied: the others are parked or gone.
async fn copy(
    connection: &mut SqliteConnection,
    names: &Names,
    rows: &[(Lane, i64)],
) -> Result<u64, sqlx::Error> {
    let mut copied = 0;
    for (_, seq) in rows {
        let copy = sqlx::query(sql(names.fill(&format!("{REPLAY} e.seq = $1")))).bind(seq);
        copied += copy.execute(&mut *connection).await?.rows_affected();
        sqlx::query(sql(names.fill(TAKE_BACK))).bind(seq).execute(&mut *connection).await?;
    }
    Ok(copied)
}
