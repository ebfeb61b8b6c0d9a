//! Pauses: few rows, which relays read whenever they renew their leases.

use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::clock::unix_millis;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::pause::{MOST_PAUSES, Pause, PauseRow, PauseScope, too_many_pauses};
use crate::store::sealed::Pausing;

const PAUSES: &str = "\
select scope, target, reason, paused_by, since * 1000 as since_micros from {pause} order by scope, target";

/// A pause of the same scope is replaced, with its time.
const ADD_PAUSE: &str = "\
insert into {pause} (scope, target, reason, paused_by, since)
select $1, $2, $3, $4, $5
where (select count(*) from {pause}) < $6 or exists (select 1 from {pause} where scope = $1 and target = $2)
on conflict (scope, target) do update
set reason = excluded.reason, paused_by = excluded.paused_by, since = excluded.since";

const REMOVE_PAUSE: &str = "delete from {pause} where scope = $1 and target = $2";

impl Pausing for Sqlite {
    async fn pause(
        pool: &SqlitePool,
        names: &Names,
        scope: &PauseScope,
        reason: &str,
        by: &str,
    ) -> Result<(), StoreError> {
        let (kind, target) = scope.stored();
        let added = sqlx::query(sql(names.fill(ADD_PAUSE)))
            .bind(kind)
            .bind(target)
            .bind(reason)
            .bind(by)
            .bind(unix_millis())
            .bind(MOST_PAUSES)
            .execute(pool)
            .await?;
        if added.rows_affected() == 0 {
            return Err(too_many_pauses().into());
        }
        Ok(())
    }

    async fn resume(
        pool: &SqlitePool,
        names: &Names,
        scope: &PauseScope,
    ) -> Result<bool, StoreError> {
        let (kind, target) = scope.stored();
        let remove = sqlx::query(sql(names.fill(REMOVE_PAUSE))).bind(kind).bind(target);
        Ok(remove.execute(pool).await?.rows_affected() > 0)
    }

    async fn pauses(pool: &SqlitePool, names: &Names) -> Result<Vec<Pause>, StoreError> {
        Ok(pauses(&mut *pool.acquire().await?, names).await?)
    }
}

pub(super) async fn pauses(
    connection: &mut SqliteConnection,
    names: &Names,
) -> Result<Vec<Pause>, sqlx::Error> {
    let pauses: Vec<PauseRow> =
        sqlx::query_as(sql(names.fill(PAUSES))).fetch_all(connection).await?;
    Ok(pauses.into_iter().map(Pause::from).collect())
}
