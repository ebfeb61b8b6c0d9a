//! The tables.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Executor, PgConnection, PgPool, Postgres};

use super::{connection, server, status, unnamed};
use crate::error::{ErrorKind, OutboxError};
use crate::store::migrate::{
    AppliedMigration, AppliedRow, Direction, Migrate, Migration, MigrationStatus, MigrationStep,
    apply, events_wait, filled, steps,
};
use crate::store::names::{Names, sql};
use crate::store::row::row;
use crate::store::sealed::Schema;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    up: include_str!("schema_v1.sql"),
    down: include_str!("schema_v1.down.sql"),
}];

/// Postgres cuts longer identifiers off, without an error: two outboxes could then share a table.
const MAX_IDENTIFIER_BYTES: usize = 63;
const LONGEST_OBJECT: &str = "inbox_handled_at";

impl Schema for Postgres {
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const MIGRATION_TABLE: &'static str = MIGRATION_TABLE;

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        let longest = names.prefix.len() + LONGEST_OBJECT.len();
        if longest > MAX_IDENTIFIER_BYTES
            || names.schema.as_ref().is_some_and(|s| s.len() > MAX_IDENTIFIER_BYTES)
        {
            return Err(OutboxError::config(format!(
                "the schema or table prefix of the outbox is too long: Postgres cuts names off at {MAX_IDENTIFIER_BYTES} \
                 bytes. The prefix may have {} bytes, the schema {MAX_IDENTIFIER_BYTES}",
                MAX_IDENTIFIER_BYTES - LONGEST_OBJECT.len()
            )));
        }
        Ok(())
    }

    async fn migrate(
        pool: &PgPool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        match migrate_if_needed(pool, names, all, which).await {
            // A server that is not Postgres may refuse any statement.
            Err(error) => {
                if let Some(sqlx::Error::Database(_)) = error.as_sqlx_error() {
                    server::refuse_if_unsupported(pool).await?;
                }
                Err(OutboxError::migration(error))
            }
            migrated => migrated,
        }
    }

    async fn plan_migration(
        pool: &PgPool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        let plan = async {
            let mut tx = connection::begin_reading(pool).await?;
            let steps = plan(&mut tx, names, all, which).await?;
            tx.rollback().await?;
            Ok(steps.1)
        };
        plan.await.map_err(OutboxError::migration)
    }

    async fn migrations(
        pool: &PgPool,
        names: &Names,
        all: &'static [Migration],
    ) -> Result<MigrationStatus, OutboxError> {
        migration_status(pool, names, all).await.map_err(OutboxError::migration)
    }

    async fn located(pool: &PgPool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(connection::located(pool, names).await?))
    }
}

/// Longest time that another process may take to migrate.
const TURN_WITHIN: Duration = Duration::from_secs(60);
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// The settings that the tables depend on.
const SETTINGS: &str = "\
set local client_min_messages = warning; set local standard_conforming_strings = on; \
set local default_table_access_method = heap; set local check_function_bodies = on";

async fn migrate_if_needed(
    pool: &PgPool,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<Vec<MigrationStep>, OutboxError> {
    // Without a lock, or a right that a service need not have: usually all tables are there.
    let mut tx = connection::begin_reading(pool).await?;
    let (_, steps) = plan(&mut tx, names, all, which).await?;
    tx.rollback().await?;
    if steps.is_empty() {
        return Ok(steps);
    }
    if which.direction() == Direction::Up {
        server::refuse_if_unsupported(pool).await?;
    }
    let mut tx = connection::begin(pool).await?;
    tx.execute(SETTINGS).await?;
    await_turn(&mut tx).await?;
    // In a new statement, which sees what was committed before our turn came.
    let (names, steps) = plan(&mut tx, names, all, which).await?;
    if steps.is_empty() {
        tx.rollback().await?;
        return Ok(steps);
    }
    if which.direction() == Direction::Down {
        keep_events_away(&mut tx, &names).await?;
        if !which.even_if_events_wait {
            check_that_no_events_wait(&mut tx, &names).await?;
        }
    }
    apply::<Postgres>(&mut tx, &names, &steps).await?;
    tx.commit().await?;
    Ok(steps)
}

/// The steps that are needed, and the names with the schema of the tables.
async fn plan(
    connection: &mut PgConnection,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<(Names, Vec<MigrationStep>), OutboxError> {
    let (names, applied) = applied(connection, names).await?;
    let applied = applied.iter().map(|row| row.version).max().unwrap_or(0);
    let steps = steps(all, applied, which)?;
    let mut steps = filled(&names, MIGRATION_TABLE, &steps, which.direction());
    if let Some(first) = steps.first_mut().filter(|_| applied == 0) {
        // `create schema if not exists` asks for the right to create one even if it is there.
        let exists: bool = unnamed::query_scalar("select to_regnamespace($1) is not null")
            .bind(names.fill("{schema}"))
            .fetch_one(connection)
            .await?;
        if !exists {
            first.sql.insert_str(0, &names.fill("create schema {schema};\n"));
        }
    }
    Ok((names, steps))
}

async fn migration_status(
    pool: &PgPool,
    names: &Names,
    all: &'static [Migration],
) -> Result<MigrationStatus, OutboxError> {
    let mut tx = connection::begin_reading(pool).await?;
    let (names, applied) = applied(&mut tx, names).await?;
    tx.rollback().await?;
    let applied = applied.into_iter().map(AppliedMigration::from).collect();
    Ok(MigrationStatus::new(all, applied, names.schema))
}

/// No event is written between the check that none waits and the end of the tables.
async fn keep_events_away(tx: &mut PgConnection, names: &Names) -> Result<(), OutboxError> {
    tx.execute("set local lock_timeout = '10s'").await?;
    let lock = "lock table {event}, {parked}, {key_queue} in access exclusive mode";
    tx.execute(sql(names.fill(lock))).await?;
    Ok(())
}

async fn check_that_no_events_wait(
    tx: &mut PgConnection,
    names: &Names,
) -> Result<(), OutboxError> {
    let status = status::read(tx, names).await?;
    let queued: i64 = unnamed::query_scalar(sql(names.fill("select count(*) from {key_queue}")))
        .fetch_one(tx)
        .await?;
    let parked = status.parked + status.set_aside;
    if status.backlog == 0 && parked == 0 && queued == 0 {
        return Ok(());
    }
    Err(events_wait(status.backlog, parked, queued.unsigned_abs()))
}

/// One migration at a time in a database, until its transaction ends. Not a session lock: those
/// break behind a transaction pooler. It is requested repeatedly instead of waited for: a wait
/// would end by a `lock_timeout` that is not ours.
async fn await_turn(tx: &mut PgConnection) -> Result<(), OutboxError> {
    const OUR_TURN: &str =
        "select pg_try_advisory_xact_lock(hashtextextended('outbox migrate', 0))";
    let turn = async {
        while !unnamed::query_scalar::<bool>(OUR_TURN).fetch_one(&mut *tx).await? {
            tokio::time::sleep(TURN_PAUSE).await;
        }
        Ok(())
    };
    tokio::time::timeout(TURN_WITHIN, turn).await.unwrap_or_else(|_| {
        Err(OutboxError::new(
            ErrorKind::Database,
            format!(
                "another process has been creating or changing the outbox's tables for {TURN_WITHIN:?}, and this one did \
                 nothing. See what it waits for (`pg_stat_activity`), and try again"
            ),
        ))
    })
}

row! {
    /// Schemas of the tables.
    struct Located {
        /// The schema that they are in. `None`: there are none.
        found: Option<String>,
        /// The schema that they would be created in.
        current: Option<String>,
    }
}

/// The migrations that the tables have, none if there are no tables, and their names with the
/// schema that they are in or would be created in.
async fn applied(
    tx: &mut PgConnection,
    names: &Names,
) -> Result<(Names, Vec<AppliedRow>), OutboxError> {
    const WHERE: &str = "\
select (select n.nspname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = to_regclass($1)) as found,
       current_schema()::text as current";
    const APPLIED: &str = "\
select version, (extract(epoch from applied_at) * 1000000)::bigint as at_micros from {migration} order by version";
    let Located { found, current } =
        unnamed::query_as(WHERE).bind(names.fill("{migration}")).fetch_one(&mut *tx).await?;
    let schema = names.schema.clone().or_else(|| found.clone()).or(current).ok_or_else(|| {
        OutboxError::config(
            "the outbox's tables have no schema to be in: none of those in the connection's `search_path` exists. Nothing \
             was changed. Create one of them, or name one by `Outbox::builder(pool).schema(…)`",
        )
    })?;
    let names = Names { schema: Some(schema), ..names.clone() };
    let applied = match found {
        Some(_) => unnamed::query_as(sql(names.fill(APPLIED))).fetch_all(&mut *tx).await?,
        None => Vec::new(),
    };
    Ok((names, applied))
}

const MIGRATION_TABLE: &str = "create table if not exists {migration} (version integer primary key, applied_at timestamptz not null default now());\n";
