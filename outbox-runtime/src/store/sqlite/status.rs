//! How far the relays are.

use std::time::SystemTime;

use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::clock::{unix_micros, unix_millis};
use super::pause;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::relays::RelayRow;
use crate::store::sealed::Monitor;
use crate::store::status::{
    GroupRow, LaneRow, PARKED_TOPICS, ParkedTopic, ParkedTopicRow, Status, SummaryRow,
};

const LANES: &str = "\
select l.lane, (select r.owner from {relay} r where r.owner = l.owner and r.alive_until > $2) as owner,
       (select count(*) from (
          select 1 from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit $1)) as counted,
       (select e.occurred_at from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit 1)
         as oldest_micros,
       (select e.seq from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit 1) as first_seq,
       (select max(seq) from (
          select e.seq from {event} e where e.lane = l.lane and e.seq > l.last_seq order by e.seq limit $1)) as last_seq
from {lane} l order by l.lane";

const RELAYS: &str = "\
select owner, host, pid, version, shares, started_at * 1000 as started_micros, alive_until * 1000 as alive_until_micros,
       lease_millis, alive_until > $1 as is_alive
from {relay} order by started_at, owner";

const GROUPS: &str =
    "select grp, groups, outbox, claim from {group} where not handed_back order by grp";

const SUMMARY: &str = "\
select $2 as now_micros, coalesce((select max(seq) from {event}), 0) as last,
       coalesce(sum(not is_paused), 0) as parked, coalesce(sum(is_paused), 0) as set_aside,
       min(case when not is_paused then occurred_at end) as oldest_parked_micros, null as leaves_free
from (
  select e.occurred_at, exists (select 1 from {pause} where scope = 'topic' and target = e.topic) as is_paused
  from {parked} e order by e.seq limit $1)";

const PARKED_BY_TOPIC: &str = "\
select topic, count(*) as events, min(occurred_at) as oldest_micros
from (select topic, occurred_at from {parked} order by seq limit $1)
group by topic order by events desc, topic limit $2";

impl Monitor for Sqlite {
    async fn status(pool: &SqlitePool, names: &Names) -> Result<Status, StoreError> {
        let mut tx = pool.begin().await?;
        let status = read(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(status)
    }

    async fn parked_topics(
        pool: &SqlitePool,
        names: &Names,
    ) -> Result<Vec<ParkedTopic>, StoreError> {
        let parked: Vec<ParkedTopicRow> = sqlx::query_as(sql(names.fill(PARKED_BY_TOPIC)))
            .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
            .bind(PARKED_TOPICS)
            .fetch_all(pool)
            .await?;
        Ok(parked.into_iter().map(ParkedTopic::from).collect())
    }
}

pub(super) async fn read(
    connection: &mut SqliteConnection,
    names: &Names,
) -> Result<Status, sqlx::Error> {
    let now = unix_millis();
    let lanes: Vec<LaneRow> = sqlx::query_as(sql(names.fill(LANES)))
        .bind(i64::try_from(Status::COUNTED_OF_LANE).unwrap_or(i64::MAX))
        .bind(now)
        .fetch_all(&mut *connection)
        .await?;
    let relays: Vec<RelayRow> =
        sqlx::query_as(sql(names.fill(RELAYS))).bind(now).fetch_all(&mut *connection).await?;
    let pauses = pause::pauses(connection, names).await?;
    let groups: Vec<GroupRow> =
        sqlx::query_as(sql(names.fill(GROUPS))).fetch_all(&mut *connection).await?;
    let summary: SummaryRow = sqlx::query_as(sql(names.fill(SUMMARY)))
        .bind(i64::try_from(Status::COUNTED).unwrap_or(i64::MAX))
        .bind(unix_micros(SystemTime::now()))
        .fetch_one(connection)
        .await?;
    Ok(Status::new(&lanes, relays, pauses, &groups, &summary))
}
