//! Parked events under exactly-once delivery: what progress passes over rests on their rows.

use sqlx::{PgConnection, Postgres, Transaction};

use super::{PgCursor, PgGroup, record};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::record::Lane;
use crate::store::groups::{ParkedOfGroup, Row};
use crate::store::lanes::Lease;
use crate::store::names::Names;
use crate::store::parked::{Parking, RetryResult};
use crate::store::postgres::fragments::fill;
use crate::store::postgres::lanes::park as of_lanes_park;
use crate::store::row::row;

/// The transactions that wrote the parked events, by which it is known whether progress has passed
/// them.
const NOTE_XIDS: &str = "\
update {parked} p set xid = e.xid from {event} e
where e.lane = p.lane and e.seq = p.seq and p.seq = any ($1)
returning p.seq, p.xid::text as xid";

/// Those that a cursor from `$2` on may not have passed. What at-least-once delivery has parked has
/// no transaction, and was passed.
const PERHAPS_BEYOND: &str = "\
select p.lane, p.seq, p.xid::text as xid from unnest($1::smallint[], $2::text[]::xid8[]) as l (lane, from_xid)
join {parked} p on p.lane = l.lane and p.xid >= l.from_xid";

row! {
    struct XidRow {
        seq: i64,
        xid: String,
    }

    struct BeyondRow {
        lane: i16,
        seq: i64,
        xid: String,
    }
}

/// In one transaction with the witness.
pub(super) async fn park(
    mut tx: Transaction<'_, Postgres>,
    of: &PgGroup,
    parked: &[Parking],
) -> Result<Option<(u64, Vec<Row>)>, OutboxError> {
    let Some(witness) = record::witness(&mut tx, of).await? else {
        tx.rollback().await?;
        return Ok(None);
    };
    of_lanes_park::park(&mut tx, &of.names, parked).await?;
    let seqs: Vec<i64> = parked.iter().map(|parking| parking.event.seq).collect();
    let noted: Vec<XidRow> =
        sqlx::query_as(fill(&of.names, NOTE_XIDS)).bind(&seqs).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    failpoint("after-group-parking");
    let rows = noted.into_iter().map(|row| Row { seq: row.seq, xid: number(&row.xid) });
    Ok(Some((witness, rows.collect())))
}

pub(super) async fn save_retry(
    mut tx: Transaction<'_, Postgres>,
    of: &PgGroup,
    lease: Lease,
    result: &RetryResult,
) -> Result<Option<(u64, bool)>, OutboxError> {
    let Some(witness) = record::witness(&mut tx, of).await? else {
        tx.rollback().await?;
        return Ok(None);
    };
    let left = of_lanes_park::save_retry(tx, &of.names, of.owner, lease, result).await?;
    Ok(left.map(|left| (witness, left)))
}

pub(super) async fn of_lanes(
    connection: &mut PgConnection,
    names: &Names,
    lanes: &[(Lane, PgCursor)],
) -> Result<ParkedOfGroup, OutboxError> {
    let numbers: Vec<i16> = lanes.iter().map(|(lane, _)| lane.number()).collect();
    let from: Vec<String> =
        lanes.iter().map(|(_, cursor)| cursor.oldest_unfinished().to_string()).collect();
    let perhaps: Vec<BeyondRow> = sqlx::query_as(fill(names, PERHAPS_BEYOND))
        .bind(&numbers)
        .bind(from)
        .fetch_all(&mut *connection)
        .await?;
    let beyond = perhaps.into_iter().filter_map(|found| {
        let row = Row { seq: found.seq, xid: number(&found.xid) };
        let (lane, cursor) = lanes.iter().find(|(lane, _)| lane.number() == found.lane)?;
        (!cursor.has_passed(row)).then_some((*lane, row))
    });
    let beyond = beyond.collect();
    let lanes = lanes.iter().map(|(lane, _)| *lane).collect::<Vec<_>>();
    let keys = of_lanes_park::known(connection, names, &lanes).await?;
    Ok(ParkedOfGroup { keys, beyond })
}

/// A malformed number is above all others: its event counts as not passed.
fn number(xid: &str) -> u64 {
    xid.parse().unwrap_or(u64::MAX)
}
