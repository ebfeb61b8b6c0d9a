//! What the test kit asks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sqlx::{Executor, PgConnection, PgPool, Postgres, Row};

use super::event_row::stored_events;
use super::fragments::fill;
use crate::record::StoredEvent;
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::sealed::Inspect;

const EVENTS: &str = "select {columns} from {event} e order by e.seq";

/// Transactions that no statement runs in, of this database. A transaction that was open before
/// this statement is the connection's own. As text, since the statement is run unprepared: to
/// prepare it would be another statement of the same transaction.
const OPEN_TRANSACTIONS: &str = "\
select 'of process ' || pid || ' of the server, since ' || coalesce(xact_start::text, 'just now') as open
from pg_stat_activity
where datname = current_database() and state like 'idle in transaction%'
union all
select 'of a connection in the pool' where now() < statement_timestamp()";

impl Inspect for Postgres {
    async fn events(pool: &PgPool, names: &Names) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(fill(names, EVENTS)).fetch_all(pool).await?;
        Ok(stored_events(&rows)?)
    }

    async fn keep(_: &PgPool) -> Option<PgConnection> {
        None
    }

    async fn hold_answers(_: &mut PgConnection, _: Arc<AtomicBool>) -> Result<(), sqlx::Error> {
        // They take longer than a poll.
        Ok(())
    }

    async fn open_transactions(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let rows = connection.fetch_all(sqlx::raw_sql(OPEN_TRANSACTIONS)).await?;
        rows.iter().map(|row| row.try_get("open")).collect()
    }
}
