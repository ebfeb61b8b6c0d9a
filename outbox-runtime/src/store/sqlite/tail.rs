//! What was committed since the last look. With one writer at a time, the order of the numbers is
//! that of the commits: those above the last one are new, and there are no others.

use std::time::SystemTime;

use sqlx::{Row, Sqlite, SqlitePool};

use super::clock::unix_micros;
use super::events::LISTED;
use crate::store::error::StoreError;
use crate::store::events::KEY_BYTES;
use crate::store::names::{Names, sql};
use crate::store::sealed::Tail;
use crate::store::tail::{
    COUNTED, Moment, PAGE_BYTES, PAGE_EVENTS, TailFilter, TailPage, TailRow, TailWindow,
};

/// The last number that was given, also if its row was reclaimed.
const FLOOR: &str = "\
select coalesce(max(last.seq), 0) as floor from (
  select max(e.seq) as seq from {event} e union all select s.seq from sqlite_sequence s where s.name = $1) last";

/// With a minute for clocks that differ.
const SEQ_BEFORE: &str =
    "select coalesce(max(seq), 0) as seq from {sequence_mark} where at <= $1 / 1000 - 60000";

const MATCHES: &str = "\
e.seq > $6 and e.seq <= $7 and ($1 is null or e.topic in (select value from json_each($1)))
    and ($2 is null or e.key = $2) and ($3 is null or e.name = $3) and ($4 is null or e.occurred_at >= $4)
    and ($5 is null or e.lane = $5)";

const PAGE: &str = "\
select p.seq, p.lane, p.id, p.topic, p.key, p.name, p.version, p.occurred_micros, p.bytes, p.payload_bytes, p.running,
       case when p.payload_bytes <= $10 and p.running <= $11 then p.payload end as payload
from (
  select w.*, sum(case when w.payload_bytes <= $10 then w.payload_bytes else 0 end)
              over (order by w.seq rows unbounded preceding) as running
  from (
    select {listed}, e.payload, length(e.payload) as payload_bytes
    from {event} e where {matches} order by e.seq limit $8
  ) w
) p order by p.seq";

const COUNT: &str = "select count(*) from (select 1 from {event} e where {matches} limit $8)";

fn filled(names: &Names, statement: &str) -> sqlx::SqlStr {
    sql(names.fill(&statement.replace("{listed}", LISTED).replace("{matches}", MATCHES)))
}

type Query<'q, O> = sqlx::query::QueryAs<'q, Sqlite, O, sqlx::sqlite::SqliteArguments>;

fn bound<'q, O>(
    query: Query<'q, O>,
    filter: &'q TailFilter,
    window: &TailWindow,
    (limit, up_to): (i64, i64),
) -> Query<'q, O> {
    let topics = serde_json::to_string(&filter.topics).unwrap_or_default();
    let since = filter.since.filter(|_| window.is_past);
    query
        .bind((!filter.topics.is_empty()).then_some(topics))
        .bind(filter.key.as_deref())
        .bind(filter.name.as_deref())
        .bind(since.map(unix_micros))
        .bind(filter.lane())
        .bind(window.last.max(window.prev.floor))
        .bind(up_to)
        .bind(limit)
        .bind(KEY_BYTES)
}

impl Tail for Sqlite {
    async fn moment(
        pool: &SqlitePool,
        names: &Names,
        _: Option<&Moment>,
    ) -> Result<Moment, StoreError> {
        // Its error says that the tables are missing, which the table of the next one does not.
        sqlx::query(sql(names.fill("select 1 from {event} limit 0"))).execute(pool).await?;
        let floor = sqlx::query(sql(names.fill(FLOOR))).bind(format!("{}event", names.prefix));
        Ok(Moment::before_all_above(floor.fetch_one(pool).await?.try_get("floor")?))
    }

    async fn before_all_since(
        pool: &SqlitePool,
        names: &Names,
        since: SystemTime,
    ) -> Result<Moment, StoreError> {
        let seq = sqlx::query(sql(names.fill(SEQ_BEFORE))).bind(unix_micros(since));
        Ok(Moment::before_all_above(seq.fetch_one(pool).await?.try_get("seq")?))
    }

    async fn page(
        pool: &SqlitePool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<TailPage, StoreError> {
        let page = sqlx::query_as(filled(names, PAGE));
        let page = bound(page, filter, window, (PAGE_EVENTS, window.up_to()));
        let page = page.bind(filter.payload_bytes()).bind(PAGE_BYTES);
        let rows: Vec<TailRow> = page.fetch_all(pool).await?;
        Ok(TailPage::of(rows))
    }

    async fn count(
        pool: &SqlitePool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<u64, StoreError> {
        let count = sqlx::query_as(filled(names, COUNT));
        let count = bound(count, filter, window, (COUNTED, window.cur.floor));
        let (events,): (i64,) = count.fetch_one(pool).await?;
        Ok(events.unsigned_abs())
    }
}
