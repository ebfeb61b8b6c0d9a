//! Is the server one on which reading can rest?
//!
//! A relay tells the events that it has read from those that commit late by the ids of transactions
//! and by snapshots, which say which transactions are open. Databases that only speak the protocol
//! of Postgres may lack the functions for it, or have them and answer something else.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Row as _};

use super::connection::{self, CONNECT_TIMEOUT};
use crate::error::{ErrorKind, OutboxError};
use crate::store::databases::fault_of_database;
use crate::store::fault::Fault;
use crate::store::names::{literal, sql};

/// Checks that a snapshot of the session `other` shows a transaction of the session `one` as open
/// while it is, and no longer. Both are then as they were before.
///
/// # Errors
/// If the server cannot hold an outbox (kind `Config`), or could not be asked.
pub(super) async fn check(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<(), OutboxError> {
    let why = match snapshots_hold(one, other).await {
        Ok(true) => return Ok(()),
        Ok(false) => "its snapshots do not say which transactions are open".to_owned(),
        Err(sqlx::Error::Database(error)) if is_lacking(&*error) => {
            error.message().trim_end_matches('.').to_owned()
        }
        Err(error) => return Err(error.into()),
    };
    Err(unsupported(&version(other).await, &why))
}

/// The same over two new connections to where `pool` connects, before tables are created.
///
/// # Errors
/// If the server cannot hold an outbox. If it could not be asked, what comes next says why.
pub(super) async fn refuse_if_unsupported(pool: &PgPool) -> Result<(), OutboxError> {
    let ask = async {
        let mut one = connection::connect(pool).await?;
        let mut other = connection::connect(pool).await?;
        check(&mut one, &mut other).await?;
        one.close().await?;
        Ok(other.close().await?)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, ask).await {
        Ok(Err(error)) if is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn is_unsupported(error: &OutboxError) -> bool {
    error.kind() == ErrorKind::Config
}

/// By the simple protocol: behind a transaction pooler, statements are not prepared where they run.
async fn snapshots_hold(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    // A session's default may be one that waits for other transactions (`deferrable`).
    const BEGIN: &str = "begin isolation level read committed read write";
    one.execute(BEGIN).await?;
    other.execute(BEGIN).await?;
    let xid = text(one, "select pg_catalog.pg_current_xact_id()::text").await?;
    let is_visible = format!(
        "select pg_catalog.pg_visible_in_snapshot({}::pg_catalog.xid8, pg_catalog.pg_current_snapshot())::text",
        literal(&xid)
    );
    let while_open = text(other, &is_visible).await?;
    one.execute("commit").await?;
    let afterwards = text(other, &is_visible).await?;
    other.execute("commit").await?;
    Ok(while_open == "false" && afterwards == "true")
}

async fn text(connection: &mut PgConnection, statement: &str) -> Result<String, sqlx::Error> {
    let row: PgRow = sqlx::raw_sql(sql(statement.to_owned())).fetch_one(connection).await?;
    row.try_get(0)
}

/// Whether the server has no such function or type, or says that it does not support it.
fn is_lacking(error: &dyn DatabaseError) -> bool {
    matches!(fault_of_database(error), Fault::MissingColumn | Fault::Unsupported)
}

async fn version(connection: &mut PgConnection) -> String {
    const LONGEST: usize = 100;
    // An error has left its transaction open.
    let version = text(connection, "rollback; select version()").await;
    version.map_or_else(
        |_| "a server of unknown version".to_owned(),
        |version| version.chars().filter(|c| !c.is_control()).take(LONGEST).collect(),
    )
}

fn unsupported(version: &str, why: &str) -> OutboxError {
    OutboxError::config(format!(
        "this database cannot hold an outbox: {version}. {why}, and by these a relay finds the events that commit late; it \
         would lose some without a word. Nothing was started or changed, and events that are in the outbox stay there. Use \
         PostgreSQL 14 or later itself, self-managed or of a cloud (RDS, Aurora, Cloud SQL, AlloyDB, Azure, …), not a database \
         that only speaks its protocol (CockroachDB, YugabyteDB, Aurora DSQL, Spanner): docs/guide/scaling.md says why"
    ))
}
