//! What was committed since the last look, in the order of its numbers.
//!
//! It reads windows as relays do, by snapshots (`lanes/window.rs` says why numbers alone would
//! lose events), and keeps none of them open: what a snapshot shows is asked of its text.

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgPool, Postgres, Row};

use super::events::LISTED;
use super::fragments::fill;
use super::{connection, unnamed};
use crate::store::error::StoreError;
use crate::store::events::KEY_BYTES;
use crate::store::names::Names;
use crate::store::sealed::Tail;
use crate::store::tail::{
    COUNTED, Moment, PAGE_BYTES, PAGE_EVENTS, TailFilter, TailPage, TailRow, TailWindow,
};

/// The floor is read after the snapshot was taken, and the id is drawn after both. It is drawn only
/// if numbers were: looking at a quiet outbox draws no ids.
const MOMENT: &str = "\
select pg_current_snapshot()::text as snapshot, coalesce(s.last_value, 0) as floor,
       case when s.last_value is distinct from $1 and s.last_value is not null then pg_current_xact_id()::text end as horizon,
       pg_postmaster_start_time()::text as server
from {sequence}";

/// A number below those of all events that occurred at this time or later: with a minute for
/// clocks that differ.
const SEQ_BEFORE: &str = "\
select coalesce(max(seq), 0) as seq from {sequence_mark} where at <= $1 - interval '1 minute'";

/// The rows of a window above `$6`: those above the floor of `prev`, and those of transactions that
/// were unfinished in it.
const ROWS: &str = "\
with l as materialized (select $7::text::pg_snapshot as prev, $11::text::xid8 as prev_h, $12::text::pg_snapshot as cur)
select e.* from l cross join generate_series(0, 15) as lanes (lane)
cross join lateral (
  select e.* from {event} e
  where e.lane = lanes.lane and e.seq > greatest($6, $10) and e.seq <= $13
    and pg_visible_in_snapshot(e.xid, l.cur) and {matches}
  order by e.seq limit $8) e
where $5::smallint is null or lanes.lane = $5
union all
select e.* from l cross join lateral {unfinished} cross join lateral (
  select e.* from {event} e
  where e.xid between unfinished.xid and unfinished.xid and e.seq > $6 and e.seq <= $10
    and pg_visible_in_snapshot(e.xid, l.cur) and {matches}
  order by e.xid, e.seq limit $8) e";

const MATCHES: &str = "\
($1::text[] is null or e.topic = any ($1)) and ($2::bytea is null or e.key = $2) and ($3::text is null or e.name = $3)
    and ($4::timestamptz is null or e.occurred_at >= $4)";

/// Payloads are read only of the rows that are taken; their sizes, without reading them.
const PAGE: &str = "\
select p.seq, p.lane, p.id, p.topic, p.key, p.name, p.version, p.occurred_micros, p.bytes, p.payload_bytes, p.running,
       case when p.payload_bytes <= $14 and p.running <= $15 then p.payload end as payload
from (
  select w.*, (sum(case when w.payload_bytes <= $14 then w.payload_bytes else 0 end)
               over (order by w.seq rows unbounded preceding))::bigint as running
  from (
    select {listed}, e.payload, octet_length(e.payload)::bigint as payload_bytes
    from ({rows}) e order by e.seq limit $8
  ) w
) p order by p.seq";

const COUNT: &str = "select count(*) as events from (select 1 from ({rows}) e limit $8) e where $9 = 0 and $14 = 0 and $15 = 0";

fn filled(statement: &str) -> String {
    let statement = statement.replace("{rows}", ROWS).replace("{listed}", LISTED);
    statement.replace("{matches}", MATCHES)
}

/// Parameters of a statement on a window that differ between the statements.
struct Bounds {
    limit: i64,
    key_bytes: i32,
    payload_bytes: i64,
    page_bytes: i64,
    up_to: i64,
}

fn bound<'q, O: Send + Unpin>(
    query: sqlx::query::QueryAs<'q, Postgres, O, sqlx::postgres::PgArguments>,
    filter: &'q TailFilter,
    window: &'q TailWindow,
    bounds: &Bounds,
) -> sqlx::query::QueryAs<'q, Postgres, O, sqlx::postgres::PgArguments> {
    let since = filter.since.filter(|_| window.is_past);
    query
        .bind((!filter.topics.is_empty()).then_some(&filter.topics[..]))
        .bind(filter.key.as_deref())
        .bind(filter.name.as_deref())
        .bind(since.map(OffsetDateTime::from))
        .bind(filter.lane())
        .bind(window.last)
        .bind(&*window.prev.snapshot)
        .bind(bounds.limit)
        .bind(bounds.key_bytes)
        .bind(window.prev.floor)
        .bind(&*window.prev.horizon)
        .bind(&*window.cur.snapshot)
        .bind(bounds.up_to)
        .bind(bounds.payload_bytes)
        .bind(bounds.page_bytes)
}

impl Tail for Postgres {
    async fn moment(
        pool: &PgPool,
        names: &Names,
        before: Option<&Moment>,
    ) -> Result<Moment, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let row = unnamed::query(fill(names, MOMENT))
            .bind(before.map(|before| before.floor))
            .fetch_one(&mut *tx)
            .await?;
        let horizon: Option<String> = row.try_get("horizon")?;
        let moment = Moment {
            floor: row.try_get("floor")?,
            snapshot: row.try_get("snapshot")?,
            // Without a new number, those up to the floor still have ids below the last one.
            horizon: horizon.unwrap_or_else(|| {
                before.map_or_else(|| "3".to_owned(), |before| before.horizon.clone())
            }),
            server: row.try_get("server")?,
        };
        tx.rollback().await?;
        Ok(moment)
    }

    async fn before_all_since(
        pool: &PgPool,
        names: &Names,
        since: std::time::SystemTime,
    ) -> Result<Moment, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let seq = unnamed::query(fill(names, SEQ_BEFORE)).bind(OffsetDateTime::from(since));
        let floor = seq.fetch_one(&mut *tx).await?.try_get("seq")?;
        tx.rollback().await?;
        Ok(Moment::before_all_above(floor))
    }

    async fn page(
        pool: &PgPool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<TailPage, StoreError> {
        let bounds = Bounds {
            limit: PAGE_EVENTS,
            key_bytes: KEY_BYTES,
            payload_bytes: filter.payload_bytes(),
            page_bytes: PAGE_BYTES,
            up_to: window.up_to(),
        };
        let mut tx = connection::begin_reading(pool).await?;
        let page = unnamed::query_as(fill(names, &filled(PAGE)));
        let rows: Vec<TailRow> = bound(page, filter, window, &bounds).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(TailPage::of(rows))
    }

    async fn count(
        pool: &PgPool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<u64, StoreError> {
        let (key_bytes, payload_bytes, page_bytes) = (0, 0, 0);
        let up_to = window.cur.floor;
        let bounds = Bounds { limit: COUNTED, key_bytes, payload_bytes, page_bytes, up_to };
        let mut tx = connection::begin_reading(pool).await?;
        let count = unnamed::query_as(fill(names, &filled(COUNT)));
        let (events,): (i64,) = bound(count, filter, window, &bounds).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(events.unsigned_abs())
    }
}
