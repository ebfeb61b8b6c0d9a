//! Pauses: few rows, which relays read whenever they renew their leases.

use sqlx::{PgConnection, PgPool, Postgres};

use super::fragments::fill;
use super::{connection, unnamed, wakeup};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::pause::{MOST_PAUSES, Pause, PauseRow, PauseScope, too_many_pauses};
use crate::store::sealed::Pausing;

const PAUSES: &str = "\
select scope, target, reason, paused_by, (extract(epoch from since) * 1000000)::bigint as since_micros
from {pause} order by scope, target";

/// A pause of the same scope is replaced, with its time.
const ADD_PAUSE: &str = "\
insert into {pause} (scope, target, reason, paused_by)
select $1, $2, $3, $4
where (select count(*) from {pause}) < $5 or exists (select from {pause} where scope = $1 and target = $2)
on conflict (scope, target) do update
set reason = excluded.reason, paused_by = excluded.paused_by, since = excluded.since";

const REMOVE_PAUSE: &str = "delete from {pause} where scope = $1 and target = $2";

impl Pausing for Postgres {
    async fn pause(
        pool: &PgPool,
        names: &Names,
        scope: &PauseScope,
        reason: &str,
        by: &str,
    ) -> Result<(), StoreError> {
        let (kind, target) = scope.stored();
        let mut tx = connection::begin(pool).await?;
        let added = unnamed::query(fill(names, ADD_PAUSE))
            .bind(kind)
            .bind(target)
            .bind(reason)
            .bind(by)
            .bind(MOST_PAUSES)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if added.rows_affected() == 0 {
            return Err(too_many_pauses().into());
        }
        Ok(wakeup::call_relays(pool, &connection::located(pool, names).await?).await?)
    }

    async fn resume(pool: &PgPool, names: &Names, scope: &PauseScope) -> Result<bool, StoreError> {
        let (kind, target) = scope.stored();
        let mut tx = connection::begin(pool).await?;
        let removed = unnamed::query(fill(names, REMOVE_PAUSE))
            .bind(kind)
            .bind(target)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        wakeup::call_relays(pool, &connection::located(pool, names).await?).await?;
        Ok(removed.rows_affected() > 0)
    }

    async fn pauses(pool: &PgPool, names: &Names) -> Result<Vec<Pause>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let pauses = pauses(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(pauses)
    }
}

pub(super) async fn pauses(
    connection: &mut PgConnection,
    names: &Names,
) -> Result<Vec<Pause>, sqlx::Error> {
    let pauses: Vec<PauseRow> =
        unnamed::query_as(fill(names, PAUSES)).fetch_all(connection).await?;
    Ok(pauses.into_iter().map(Pause::from).collect())
}
