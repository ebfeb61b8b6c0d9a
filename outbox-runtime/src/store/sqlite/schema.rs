//! The tables.

use std::sync::Arc;

use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::status;
use crate::error::OutboxError;
use crate::store::begun::Begun;
use crate::store::migrate::{
    AppliedMigration, AppliedRow, Direction, Migrate, Migration, MigrationStatus, MigrationStep,
    apply, events_wait, filled, steps,
};
use crate::store::names::{Names, sql};
use crate::store::sealed::{EventWriter as _, Schema};
use crate::store::tx_options::TxOptions;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    up: include_str!("schema_v1.sql"),
    down: include_str!("schema_v1.down.sql"),
}];

impl Schema for Sqlite {
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const MIGRATION_TABLE: &'static str = MIGRATION_TABLE;

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        if names.schema.is_some() {
            return Err(OutboxError::config(
                "SQLite has no schemas: leave `schema` out, and tell several outboxes in one file apart by `table_prefix`",
            ));
        }
        Ok(())
    }

    async fn migrate(
        pool: &SqlitePool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        migrate_if_needed(pool, names, all, which).await.map_err(OutboxError::migration)
    }

    async fn plan_migration(
        pool: &SqlitePool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        let plan = async { plan(&mut *pool.acquire().await?, names, all, which).await };
        plan.await.map_err(OutboxError::migration)
    }

    async fn migrations(
        pool: &SqlitePool,
        names: &Names,
        all: &'static [Migration],
    ) -> Result<MigrationStatus, OutboxError> {
        let status = async {
            let applied = applied(&mut *pool.acquire().await?, names).await?;
            let applied = applied.into_iter().map(AppliedMigration::from).collect();
            Ok(MigrationStatus::new(all, applied, None))
        };
        status.await.map_err(OutboxError::migration)
    }

    async fn located(_: &SqlitePool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(names.clone()))
    }
}

async fn migrate_if_needed(
    pool: &SqlitePool,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<Vec<MigrationStep>, OutboxError> {
    // As the writer, so that a second process waits here and then finds everything done.
    let mut tx = Begun::on(pool, Sqlite::begin_statement(TxOptions::new())).await?;
    let steps = plan(&mut tx, names, all, which).await?;
    if which.direction() == Direction::Down && !steps.is_empty() && !which.even_if_events_wait {
        check_that_no_events_wait(&mut tx, names).await?;
    }
    apply::<Sqlite>(&mut tx, names, &steps).await?;
    tx.commit().await?;
    Ok(steps)
}

/// The steps that are needed.
async fn plan(
    connection: &mut SqliteConnection,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<Vec<MigrationStep>, OutboxError> {
    let applied = applied(connection, names).await?;
    let applied = applied.iter().map(|row| row.version).max().unwrap_or(0);
    let steps = steps(all, applied, which)?;
    Ok(filled(names, MIGRATION_TABLE, &steps, which.direction()))
}

/// The migrations that the tables have; none if there are no tables.
async fn applied(
    connection: &mut SqliteConnection,
    names: &Names,
) -> Result<Vec<AppliedRow>, sqlx::Error> {
    const APPLIED: &str =
        "select version, applied_at * 1000000 as at_micros from {migration} order by version";
    let found: i64 = sqlx::query_scalar(
        "select count(*) from sqlite_master where type = 'table' and name = $1 || 'migration'",
    )
    .bind(&names.prefix)
    .fetch_one(&mut *connection)
    .await?;
    if found == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_as(sql(names.fill(APPLIED))).fetch_all(connection).await
}

async fn check_that_no_events_wait(
    connection: &mut SqliteConnection,
    names: &Names,
) -> Result<(), OutboxError> {
    let status = status::read(connection, names).await?;
    let queued: i64 = sqlx::query_scalar(sql(names.fill("select count(*) from {key_queue}")))
        .fetch_one(connection)
        .await?;
    let parked = status.parked + status.set_aside;
    if status.backlog == 0 && parked == 0 && queued == 0 {
        return Ok(());
    }
    Err(events_wait(status.backlog, parked, queued.unsigned_abs()))
}

const MIGRATION_TABLE: &str = "create table if not exists {migration} (version integer primary key, applied_at integer not null default (unixepoch()));\n";
