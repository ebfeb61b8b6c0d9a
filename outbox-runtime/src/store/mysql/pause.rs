//! Pauses: few rows, which relays read whenever they renew their leases.

use sqlx::{MySql, MySqlConnection, MySqlPool};

use super::{connection, statement};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::pause::{MOST_PAUSES, Pause, PauseRow, PauseScope, too_many_pauses};
use crate::store::sealed::Pausing;

const PAUSES: &str = "\
select scope, target, reason, paused_by, since as since_micros from {pause} order by scope, target";

/// Number of the pauses of other scopes.
const OTHERS: &str = "select count(*) from {pause} where not (scope = ? and target = ?)";

/// A pause of the same scope is replaced, with its time.
const ADD_PAUSE: &str = "\
insert into {pause} (scope, target, reason, paused_by, since) values (?, ?, ?, ?, {now})
on duplicate key update reason = values(reason), paused_by = values(paused_by), since = values(since)";

const REMOVE_PAUSE: &str = "delete from {pause} where scope = ? and target = ?";

impl Pausing for MySql {
    async fn pause(
        pool: &MySqlPool,
        names: &Names,
        scope: &PauseScope,
        reason: &str,
        by: &str,
    ) -> Result<(), StoreError> {
        let (kind, target) = scope.stored();
        let mut tx = connection::begin(pool).await?;
        let others = sqlx::query_scalar(statement(names, OTHERS)).persistent(false);
        let others: i64 = others.bind(kind).bind(&target).fetch_one(&mut *tx).await?;
        if others >= MOST_PAUSES {
            tx.rollback().await?;
            return Err(too_many_pauses().into());
        }
        sqlx::query(statement(names, ADD_PAUSE))
            .persistent(false)
            .bind(kind)
            .bind(target)
            .bind(reason)
            .bind(by)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn resume(
        pool: &MySqlPool,
        names: &Names,
        scope: &PauseScope,
    ) -> Result<bool, StoreError> {
        let (kind, target) = scope.stored();
        let mut tx = connection::begin(pool).await?;
        let remove = sqlx::query(statement(names, REMOVE_PAUSE)).persistent(false);
        let removed = remove.bind(kind).bind(target).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    async fn pauses(pool: &MySqlPool, names: &Names) -> Result<Vec<Pause>, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let pauses = pauses(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(pauses)
    }
}

pub(super) async fn pauses(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<Vec<Pause>, sqlx::Error> {
    let pauses: Vec<PauseRow> =
        sqlx::query_as(statement(names, PAUSES)).fetch_all(connection).await?;
    Ok(pauses.into_iter().map(Pause::from).collect())
}
