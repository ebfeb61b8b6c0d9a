//! How far the relays are.
//!
//! A published event is deleted, so all that are in the table of events are pending.

use sqlx::{MySql, MySqlConnection, MySqlPool};

use super::counter::last_drawn;
use super::{connection, pause, statement};
use crate::record::LANES;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::relays::RelayRow;
use crate::store::sealed::Monitor;
use crate::store::status::{
    LaneRow, PARKED_TOPICS, ParkedTopic, ParkedTopicRow, Status, SummaryRow,
};

/// `{pending}`: [`PENDING`] of each lane.
const LANES_AND_HOLDERS: &str = "\
select l.lane, r.owner, p.counted, p.oldest_micros, p.first_seq, p.last_seq
from {lane} l
left join {relay} r on r.owner = l.owner and r.alive_until > {now}
join ({pending}) p on p.lane = l.lane
order by l.lane";

/// `#`: the number of a lane. A derived table cannot name a column of the query around it, so each
/// lane has its own.
const PENDING: &str = "\
select # as lane, count(*) as counted, min(c.seq) as first_seq, max(c.seq) as last_seq,
       (select e.occurred_at from {event} e force index (lane_seq) where e.lane = # order by e.seq limit 1)
         as oldest_micros
from (select e.seq from {event} e force index (lane_seq) where e.lane = # order by e.seq limit {most}) c";

const RELAYS: &str = "\
select owner, host, pid, version, shares, started_at as started_micros, alive_until as alive_until_micros,
       lease_millis, alive_until > {now} as is_alive
from {relay} order by started_at, owner";

const SUMMARY: &str = "\
select {now} as now_micros, coalesce((select max(e.seq) from {event} e), 0) as last,
       cast(coalesce(sum(not c.is_paused), 0) as signed) as parked,
       cast(coalesce(sum(c.is_paused), 0) as signed) as set_aside,
       min(case when not c.is_paused then c.occurred_at end) as oldest_parked_micros, null as leaves_free
from (
  select p.occurred_at,
         exists (select 1 from {pause} u where u.scope = 'topic' and u.target = p.topic) as is_paused
  from {parked} p order by p.seq limit ?) c";

const PARKED_BY_TOPIC: &str = "\
select c.topic, count(*) as events, min(c.occurred_at) as oldest_micros
from (select p.topic, p.occurred_at from {parked} p order by p.seq limit ?) c
group by c.topic order by count(*) desc, c.topic limit ?";

impl Monitor for MySql {
    async fn status(pool: &MySqlPool, names: &Names) -> Result<Status, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let status = read(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(status)
    }

    async fn parked_topics(
        pool: &MySqlPool,
        names: &Names,
    ) -> Result<Vec<ParkedTopic>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let parked = sqlx::query_as(statement(names, PARKED_BY_TOPIC)).persistent(false);
        let parked = parked.bind(Status::COUNTED.cast_signed()).bind(PARKED_TOPICS);
        let parked: Vec<ParkedTopicRow> = parked.fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(parked.into_iter().map(ParkedTopic::from).collect())
    }
}

pub(super) async fn read(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<Status, sqlx::Error> {
    let lanes: Vec<LaneRow> = sqlx::query_as(statement(names, &lanes_and_holders()))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let relays: Vec<RelayRow> = sqlx::query_as(statement(names, RELAYS))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let pauses = pause::pauses(connection, names).await?;
    let summary = sqlx::query_as(statement(names, SUMMARY)).persistent(false);
    let summary = summary.bind(Status::COUNTED.cast_signed());
    let mut summary: SummaryRow = summary.fetch_one(&mut *connection).await?;
    summary.last = summary.last.max(last_drawn(connection, names).await?);
    Ok(Status::new(&lanes, relays, pauses, &[], &summary))
}

fn lanes_and_holders() -> String {
    let most = Status::COUNTED_OF_LANE.to_string();
    let of_lane = |lane: usize| PENDING.replace('#', &lane.to_string()).replace("{most}", &most);
    let pending = (0..LANES).map(of_lane).collect::<Vec<_>>().join("\nunion all\n");
    LANES_AND_HOLDERS.replace("{pending}", &pending)
}
