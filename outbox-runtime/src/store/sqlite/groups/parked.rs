//! Parked events under exactly-once delivery: what progress passes over rests on their rows.

use sqlx::SqliteConnection;

use super::{SqliteCursor, SqliteGroup, record};
use crate::error::OutboxError;
use crate::record::Lane;
use crate::store::groups::{ParkedOfGroup, Row};
use crate::store::lanes::Lease;
use crate::store::names::{Names, sql};
use crate::store::parked::{Parking, RetryResult};
use crate::store::sqlite::lanes::park as of_lanes_park;
use crate::store::sqlite::lanes::session::State;

/// By their numbers, and not by the lane's index: few are beyond a cursor.
const BEYOND: &str = "select seq from {parked} where seq > $1 and +lane = $2 order by seq";

/// In one transaction with the witness.
pub(super) async fn park(
    connection: &mut SqliteConnection,
    state: &State,
    of: &SqliteGroup,
    parked: &[Parking],
) -> Result<Option<u64>, OutboxError> {
    let witness = record::witness(connection, state, of, 0).await?;
    if witness.is_some() {
        of_lanes_park::park(connection, &of.names, parked).await?;
    }
    Ok(witness)
}

pub(super) async fn save_retry(
    connection: &mut SqliteConnection,
    state: &State,
    of: &SqliteGroup,
    lease: Lease,
    result: &RetryResult,
) -> Result<Option<(u64, bool)>, OutboxError> {
    let Some(witness) = record::witness(connection, state, of, 0).await? else { return Ok(None) };
    let left = of_lanes_park::save_retry(connection, &of.names, of.owner, lease, result).await?;
    Ok(left.map(|left| (witness, left)))
}

pub(super) async fn of_lanes(
    connection: &mut SqliteConnection,
    names: &Names,
    lanes: &[(Lane, SqliteCursor)],
) -> Result<ParkedOfGroup, OutboxError> {
    let mut of_group = ParkedOfGroup::default();
    for (lane, cursor) in lanes {
        let beyond: Vec<i64> = sqlx::query_scalar(sql(names.fill(BEYOND)))
            .bind(cursor.0)
            .bind(lane.number())
            .fetch_all(&mut *connection)
            .await?;
        of_group.beyond.extend(beyond.into_iter().map(|seq| (*lane, Row { seq, xid: 0 })));
        let keys = of_lanes_park::keys(connection, names, *lane).await?;
        of_group.keys.push((*lane, keys));
    }
    Ok(of_group)
}
