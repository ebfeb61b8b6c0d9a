//! The witness: a row that is in a file only if all that was read before is in it, too, and on disk.

use sqlx::SqliteConnection;

use super::SqliteGroup;
use crate::error::OutboxError;
use crate::store::names::{Names, sql};
use crate::store::sqlite::lanes::session::State;

const IS_OURS: &str = "select exists (select 1 from {group} where grp = $1 and claim = $2)";

/// Numbers are those of events, so that one that was read is below all witnesses after it. Beyond
/// `$2`, which was perhaps read before the file went back.
const DRAW: &str =
    "update sqlite_sequence set seq = max(seq, $2) + 1 where name = $1 returning seq";

/// Nothing was ever emitted.
const DRAW_FIRST: &str =
    "insert into sqlite_sequence (name, seq) values ($1, $2 + 1) returning seq";

const WITNESS: &str = "\
insert into {witness} (grp, claim, seq) values ($1, $2, $3)
on conflict (claim) do update set seq = excluded.seq";

/// Writes a witness above `need`, in a transaction of the writer's, and returns it. `None`: the
/// claim is not ours any more.
pub(super) async fn witness(
    connection: &mut SqliteConnection,
    state: &State,
    of: &SqliteGroup,
    need: u64,
) -> Result<Option<u64>, OutboxError> {
    let ours: bool = sqlx::query_scalar(sql(of.names.fill(IS_OURS)))
        .bind(of.group)
        .bind(of.claim)
        .fetch_one(&mut *connection)
        .await?;
    if !ours || !state.has_claimed(of.group, of.claim) {
        return Ok(None);
    }
    // Before it is raised: it tells the states of the file apart.
    state.ensure_same_file(connection, &of.names).await?;
    let seq = draw(connection, &of.names, need.cast_signed()).await?;
    sqlx::query(sql(of.names.fill(WITNESS)))
        .bind(of.group)
        .bind(of.claim)
        .bind(seq)
        .execute(connection)
        .await?;
    Ok(Some(seq.unsigned_abs()))
}

async fn draw(
    connection: &mut SqliteConnection,
    names: &Names,
    need: i64,
) -> Result<i64, sqlx::Error> {
    let table = format!("{}event", names.prefix);
    let drawn: Option<i64> =
        sqlx::query_scalar(DRAW).bind(&table).bind(need).fetch_optional(&mut *connection).await?;
    match drawn {
        Some(drawn) => Ok(drawn),
        None => sqlx::query_scalar(DRAW_FIRST).bind(table).bind(need).fetch_one(connection).await,
    }
}
