//! The tables.

use std::sync::Arc;

use sqlx::{Executor, Sqlite, SqlitePool};

use crate::error::OutboxError;
use crate::store::begun::Begun;
use crate::store::migrate::{Migration, apply, missing};
use crate::store::names::{Names, sql};
use crate::store::sealed::{EventWriter as _, Schema};
use crate::store::tx_options::TxOptions;

const MIGRATIONS: &[Migration] = &[Migration { version: 1, sql: include_str!("schema_v1.sql") }];

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

    async fn migrate(pool: &SqlitePool, names: &Names) -> Result<(), OutboxError> {
        migrate_if_needed(pool, names).await.map_err(OutboxError::migration)
    }

    async fn located(_: &SqlitePool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(names.clone()))
    }
}

async fn migrate_if_needed(pool: &SqlitePool, names: &Names) -> Result<(), OutboxError> {
    // As the writer, so that a second process waits here and then finds everything done.
    let mut tx = Begun::on(pool, Sqlite::begin_statement(TxOptions::new())).await?;
    tx.execute(sql(names.fill(MIGRATION_TABLE))).await?;
    let applied: i32 =
        sqlx::query_scalar(sql(names.fill("select coalesce(max(version), 0) from {migration}")))
            .fetch_one(&mut *tx)
            .await?;
    apply::<Sqlite>(&mut tx, names, missing(MIGRATIONS, applied)?).await?;
    tx.commit().await?;
    Ok(())
}

const MIGRATION_TABLE: &str = "create table if not exists {migration} (version integer primary key, applied_at integer not null default (unixepoch()));\n";
