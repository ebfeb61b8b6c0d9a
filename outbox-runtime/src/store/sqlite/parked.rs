//! What an operator sees and does of parked events.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{FromRow, Row, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::clock::unix_millis;
use super::event_row::stored_event;
use crate::record::{KeyDigest, Lane};
use crate::store::admin::{DiscardedEvent, DiscardedRow, PageRow, ParkedEvent, RefusalRow};
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::parked::{Discard, PAGE_EVENTS, Release, page};
use crate::store::parked_filter::{
    GroupRow, MOST_GROUPS, ParkedFilter, ParkedGroup, ParkedGrouping,
};
use crate::store::row::row;
use crate::store::sealed::ParkedAdmin;

/// The events `e` that a filter means. Without a condition, a parameter is null.
const MATCHES: &str = "\
($1 is null or e.id in (select unhex(value) from json_each($1))) and ($2 is null or e.topic = $2)
  and ($3 is null or e.key = $3) and ($4 is null or e.name = $4)
  and ($5 is null or e.reason like $5 escape '\\') and ($6 is null or e.lane = $6)";

/// The numbers of a page, how large each event is, and the first event of its key.
const PAGE: &str = "\
select e.seq, e.bytes, (
  select head.id from {parked} head
  where head.lane = e.lane and head.key_digest = e.key_digest and head.seq < e.seq order by head.seq limit 1) as waits_behind
from {parked} e
where {matches} and ($7 is null or (e.lane, e.key_digest, e.seq) > ($7, $8, $9))
order by e.lane, e.key_digest, e.seq limit $10";

const PARKED: &str = "select *, since * 1000 as since_micros from {parked} where seq = $1";

const DISCARDED: &str = "\
select id, seq, topic, name, reason, at * 1000 as at_micros
from {discarded} order by at desc, seq desc limit $1";

const GROUPS: &str = "\
select {group}, count(*) as events, count(distinct e.lane || hex(e.key_digest)) as keys,
       min(e.occurred_at) as oldest_micros
from {parked} e where {matches}
group by {by} order by events desc, 1, 2, 3 limit $7";

/// Whether the topic of a row `k` is not paused: what is parked of a paused one is not tried.
const UNPAUSED: &str =
    "not exists (select 1 from {pause} p where p.scope = 'topic' and p.target = k.topic)";

/// The keys `k` of which some event is meant.
const MEANT: &str = "\
{unpaused} and ($6 is null or k.lane = $6) and ($2 is null or k.topic = $2) and ($7 or exists (
  select 1 from {parked} e where e.lane = k.lane and e.key_digest = k.key_digest and {matches}))";

const RELEASE: &str = "update {parked_key} as k set released = 1 where {meant}";

const COUNT_OF_KEYS: &str = "\
select count(*) as events from {parked} of_key
where exists (
  select 1 from {parked_key} k where k.lane = of_key.lane and k.key_digest = of_key.key_digest and {meant})";

const RELEASE_ON_TOPIC: &str = "update {parked_key} as k set released = 1 where k.lane = $1 and k.key_digest = $2 and {unpaused}";

const COUNT_ON_TOPIC: &str = "select count(*) as events from {parked} k where k.lane = $1 and k.key_digest = $2 and {unpaused}";

/// An event that was replayed and parked again is there more than once.
const TO_DISCARD: &str = "\
select p.lane, p.key_digest, (
  select head.id from {parked} head
  where head.lane = p.lane and head.key_digest = p.key_digest and head.seq < p.seq order by head.seq limit 1) as waits_behind
from {parked} p where p.id = $1 order by p.seq limit 1";

const REMEMBER: &str = "\
insert into {discarded} (seq, id, topic, name, reason, at)
select seq, id, topic, name, reason, $2 from {parked} where id = $1
on conflict (seq) do nothing";

/// A key without any parked event is released, so that its relay forgets it.
const RELEASE_IF_EMPTY: &str = "\
update {parked_key} set released = 1
where lane = $1 and key_digest = $2
  and not exists (select 1 from {parked} where lane = $1 and key_digest = $2)";

row! {
    /// A parked event that is to be discarded.
    struct ToDiscard {
        lane: i16,
        key_digest: Uuid,
        waits_behind: Option<Uuid>,
    }
}

impl ParkedAdmin for Sqlite {
    async fn parked(
        pool: &SqlitePool,
        names: &Names,
        filter: &ParkedFilter,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let statement = statement(names, PAGE);
        let found = filtered(statement, filter)
            .bind(after.map(|(lane, ..)| lane.number()))
            .bind(after.map(|(_, key, _)| key.0))
            .bind(after.map(|(.., seq)| seq))
            .bind(limit.min(PAGE_EVENTS))
            .fetch_all(pool)
            .await?;
        let found: Vec<PageRow> = rows_of(&found)?;
        let room = page(found.iter().map(|row| row.bytes.unsigned_abs()));
        let mut page = Vec::with_capacity(room);
        for PageRow { seq, waits_behind, .. } in found.into_iter().take(room) {
            let row = sqlx::query(sql(names.fill(PARKED))).bind(seq).fetch_optional(pool).await?;
            if let Some(row) = row {
                let refusal = RefusalRow::from_row(&row)?;
                page.push(ParkedEvent::new(stored_event(&row)?, refusal, waits_behind));
            }
        }
        Ok(page)
    }

    async fn parked_groups(
        pool: &SqlitePool,
        names: &Names,
        filter: &ParkedFilter,
        by: ParkedGrouping,
    ) -> Result<Vec<ParkedGroup>, StoreError> {
        let (columns, group_by) = by.columns();
        let groups = GROUPS.replace("{group}", columns).replace("{by}", group_by);
        let statement = statement(names, &groups);
        let rows = filtered(statement, filter).bind(MOST_GROUPS).fetch_all(pool).await?;
        Ok(rows_of::<GroupRow>(&rows)?.into_iter().map(ParkedGroup::from).collect())
    }

    async fn count_parked(
        pool: &SqlitePool,
        names: &Names,
        filter: &ParkedFilter,
    ) -> Result<u64, StoreError> {
        let statement =
            statement(names, "select count(*) as events from {parked} e where {matches}");
        let row = filtered(statement, filter).fetch_one(pool).await?;
        Ok(row.try_get::<i64, _>("events")?.unsigned_abs())
    }

    async fn release_parked(
        pool: &SqlitePool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let row = match which {
            Release::Where(filter) => {
                let release = statement(names, RELEASE);
                filtered(release, filter).bind(filter.is_all()).execute(&mut *tx).await?;
                let count = statement(names, COUNT_OF_KEYS);
                filtered(count, filter).bind(filter.is_all()).fetch_one(&mut *tx).await?
            }
            Release::OnTopic(lane, key) => {
                let (lane, key) = (lane.number(), key.0);
                let release = sqlx::query(sql(statement(names, RELEASE_ON_TOPIC)));
                release.bind(lane).bind(key).execute(&mut *tx).await?;
                let count = sqlx::query(sql(statement(names, COUNT_ON_TOPIC)));
                count.bind(lane).bind(key).fetch_one(&mut *tx).await?
            }
        };
        tx.commit().await?;
        Ok(row.try_get::<i64, _>("events")?.unsigned_abs())
    }

    async fn discard_parked(
        pool: &SqlitePool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, StoreError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let found: Option<ToDiscard> =
            sqlx::query_as(sql(names.fill(TO_DISCARD))).bind(id).fetch_optional(&mut *tx).await?;
        let discard = match found {
            None => Discard::NotParked,
            Some(ToDiscard { waits_behind: Some(head), .. }) if !insist => Discard::Waits(head),
            Some(ToDiscard { lane, key_digest, .. }) => {
                discard_all_of(&mut tx, names, id).await?;
                let release = sqlx::query(sql(names.fill(RELEASE_IF_EMPTY)));
                release.bind(lane).bind(key_digest).execute(&mut *tx).await?;
                Discard::Done
            }
        };
        tx.commit().await?;
        Ok(discard)
    }

    async fn discarded(
        pool: &SqlitePool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, StoreError> {
        let rows: Vec<DiscardedRow> = sqlx::query_as(sql(names.fill(DISCARDED)))
            .bind(limit.min(PAGE_EVENTS))
            .fetch_all(pool)
            .await?;
        Ok(rows.into_iter().map(DiscardedEvent::from).collect())
    }
}

async fn discard_all_of(
    connection: &mut SqliteConnection,
    names: &Names,
    id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(sql(names.fill(REMEMBER)))
        .bind(id)
        .bind(unix_millis())
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql(names.fill("delete from {parked} where id = $1")))
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

fn statement(names: &Names, statement: &str) -> String {
    let statement = statement.replace("{meant}", MEANT);
    names.fill(&statement.replace("{matches}", MATCHES).replace("{unpaused}", UNPAUSED))
}

/// A statement whose first parameters are those of [`MATCHES`].
fn filtered<'q>(statement: String, filter: &'q ParkedFilter) -> Query<'q, Sqlite, SqliteArguments> {
    let ids = filter.ids.as_ref().map(|ids| {
        let ids: Vec<String> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
        format!("[{}]", ids.join(","))
    });
    sqlx::query(sql(statement))
        .bind(ids)
        .bind(filter.topic.as_deref())
        .bind(filter.key.as_deref())
        .bind(filter.name.as_deref())
        .bind(filter.reason_like())
        .bind(filter.lane())
}

fn rows_of<T: for<'r> FromRow<'r, SqliteRow>>(rows: &[SqliteRow]) -> Result<Vec<T>, sqlx::Error> {
    rows.iter().map(T::from_row).collect()
}
