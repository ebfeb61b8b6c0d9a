//! The tables. DDL commits at once on MySQL: each statement of a migration can be run again, and
//! the row that records it comes last.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor, MySql, MySqlConnection, MySqlPool};

use super::connection::{self, CONNECT_TIMEOUT};
use super::{server, statement, status};
use crate::error::{ErrorKind, OutboxError};
use crate::record::fnv1a;
use crate::store::error::no_answer;
use crate::store::migrate::{
    AppliedMigration, AppliedRow, Direction, Migrate, Migration, MigrationStatus, MigrationStep,
    apply, events_wait, filled, steps,
};
use crate::store::names::{Names, sql};
use crate::store::sealed::Schema;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    up: include_str!("schema_v1.sql"),
    down: include_str!("schema_v1.down.sql"),
}];

const MIGRATION_TABLE: &str = "\
create table if not exists {migration} (version integer not null primary key, applied_at timestamp(6) not null default current_timestamp(6)) engine = InnoDB;
";

const MAX_IDENTIFIER_CHARACTERS: usize = 64;
const LONGEST_OBJECT: &str = "parked_key";

/// Longest time that another process may take to migrate.
const TURN_WITHIN: Duration = Duration::from_secs(60);
/// Longest time that a migration may take, once its turn has come.
const MIGRATED_WITHIN: Duration = Duration::from_secs(600);

impl Schema for MySql {
    const QUOTE: char = '`';
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const MIGRATION_TABLE: &'static str = MIGRATION_TABLE;

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        let most = MAX_IDENTIFIER_CHARACTERS - LONGEST_OBJECT.len();
        let schema = names.schema.as_deref().unwrap_or_default();
        if names.prefix.chars().count() > most || schema.chars().count() > MAX_IDENTIFIER_CHARACTERS
        {
            return Err(OutboxError::config(format!(
                "the schema or table prefix of the outbox is too long for MySQL: the prefix may have {most} characters, the \
                 schema (a database) {MAX_IDENTIFIER_CHARACTERS}"
            )));
        }
        Ok(())
    }

    async fn migrate(
        pool: &MySqlPool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        migrate_if_needed(pool, names, all, which).await.map_err(OutboxError::migration)
    }

    async fn plan_migration(
        pool: &MySqlPool,
        names: &Names,
        all: &'static [Migration],
        which: Migrate,
    ) -> Result<Vec<MigrationStep>, OutboxError> {
        let plan = planned(pool, names, all, which).await;
        plan.map_err(OutboxError::migration)
    }

    async fn migrations(
        pool: &MySqlPool,
        names: &Names,
        all: &'static [Migration],
    ) -> Result<MigrationStatus, OutboxError> {
        let status = async {
            let mut tx = connection::begin_reading(pool).await?;
            let (names, applied) = applied(&mut tx, names).await?;
            tx.rollback().await?;
            let applied = applied.into_iter().map(AppliedMigration::from).collect();
            Ok(MigrationStatus::new(all, applied, names.schema))
        };
        status.await.map_err(OutboxError::migration)
    }

    async fn located(pool: &MySqlPool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(connection::located(pool, names).await?)
    }
}

async fn migrate_if_needed(
    pool: &MySqlPool,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<Vec<MigrationStep>, OutboxError> {
    // Without a lock, or a right that a service need not have: usually all tables are there.
    let steps = planned(pool, names, all, which).await?;
    if steps.is_empty() {
        return Ok(steps);
    }
    // A session of its own, for a lock that is the session's, and that goes with it.
    let connect = connection::connect(pool);
    let mut connection =
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| no_answer())??;
    let migrated = async {
        if which.direction() == Direction::Up {
            server::check(&mut connection, names).await?;
        }
        await_turn(&mut connection, names).await?;
        let (names, steps) = plan(&mut connection, names, all, which).await?;
        if which.direction() == Direction::Down && !steps.is_empty() && !which.even_if_events_wait {
            check_that_no_events_wait(&mut connection, &names).await?;
        }
        apply::<MySql>(&mut connection, &names, &steps).await?;
        Ok(steps)
    };
    let migrated = tokio::time::timeout(TURN_WITHIN + MIGRATED_WITHIN, migrated)
        .await
        .unwrap_or_else(|_| Err(no_answer()));
    // Without an answer, the lock would end with the session all the same.
    _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close()).await;
    migrated
}

async fn planned(
    pool: &MySqlPool,
    names: &Names,
    all: &'static [Migration],
    which: Migrate,
) -> Result<Vec<MigrationStep>, OutboxError> {
    let mut tx = connection::begin_reading(pool).await?;
    let (_, steps) = plan(&mut tx, names, all, which).await?;
    tx.rollback().await?;
    Ok(steps)
}

/// The steps that are needed, and the names with the database of the tables.
async fn plan(
    connection: &mut MySqlConnection,
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
        let exists: Option<i64> =
            sqlx::query_scalar("select 1 from information_schema.schemata where schema_name = ?")
                .bind(&names.schema)
                .fetch_optional(connection)
                .await?;
        if exists.is_none() {
            first.sql.insert_str(0, &names.fill("create schema {schema};\n"));
        }
    }
    Ok((names, steps))
}

/// The migrations that the tables have, none if there are no tables, and their names with the
/// database that they are in or would be created in.
async fn applied(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<(Names, Vec<AppliedRow>), OutboxError> {
    const FOUND: &str =
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?";
    const APPLIED: &str = "\
select version, cast(unix_timestamp(applied_at) * 1000000 as signed) as at_micros from {migration} order by version";
    let current: Option<String> =
        sqlx::query_scalar("select database()").fetch_one(&mut *connection).await?;
    let schema = names.schema.clone().or(current).ok_or_else(|| {
        OutboxError::config(
            "the outbox's tables have no database to be in: the URL of the connection names none. Nothing was changed. Name one \
             in the URL, as in `mysql://host/shop`, or by `Outbox::builder(pool).schema(…)`",
        )
    })?;
    let names = Names { schema: Some(schema), ..names.clone() };
    let found: Option<i64> = sqlx::query_scalar(FOUND)
        .bind(&names.schema)
        .bind(format!("{}migration", names.prefix))
        .fetch_optional(&mut *connection)
        .await?;
    let applied = match found {
        Some(_) => sqlx::query_as(statement(&names, APPLIED)).fetch_all(connection).await?,
        None => Vec::new(),
    };
    Ok((names, applied))
}

async fn check_that_no_events_wait(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<(), OutboxError> {
    let status = status::read(connection, names).await?;
    let queued: i64 = sqlx::query_scalar(statement(names, "select count(*) from {key_queue}"))
        .fetch_one(connection)
        .await?;
    let parked = status.parked + status.set_aside;
    if status.backlog == 0 && parked == 0 && queued == 0 {
        return Ok(());
    }
    Err(events_wait(status.backlog, parked, queued.unsigned_abs()))
}

/// One migration at a time of these tables, until the session ends.
async fn await_turn(connection: &mut MySqlConnection, names: &Names) -> Result<(), OutboxError> {
    // The name of a lock has at most 64 characters, and is the server's, not the database's.
    let database: Option<String> =
        sqlx::query_scalar("select database()").fetch_one(&mut *connection).await?;
    let of = format!("{}\0{}", database.unwrap_or_default(), names.identity());
    let lock = format!("outbox migrate {:016x}", fnv1a(of.as_bytes()));
    let turn: Option<i64> = sqlx::query_scalar("select get_lock(?, ?)")
        .bind(lock)
        .bind(TURN_WITHIN.as_secs())
        .fetch_one(&mut *connection)
        .await?;
    if turn == Some(1) {
        connection.execute(sql("set session lock_wait_timeout = 60")).await?;
        return Ok(());
    }
    Err(OutboxError::new(
        ErrorKind::Database,
        format!(
            "another process has been creating or changing the outbox's tables for {TURN_WITHIN:?}, and this one did nothing. \
             See what it waits for (`show processlist`), and try again"
        ),
    ))
}
