//! What an operator asks.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::clock::unix_micros;
use super::reclaim;
use crate::store::admin::Replay;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::sealed::Admin;

/// If an event is retained several times, because it was replayed before, the first copy.
const TO_REPLAY: &str = "\
select min(e.seq) from {event} e join {lane} l on l.lane = e.lane
where e.seq <= l.last_seq
  and ($1 is null or e.id = $1) and ($2 is null or e.topic = $2)
  and ($3 is null or e.occurred_at >= $3) and ($4 is null or e.occurred_at < $4)
  and not exists (select 1 from {parked} p where p.id = e.id)
  and ($1 is not null or not exists (select 1 from {discarded} d where d.id = e.id))
group by e.id";

const REPLAY: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition
from {event} e where e.seq in ";

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
        let replayed = match &which.ids {
            Some(ids) => replay_ids(&mut tx, names, which, ids).await?,
            None => {
                let statement = names.fill(&format!("{REPLAY} ({TO_REPLAY}) order by e.seq"));
                sqlx::query(sql(statement))
                    .bind(None::<Uuid>)
                    .bind(which.topic.as_deref())
                    .bind(which.from.map(unix_micros))
                    .bind(which.until.map(unix_micros))
                    .execute(&mut *tx)
                    .await?
                    .rows_affected()
            }
        };
        tx.commit().await?;
        Ok(replayed)
    }
}

/// One statement for each id: SQLite has no arrays.
async fn replay_ids(
    connection: &mut SqliteConnection,
    names: &Names,
    which: &Replay,
    ids: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let mut seqs = BTreeSet::new();
    for id in ids {
        let found: Option<i64> = sqlx::query_scalar(sql(names.fill(TO_REPLAY)))
            .bind(id)
            .bind(which.topic.as_deref())
            .bind(which.from.map(unix_micros))
            .bind(which.until.map(unix_micros))
            .fetch_optional(&mut *connection)
            .await?;
        seqs.extend(found);
    }
    for seq in &seqs {
        let copy = names.fill(&format!("{REPLAY} ($1)"));
        sqlx::query(sql(copy)).bind(seq).execute(&mut *connection).await?;
        sqlx::query(sql(names.fill(TAKE_BACK))).bind(seq).execute(&mut *connection).await?;
    }
    Ok(seqs.len() as u64)
}
