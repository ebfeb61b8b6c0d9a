//! How far the relays are.

use sqlx::{PgConnection, PgPool, Postgres};

use super::fragments::fill;
use super::{connection, pause, pending, unnamed};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::relays::RelayRow;
use crate::store::sealed::Monitor;
use crate::store::status::{
    GroupRow, PARKED_TOPICS, ParkedTopic, ParkedTopicRow, Status, SummaryRow,
};

const RELAYS: &str = "\
select r.owner, r.host, r.pid, r.version, r.shares, (extract(epoch from r.started_at) * 1000000)::bigint as started_micros,
       (extract(epoch from h.alive_until) * 1000000)::bigint as alive_until_micros,
       coalesce(h.lease_millis, 0) as lease_millis, coalesce(h.alive_until > clock_timestamp(), false) as is_alive
from {relay} r
left join lateral (
  select h.* from {heartbeat} h where h.owner = r.owner order by h.id desc limit 1) h on true
order by r.started_at, r.owner";

const GROUPS: &str =
    "select grp, groups, outbox, claim from {group} where not handed_back order by grp";

/// A leaf that was truncated has no bytes: none of its rows is looked for.
const SUMMARY: &str = "\
select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros,
       coalesce((select s.last_value from {sequence}), 0) as last,
       p.parked, p.set_aside, (extract(epoch from p.oldest) * 1000000)::bigint as oldest_parked_micros,
       (select count(*) from pg_catalog.pg_inherits
        where inhparent = {'event'}::regclass and pg_catalog.pg_relation_size(inhrelid) = 0) as leaves_free
from (
  select count(*) filter (where not is_paused) as parked, count(*) filter (where is_paused) as set_aside,
         min(occurred_at) filter (where not is_paused and occurred_at >= '0001-01-01' and occurred_at < '10000-01-01')
           as oldest
  from (
    select e.occurred_at, exists (select from {pause} where scope = 'topic' and target = e.topic) as is_paused
    from {parked} e order by e.seq limit $1) counted) p";

/// In the order of an index, so that no more rows than these are read.
const PARKED_BY_TOPIC: &str = "\
select topic, count(*) as events,
       (extract(epoch from min(occurred_at) filter (where occurred_at >= '0001-01-01' and occurred_at < '10000-01-01'))
        * 1000000)::bigint as oldest_micros
from (select topic, occurred_at from {parked} order by seq limit $1) counted
group by topic order by events desc, topic limit $2";

impl Monitor for Postgres {
    async fn status(pool: &PgPool, names: &Names) -> Result<Status, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let status = read(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(status)
    }

    async fn parked_topics(pool: &PgPool, names: &Names) -> Result<Vec<ParkedTopic>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let parked: Vec<ParkedTopicRow> = unnamed::query_as(fill(names, PARKED_BY_TOPIC))
            .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
            .bind(PARKED_TOPICS)
            .fetch_all(&mut *tx)
            .await?;
        tx.rollback().await?;
        Ok(parked.into_iter().map(ParkedTopic::from).collect())
    }
}

pub(super) async fn read(
    connection: &mut PgConnection,
    names: &Names,
) -> Result<Status, sqlx::Error> {
    let lanes = pending::of_lanes(connection, names).await?;
    let relays: Vec<RelayRow> =
        unnamed::query_as(fill(names, RELAYS)).fetch_all(&mut *connection).await?;
    let pauses = pause::pauses(connection, names).await?;
    let groups: Vec<GroupRow> =
        unnamed::query_as(fill(names, GROUPS)).fetch_all(&mut *connection).await?;
    let summary: SummaryRow = unnamed::query_as(fill(names, SUMMARY))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .fetch_one(connection)
        .await?;
    Ok(Status::new(&lanes, relays, pauses, &groups, &summary))
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Executor};
    use uuid::Uuid;

    use super::*;
    use crate::store::migrate::Migrate;
    use crate::store::sealed::Schema as _;

    /// The status, and the blocks that it touches.
    async fn status_and_cost(pool: &PgPool, names: &Names) -> (Status, i64) {
        const BLOCKS: &str = "\
select coalesce(sum(pg_stat_get_xact_blocks_fetched(oid)), 0)::bigint from pg_class where relnamespace = $1::regnamespace";
        let mut tx = connection::begin_reading(pool).await.unwrap();
        let mut blocks = Vec::new();
        let mut status = None;
        for _ in 0..2 {
            let fetched = unnamed::query_scalar::<i64>(BLOCKS).bind(names.fill("{schema}"));
            blocks.push(fetched.fetch_one(&mut *tx).await.unwrap());
            status = Some(read(&mut tx, names).await.unwrap());
        }
        tx.rollback().await.unwrap();
        (status.unwrap(), blocks[1] - blocks[0])
    }

    #[tokio::test]
    async fn a_status_costs_the_same_however_many_events_are_pending() {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool = PgPool::connect(&url).await.unwrap();
        let schema = format!("status_{}", Uuid::now_v7().simple());
        let names = Names { schema: Some(schema), ..Names::default() };
        Postgres::migrate(&pool, &names, Postgres::MIGRATIONS, Migrate::up()).await.unwrap();
        let emit = async |events: u32| {
            let insert = names.fill(
                "insert into {event} (lane, id, topic, name, version, content_type, headers, occurred_at)
                 select n % 16, gen_random_uuid(), 'orders', 'order.placed', 1, 'application/json', '[]', now()
                 from generate_series(1, $1) n",
            );
            let insert = sqlx::query(AssertSqlSafe(insert)).bind(i64::from(events));
            insert.execute(&pool).await.unwrap();
        };
        emit(3_200).await;
        let (_, at_first) = status_and_cost(&pool, &names).await;
        emit(60_000).await;
        let (status, later) = status_and_cost(&pool, &names).await;
        pool.execute(AssertSqlSafe(names.fill("drop schema {schema} cascade"))).await.unwrap();
        assert!(later <= at_first * 2, "{at_first} blocks at first, {later} later");
        assert!(status.backlog_is_estimate);
        assert!(status.backlog.abs_diff(63_200) < 3_200, "{} events", status.backlog);
    }
}
