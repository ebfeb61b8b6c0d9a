//! Migrations: embedded, versioned, and printable for teams who run their own.

use sqlx::{Database, Executor};

use super::names::{Names, sql};
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;

/// One step of the schema. Once released it never changes.
#[derive(Debug)]
pub struct Migration {
    /// 1, 2, 3, …
    pub(crate) version: i32,
    /// A template for [`Names::fill`]; several statements.
    pub(crate) sql: &'static str,
}

/// The migrations that a database at version `applied` still lacks.
pub(crate) fn missing(
    all: &'static [Migration],
    applied: i32,
) -> Result<&'static [Migration], OutboxError> {
    let known = all.last().map_or(0, |migration| migration.version);
    if applied > known {
        return Err(OutboxError::new(
            ErrorKind::NotMigrated,
            format!(
                "the outbox's tables are of version {applied}, and this program knows versions up to {known}; nothing \
                 was changed. Deploy a program with the `outbox` version that migrated them, or a newer one"
            ),
        ));
    }
    Ok(&all[all.len() - (known - applied) as usize..])
}

/// All migrations as one script, with the names filled in.
pub(crate) fn script(names: &Names, table: &str, migrations: &[Migration]) -> String {
    let mut script = String::new();
    if names.schema.is_some() {
        script.push_str(&names.fill("create schema if not exists {schema};\n"));
    }
    script.push_str(&names.fill(table));
    for migration in migrations {
        let version = migration.version;
        script.push_str(&format!("\n-- outbox schema, version {version}\n"));
        script.push_str(&names.fill(migration.sql));
        script.push_str(&names.fill("insert into {migration} (version) values "));
        script.push_str(&format!("({version});\n"));
    }
    script
}

/// Applies these migrations, in the transaction that is open on `connection`.
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
pub(crate) async fn apply<DB: Database>(
    connection: &mut DB::Connection,
    names: &Names,
    migrations: &[Migration],
) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    for Migration { version, sql: statements } in migrations {
        connection.execute(sql(names.fill(statements))).await?;
        let applied =
            names.fill(&format!("insert into {{migration}} (version) values ({version})"));
        connection.execute(sql(applied)).await?;
        tracing::info!(
            target: target::STORE,
            version,
            tables = names.identity(),
            "outbox schema migrated"
        );
    }
    Ok(())
}
