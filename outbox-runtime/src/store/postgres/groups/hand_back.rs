//! The change back to delivery at least once.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::claim::delete_parked;
use super::{PgCursor, PgGroup};
use crate::error::OutboxError;
use crate::store::groups::HandedBack;
use crate::store::postgres::fragments::fill;
use crate::store::postgres::lanes::insert_cursors;

/// Whoever claims one of them meanwhile waits for this, and claims nothing then.
const END_CLAIMS: &str = "\
update {group} g
set ended = g.claim, claim = null, adopted = false, earlier = array[]::uuid[], handed_back = true
from unnest($1::smallint[], $2::uuid[]) as held (grp, claim)
where g.grp = held.grp and g.claim = held.claim";

/// All groups, or none: relays that deliver at least once start as soon as it is committed.
pub(super) async fn hand_back(
    connection: &mut PgConnection,
    of: &PgGroup,
    groups: &[HandedBack<PgCursor>],
) -> Result<bool, OutboxError> {
    let names = &of.names;
    let mut tx = connection.begin_with("begin isolation level read committed read write").await?;
    let ended = sqlx::query(fill(names, END_CLAIMS))
        .bind(groups.iter().map(|group| group.group as i16).collect::<Vec<_>>())
        .bind(groups.iter().map(|group| group.claim).collect::<Vec<Uuid>>())
        .execute(&mut *tx)
        .await?;
    let all: i64 =
        sqlx::query_scalar(fill(names, "select count(*) from {group}")).fetch_one(&mut *tx).await?;
    if ended.rows_affected() != all.unsigned_abs() {
        tx.rollback().await?;
        return Ok(false);
    }
    for group in groups {
        // They are met again from the cursor, and would be sent twice as they are.
        delete_parked(&mut tx, names, &group.beyond).await?;
        insert_cursors(&mut tx, names, &group.lanes).await?;
    }
    tx.commit().await?;
    Ok(true)
}
