//! A replication slot by which Debezium reads the outbox's table.
//!
//! Postgres begins a slot at a place in its log, the *start*: what is committed after it is read by the
//! slot, and nothing that is committed before. And it says up to where the reader has confirmed, so
//! that nothing before that place is sent again.
//!
//! A transaction can be in the log before the start and be visible after it: it waits for a standby, or
//! has not come that far. So it is not enough that what is visible is published. All transactions that
//! are older than the end of the slot's creation must have ended first.

use std::time::Duration;

use sqlx::{Executor, PgPool};

use super::fragments::fill;
use super::lanes::progress_is_missing;
use super::{connection, unnamed};
use crate::error::OutboxError;
use crate::record::LANES;
use crate::store::begun::Begun;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::row::row;
use crate::store::tx_options::{Isolation, TxOptions};

/// Longest name of Postgres.
const LONGEST_NAME: usize = 63;

const FACTS: &str = "\
select current_setting('wal_level') as wal_level,
       exists (select from {parked}) as any_parked,
       p.oid is not null as published,
       coalesce(p.pubinsert, false) and exists (
         select from pg_catalog.pg_publication_tables t
         where t.pubname = $2 and format('%I.%I', t.schemaname, t.tablename)::regclass = {'event'}::regclass) as publishes,
       s.slot_name is not null as has_slot,
       coalesce(s.plugin::text = 'pgoutput' and s.database = current_database() and s.wal_status <> 'lost', false) as slot_is_usable
from (select) one
left join pg_catalog.pg_publication p on p.pubname = $2
left join pg_catalog.pg_replication_slots s on s.slot_name = $1";

row! {
    struct Facts {
        wal_level: String,
        any_parked: bool,
        published: bool,
        publishes: bool,
        has_slot: bool,
        slot_is_usable: bool,
    }
}

/// A transaction that is younger than all that can be in the log already. A statement of its own: it is
/// drawn before the number is read.
const DRAW: &str = "select pg_current_xact_id()::text";

/// The last number that was drawn: what was committed before has no higher one.
const LAST: &str = "select coalesce((select s.last_value from {sequence}), 0)";

/// Whether an older transaction than the second parameter is open, or anything up to the number is visible
/// and not saved as published; see `pending.rs`.
const PENDING: &str = "\
with cursors as materialized (select * from {cursors} l)
select array(select c.lane from cursors c) as lanes,
       pg_snapshot_xmin(pg_current_snapshot()) < $2::text::xid8
       or exists (
         select from cursors l where exists (
           select from {event} e
           where e.lane = l.lane and e.seq > greatest(l.last_seq, l.prev_floor) and e.seq <= $1))
       or exists (
         select from cursors l cross join lateral {unfinished} cross join lateral (
           select from {event} e
           where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
             and e.seq > l.last_seq and e.seq <= least(l.prev_floor, $1)
           limit 1) e) as any_pending";

row! {
    struct Pending {
        lanes: Vec<i16>,
        any_pending: bool,
    }

    /// How far a slot is.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct SlotRow {
        /// The place in the log up to which it is written.
        written: i64,
        /// The place up to which the slot's reader has confirmed. `None`: there is no such slot.
        confirmed: Option<i64>,
        /// Whether the server has removed a part of the log that the reader still needed.
        is_lost: bool,
    }
}

const FAR: &str = "\
select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as written,
       (s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint as confirmed, coalesce(s.wal_status = 'lost', false) as is_lost
from (select) one
left join pg_catalog.pg_replication_slots s
  on s.slot_name = $1 and s.slot_type = 'logical' and s.database = current_database()";

/// How far a slot is, and the log. On a standby, an error.
pub(crate) async fn look(pool: &PgPool, slot: &str) -> Result<SlotRow, sqlx::Error> {
    sqlx::query_as(FAR).bind(slot).fetch_one(pool).await
}

/// What is older than a slot's start: transactions below one, with numbers up to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Older {
    /// A transaction id (`xid8` in its text form).
    xid: String,
    last: i64,
}

/// Creates what is missing of the publication and the slot.
pub(crate) async fn prepare(
    pool: &PgPool,
    names: &Names,
    slot: &str,
    publication: &str,
) -> Result<Older, StoreError> {
    check_name("slot", slot)?;
    check_name("publication", publication)?;
    let names = connection::located(pool, names).await?;
    let mut tx = connection::begin_reading(pool).await?;
    let facts: Facts = unnamed::query_as(fill(&names, FACTS))
        .bind(slot)
        .bind(publication)
        .fetch_one(&mut *tx)
        .await?;
    tx.rollback().await?;
    refuse(&facts, slot, publication)?;
    // Before the slot: its reader knows only publications that are older than what it reads.
    if !facts.published {
        let mut tx = connection::begin(pool).await?;
        tx.execute(sql(publish(&names, publication))).await?;
        tx.commit().await?;
    }
    if !facts.has_slot {
        create(pool, slot).await?;
    }
    let mut tx = connection::begin(pool).await?;
    let xid = unnamed::query_scalar(DRAW).fetch_one(&mut *tx).await?;
    let last = unnamed::query_scalar(fill(&names, LAST)).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Older { xid, last })
}

/// In a transaction that writes nothing, as Postgres asks.
async fn create(pool: &PgPool, slot: &str) -> Result<(), sqlx::Error> {
    /// It waits for the transactions that are open.
    const WITHIN: Duration = Duration::from_secs(600);

    let options = TxOptions::new().isolation(Isolation::ReadCommitted).limit(WITHIN);
    let begin = connection::begin_statement(options);
    let mut tx = Begun::on(pool, Some(begin)).await?;
    unnamed::query("select pg_create_logical_replication_slot($1, 'pgoutput')")
        .bind(slot)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Of the events only that they are inserted, under the name of the table and not of its leaves.
fn publish(names: &Names, publication: &str) -> String {
    names.fill(&format!(
        "create publication {publication} for table {{event}} with (publish = 'insert', publish_via_partition_root = true)"
    ))
}

fn refuse(facts: &Facts, slot: &str, publication: &str) -> Result<(), OutboxError> {
    let reason = if facts.wal_level != "logical" {
        format!(
            "`wal_level` is `{}`, and a replication slot needs `logical`. Set it, and restart Postgres",
            facts.wal_level
        )
    } else if facts.any_parked {
        "events are parked, and Debezium would publish what comes after them. Release or discard them: `outbox parked list`"
            .to_owned()
    } else if facts.published && !facts.publishes {
        format!(
            "the publication `{publication}` does not have the inserts into the table of the events, or has them under the names \
             of its partitions. Drop it, or name another"
        )
    } else if facts.has_slot && !facts.slot_is_usable {
        format!(
            "the replication slot `{slot}` is not one of this database with the plugin `pgoutput`, or is lost. Drop it \
             (`select pg_drop_replication_slot('{slot}')`), or name another"
        )
    } else if facts.has_slot && !facts.published {
        format!(
            "the replication slot `{slot}` is older than the publication, and its reader would not find it. Drop the slot \
             (`select pg_drop_replication_slot('{slot}')`): both are then created"
        )
    } else {
        return Ok(());
    };
    Err(OutboxError::config(format!("{reason}. Nothing was changed, and relays publish as before")))
}

/// A name that needs no quotes.
fn check_name(what: &str, name: &str) -> Result<(), OutboxError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.bytes().all(plain)
        && name.starts_with(|c: char| !c.is_ascii_digit())
        && name.len() <= LONGEST_NAME
    {
        return Ok(());
    }
    Err(OutboxError::config(format!(
        "the name of the {what} must have lower-case letters, digits and `_`, begin with no digit, and have at most \
         {LONGEST_NAME} characters. Nothing was changed"
    )))
}

/// Whether an event of these is not published, or may yet become visible.
pub(crate) async fn is_pending(
    pool: &PgPool,
    names: &Names,
    older: &Older,
) -> Result<bool, StoreError> {
    let names = connection::located(pool, names).await?;
    let mut tx = connection::begin_reading(pool).await?;
    let Pending { lanes, any_pending } = unnamed::query_as(fill(&names, PENDING))
        .bind(older.last)
        .bind(&older.xid)
        .fetch_one(&mut *tx)
        .await?;
    tx.rollback().await?;
    // A lane without progress has published nothing that is known.
    match (0..LANES as i16).find(|lane| !lanes.contains(lane)) {
        Some(lane) => Err(progress_is_missing(&names, lane).into()),
        None => Ok(any_pending),
    }
}
