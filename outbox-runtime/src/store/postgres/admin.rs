//! What an operator asks.

use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow as _, PgPool, Postgres, Row as _, SqlStr};

use super::fragments::fill;
use super::{connection, reclaim, unnamed};
use crate::record::Lane;
use crate::store::admin::Replay;
use crate::store::begun::Begun;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::sealed::Admin;
use crate::store::tx_options::{Isolation, TxOptions};

/// If an event is retained several times, because it was replayed before, the first copy.
const ONCE: &str = "\
select distinct on (e.id) e.lane, e.seq
from {event} e join {cursors} l on l.lane = e.lane
where pg_visible_in_snapshot(e.xid, l.prev)
  and ($1::uuid[] is null or e.id = any ($1)) and ($2::text is null or e.topic = $2)
  and ($3::timestamptz is null or e.occurred_at >= $3) and ($4::timestamptz is null or e.occurred_at < $4)
  and ($5::bytea is null or e.key = $5) and ($6::smallint is null or e.lane = $6)
  and ($7::text is null or e.name = $7) and ($8::bigint = 0 or e.seq > $8)
  and not exists (select from {parked} p where p.id = e.id)
  and ($1 is not null or not exists (select from {discarded} d where d.id = e.id))
order by e.id, e.seq";

/// Copies the rows `once`. The new ones are above all others, so they are not found again.
/// Each is marked by a header, once: consumers then know that it does not come for the first time.
/// That is done on the text, since `jsonb` does not take all characters that `json` does. `chr(123)`
/// and `chr(125)` are braces, which would name an object of ours here.
const COPY: &str = "\
replayed as (
  insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                       kafka_partition)
  select e.lane, e.id, e.topic, e.key, e.name, e.version, e.content_type,
         case when left(e.headers::text, 18) = chr(123) || '\"outbox-replayed\"' then e.headers
              when e.headers::text = chr(123) || chr(125) then (chr(123) || '\"outbox-replayed\":\"1\"' || chr(125))::json
              when left(e.headers::text, 2) = chr(123) || '\"'
                then (chr(123) || '\"outbox-replayed\":\"1\",' || substr(e.headers::text, 2))::json
              else e.headers end,
         e.payload, e.occurred_at, e.kafka_partition
  from once join {event} e on e.lane = once.lane and e.seq = once.seq
  where not exists (select from {parked} p where p.id = e.id)
  order by e.seq
  returning id),
taken_back as (delete from {discarded} d using replayed where d.id = replayed.id)
select count(*) from replayed";

const TO_REPLAY: &str = "select once.lane, once.seq from ({once}) once order by once.seq limit $9";

const OTHERS_IF_UNUSED: &str = "\
select n.nspname || '.' || left(e.relname, -length('event'))
from pg_catalog.pg_class e
join pg_catalog.pg_namespace n on n.oid = e.relnamespace
where e.relkind = 'p' and right(e.relname, length('event')) = 'event' and e.oid <> {'event'}::regclass
  and exists (
    select from pg_catalog.pg_class l
    where l.relnamespace = e.relnamespace and l.relname = left(e.relname, -length('event')) || 'lane')
  and (select s.last_value is null from {sequence})
order by 1
limit 10";

impl Admin for Postgres {
    fn own_pool(pool: &PgPool) -> PgPool {
        connection::own_pool(pool)
    }

    fn follow(own: &PgPool, pool: &PgPool) {
        connection::follow(own, pool);
    }

    async fn reclaim(pool: &PgPool, names: &Names, retention: Duration) -> Result<u64, StoreError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn others_if_unused(pool: &PgPool, names: &Names) -> Result<Vec<String>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let others =
            unnamed::query_scalar(fill(names, OTHERS_IF_UNUSED)).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(others)
    }

    async fn replay(pool: &PgPool, names: &Names, which: &Replay) -> Result<u64, StoreError> {
        let mut tx = Begun::on(pool, Some(begin_of_replay())).await?;
        let statement = format!("with once as ({ONCE}), {COPY}");
        let replayed = meaning(fill(names, &statement), which).fetch_one(&mut *tx).await?;
        let replayed: i64 = replayed.try_get(0)?;
        tx.commit().await?;
        Ok(replayed.unsigned_abs())
    }

    async fn to_replay(
        pool: &PgPool,
        names: &Names,
        which: &Replay,
        limit: u32,
    ) -> Result<Vec<(Lane, i64)>, StoreError> {
        let mut tx = Begun::on(pool, Some(begin_of_replay())).await?;
        let statement = fill(names, &TO_REPLAY.replace("{once}", ONCE));
        let rows = meaning(statement, which).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        let place = |row| {
            let (lane, seq) = <(i16, i64)>::from_row(row)?;
            Ok((Lane::from_number(lane), seq))
        };
        rows.iter().map(place).collect()
    }

    async fn replay_rows(
        pool: &PgPool,
        names: &Names,
        rows: &[(Lane, i64)],
    ) -> Result<u64, StoreError> {
        let (lanes, seqs): (Vec<i16>, Vec<i64>) =
            rows.iter().map(|(lane, seq)| (lane.number(), *seq)).unzip();
        let statement = format!(
            "with once as (select * from unnest($1::smallint[], $2::bigint[]) as once (lane, seq)), {COPY}"
        );
        let mut tx = connection::begin(pool).await?;
        let replayed: i64 = unnamed::query_scalar(fill(names, &statement))
            .bind(lanes)
            .bind(seqs)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(replayed.unsigned_abs())
    }
}

/// A statement whose first parameters are those of [`ONCE`].
fn meaning<'q>(statement: SqlStr, which: &'q Replay) -> Query<'q, Postgres, PgArguments> {
    unnamed::query(statement)
        .bind(which.ids.as_deref())
        .bind(which.topic.as_deref())
        .bind(which.from.map(OffsetDateTime::from))
        .bind(which.until.map(OffsetDateTime::from))
        .bind(which.key.as_deref())
        .bind(which.lane())
        .bind(which.name.as_deref())
        .bind(which.after)
}

/// Reading or copying all retained events takes longer than other statements.
fn begin_of_replay() -> SqlStr {
    const WITHIN: Duration = Duration::from_secs(600);
    let options = TxOptions::new().isolation(Isolation::ReadCommitted).limit(WITHIN);
    connection::begin_statement(options)
}
