use sqlx::{Executor, PgPool};

use crate::error::OutboxError;
use crate::store::{Migration, Names, migrate::missing, sql};

pub(super) const MIGRATIONS: &[Migration] = &[Migration { version: 1, sql: include_str!("schema_v1.sql") }];

/// Postgres cuts longer identifiers off, without an error: two outboxes could then share a table.
const MAX_IDENTIFIER_BYTES: usize = 63;
const LONGEST_OBJECT: &str = "inbox_handled_at";

pub(super) fn check_names(names: &Names) -> Result<(), OutboxError> {
    let longest = names.prefix.len() + LONGEST_OBJECT.len();
    if longest > MAX_IDENTIFIER_BYTES || names.schema.as_ref().is_some_and(|s| s.len() > MAX_IDENTIFIER_BYTES)
    {
        return Err(OutboxError::config(format!(
            "the schema or table prefix of the outbox is too long: Postgres cuts names off at {MAX_IDENTIFIER_BYTES} \
             bytes. The prefix may have {} bytes, the schema {MAX_IDENTIFIER_BYTES}",
            MAX_IDENTIFIER_BYTES - LONGEST_OBJECT.len()
        )));
    }
    Ok(())
}

pub(super) async fn migrate(pool: &PgPool, names: &Names) -> Result<(), OutboxError> {
    let mut tx = pool.begin().await?;
    // Without the notice that a table is there already, at every start.
    tx.execute("set local client_min_messages = warning").await?;
    // Held until commit, so that a second process waits here and then finds everything done. Not a session lock:
    // those break behind a transaction pooler.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("outbox migrate {}", names.identity()))
        .execute(&mut *tx)
        .await?;
    if names.schema.is_some() {
        // `create schema if not exists` asks for the right to create one even if it is there.
        let exists: bool = sqlx::query_scalar("select to_regnamespace($1) is not null")
            .bind(names.fill("{schema}"))
            .fetch_one(&mut *tx)
            .await?;
        if !exists {
            tx.execute(sql(names.fill("create schema {schema}"))).await?;
        }
    }
    tx.execute(sql(names.fill(MIGRATION_TABLE))).await?;
    let applied: i32 =
        sqlx::query_scalar(sql(names.fill("select coalesce(max(version), 0) from {migration}")))
            .fetch_one(&mut *tx)
            .await?;
    for migration in missing(MIGRATIONS, applied)? {
        sqlx::raw_sql(sql(names.fill(migration.sql))).execute(&mut *tx).await?;
        sqlx::query(sql(names.fill("insert into {migration} (version) values ($1)")))
            .bind(migration.version)
            .execute(&mut *tx)
            .await?;
        tracing::info!(version = migration.version, tables = names.identity(), "outbox schema migrated");
    }
    tx.commit().await?;
    Ok(())
}

pub(super) const MIGRATION_TABLE: &str = "create table if not exists {migration} (version integer primary key, applied_at timestamptz not null default now());\n";
