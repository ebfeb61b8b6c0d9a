//! The change back to delivery at least once.

use sqlx::SqliteConnection;

use super::SqliteCursor;
use super::claim::delete_parked;
use crate::error::OutboxError;
use crate::store::groups::HandedBack;
use crate::store::names::{Names, sql};
use crate::store::sqlite::lanes::session::State;
use crate::store::sqlite::lanes::set_cursors;

const END_CLAIM: &str = "\
update {group} set ended = claim, claim = null, adopted = 0, handed_back = 1
where grp = $1 and claim = $2";

/// All groups, or none: relays that deliver at least once start as soon as it is committed.
pub(super) async fn hand_back(
    connection: &mut SqliteConnection,
    state: &State,
    names: &Names,
    groups: &[HandedBack<SqliteCursor>],
) -> Result<bool, OutboxError> {
    state.ensure_same_file(connection, names).await?;
    let mut ended = 0;
    for group in groups {
        let end = sqlx::query(sql(names.fill(END_CLAIM))).bind(group.group).bind(group.claim);
        ended += end.execute(&mut *connection).await?.rows_affected();
    }
    let all: i64 = sqlx::query_scalar(sql(names.fill("select count(*) from {group}")))
        .fetch_one(&mut *connection)
        .await?;
    if ended != all.unsigned_abs() {
        return Ok(false);
    }
    sqlx::query(sql(names.fill("delete from {witness}"))).execute(&mut *connection).await?;
    for group in groups {
        // They are met again from the cursor, and would be sent twice as they are.
        delete_parked(connection, names, &group.beyond).await?;
        set_cursors(connection, names, &group.lanes).await?;
    }
    Ok(true)
}
