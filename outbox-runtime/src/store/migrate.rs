//! Migrations: embedded, versioned, up and down, and printable for teams who run their own.

use std::time::SystemTime;

use sqlx::{Database, Executor};

use super::admin::at;
use super::names::{Names, sql};
use super::row::row;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;

/// One version of the schema. Once released it never changes.
#[derive(Debug)]
pub struct Migration {
    /// 1, 2, 3, …
    pub(crate) version: i32,
    /// A template for [`Names::fill`], of several statements, that leads to it from the version
    /// before.
    pub(crate) up: &'static str,
    /// The same, back to the version before.
    pub(crate) down: &'static str,
}

/// Which migrations to run.
///
/// ```
/// use outbox::admin::Migrate;
///
/// let to_the_latest = Migrate::up();
/// let one_version_back = Migrate::down(1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrate {
    direction: Direction,
    to: Target,
    pub(crate) even_if_events_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Latest,
    Version(u32),
    StepsBack(u32),
}

/// Whether a migration leads to a version or back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the version.
    Up,
    /// From the version to the one before.
    Down,
}

impl Migrate {
    /// Up to the latest version that this program knows.
    #[must_use]
    pub fn up() -> Self {
        Self { direction: Direction::Up, to: Target::Latest, even_if_events_wait: false }
    }

    /// Up to this version. Nothing is done if the tables have it already, or a later one.
    #[must_use]
    pub fn up_to(version: u32) -> Self {
        Self { to: Target::Version(version), ..Self::up() }
    }

    /// Back by so many versions, at most until there are no tables left.
    #[must_use]
    pub fn down(steps: u32) -> Self {
        Self { direction: Direction::Down, to: Target::StepsBack(steps), ..Self::up() }
    }

    /// Back to this version; 0 removes the tables. Nothing is done if the tables have it already,
    /// or an earlier one.
    #[must_use]
    pub fn down_to(version: u32) -> Self {
        Self { to: Target::Version(version), ..Self::down(0) }
    }

    /// Goes back even if that removes events that are not published, parked ones, or those that
    /// wait in a consumer. They are lost.
    #[must_use]
    pub fn even_if_events_wait(mut self) -> Self {
        self.even_if_events_wait = true;
        self
    }

    pub(crate) fn direction(self) -> Direction {
        self.direction
    }
}

/// One migration, with what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStep {
    /// The version that it leads to, or back from.
    pub version: u32,
    /// Which of the two.
    pub direction: Direction,
    /// Its statements, with the names of the tables, as one script.
    pub sql: String,
}

/// A migration that a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppliedMigration {
    /// Its version.
    pub version: u32,
    /// Time at which it was applied, by the clock of the database.
    pub at: SystemTime,
}

row! {
    /// An applied migration, as stores return it.
    pub(crate) struct AppliedRow {
        version: i32,
        at_micros: i64,
    }
}

impl From<AppliedRow> for AppliedMigration {
    fn from(AppliedRow { version, at_micros }: AppliedRow) -> Self {
        Self { version: version.unsigned_abs(), at: at(at_micros) }
    }
}

/// Where the tables of an outbox are, and of which version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// Version of the tables; 0 if there are none.
    pub version: u32,
    /// Latest version that this program knows. The tables may have a later one: then this program
    /// is too old for them.
    pub latest: u32,
    /// The migrations that were applied, in order.
    pub applied: Vec<AppliedMigration>,
    /// Schema of the tables, or the one that they would be created in. `None`: the database has no
    /// schemas.
    pub schema: Option<String>,
}

impl MigrationStatus {
    pub(crate) fn new(
        all: &[Migration],
        applied: Vec<AppliedMigration>,
        schema: Option<String>,
    ) -> Self {
        let latest = all.last().map_or(0, |migration| migration.version.unsigned_abs());
        let version = applied.iter().map(|applied| applied.version).max().unwrap_or(0);
        Self { version, latest, applied, schema }
    }
}

/// The steps that a database at version `applied` still needs. Templates, in their order.
pub(crate) fn steps(
    all: &'static [Migration],
    applied: i32,
    which: Migrate,
) -> Result<Vec<&'static Migration>, OutboxError> {
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
    let to = match which.to {
        Target::Latest => known,
        Target::Version(version) => i32::try_from(version).unwrap_or(i32::MAX),
        Target::StepsBack(steps) => {
            applied.saturating_sub(i32::try_from(steps).unwrap_or(i32::MAX)).max(0)
        }
    };
    if to > known {
        return Err(OutboxError::config(format!(
            "version {to} of the outbox's tables is not known to this program, whose latest is {known}; nothing was changed"
        )));
    }
    let is_between = |from: i32, to: i32| {
        move |migration: &&Migration| migration.version > from && migration.version <= to
    };
    Ok(match which.direction {
        Direction::Up => all.iter().filter(is_between(applied, to)).collect(),
        Direction::Down => all.iter().rev().filter(is_between(to, applied)).collect(),
    })
}

impl MigrationStep {
    /// The step with the names filled in. It includes what records it.
    pub(crate) fn new(names: &Names, migration: &Migration, direction: Direction) -> Self {
        let Migration { version, up, down } = *migration;
        let sql = match direction {
            Direction::Up => {
                format!("{up}insert into {{migration}} (version) values ({version});\n")
            }
            Direction::Down if version > 1 => {
                format!("{down}delete from {{migration}} where version = {version};\n")
            }
            Direction::Down => format!("{down}drop table {{migration}};\n"),
        };
        Self { version: version.unsigned_abs(), direction, sql: names.fill(&sql) }
    }
}

/// These steps, and what has to be there for the first one: `table` creates the table of applied
/// migrations.
pub(crate) fn filled(
    names: &Names,
    table: &str,
    steps: &[&Migration],
    direction: Direction,
) -> Vec<MigrationStep> {
    let mut filled: Vec<MigrationStep> =
        steps.iter().map(|step| MigrationStep::new(names, step, direction)).collect();
    if let Some(first) = filled.first_mut().filter(|first| first.version == 1)
        && direction == Direction::Up
    {
        first.sql.insert_str(0, &names.fill(table));
    }
    filled
}

/// All migrations as one script, with the names filled in.
pub(crate) fn script(names: &Names, table: &str, migrations: &[Migration]) -> String {
    let mut script = String::new();
    if names.schema.is_some() {
        script.push_str(&names.fill("create schema if not exists {schema};\n"));
    }
    script.push_str(&names.fill(table));
    for migration in migrations {
        script.push_str(&format!("\n-- outbox schema, version {}\n", migration.version));
        script.push_str(&MigrationStep::new(names, migration, Direction::Up).sql);
    }
    script
}

/// Runs these steps, in the transaction that is open on `connection`.
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite", feature = "mysql")), allow(dead_code))]
pub(crate) async fn apply<DB: Database>(
    connection: &mut DB::Connection,
    names: &Names,
    steps: &[MigrationStep],
) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    for MigrationStep { version, direction, sql: statements } in steps {
        connection.execute(sql(statements.clone())).await?;
        tracing::info!(
            target: target::STORE,
            version,
            ?direction,
            tables = names.identity(),
            "outbox schema migrated"
        );
    }
    Ok(())
}

/// The refusal to remove tables whose events would be lost.
pub(crate) fn events_wait(pending: u64, parked: u64, queued: u64) -> OutboxError {
    OutboxError::new(
        ErrorKind::EventsWait,
        format!(
            "the outbox's tables were not changed: {pending} events are not published yet, {parked} are parked, and {queued} \
             wait in a consumer behind an earlier event of their key. All of them would be lost. Let the relays publish what \
             is pending, release or discard what is parked, and let the consumers finish; or insist \
             (`Migrate::even_if_events_wait`, `--force`)"
        ),
    )
}

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use sqlx::sqlite::SqlitePoolOptions;
    use sqlx::{Executor, PgPool, Pool};
    use uuid::Uuid;

    use super::*;
    use crate::store::OutboxDatabase;

    /// The outbox's own first version, and two that do not exist yet.
    fn three<DB: OutboxDatabase>() -> &'static [Migration] {
        let Migration { version, up, down } = DB::MIGRATIONS[0];
        let second = Migration {
            version: 2,
            up: "create table {second} (n integer);\ninsert into {second} (n) values (2);\n",
            down: "drop table {second};\n",
        };
        let third = Migration {
            version: 3,
            up: "alter table {second} add column m integer;\n",
            down: "alter table {second} drop column m;\n",
        };
        Box::leak(Box::new([Migration { version, up, down }, second, third]))
    }

    async fn versions_come_and_go_one_after_the_other<DB: OutboxDatabase>(
        pool: &Pool<DB>,
        names: &Names,
    ) where
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        let all = three::<DB>();
        let run = async |which| {
            let steps = DB::migrate(pool, names, all, which).await.unwrap();
            let status = DB::migrations(pool, names, all).await.unwrap();
            let versions: Vec<u32> = steps.iter().map(|step| step.version).collect();
            (versions, status.version)
        };
        assert_eq!(run(Migrate::up_to(1)).await, (vec![1], 1));
        assert_eq!(run(Migrate::up_to(0)).await, (vec![], 1), "never down");
        assert_eq!(run(Migrate::up()).await, (vec![2, 3], 3));
        assert_eq!(run(Migrate::down(2)).await, (vec![3, 2], 1));
        assert_eq!(run(Migrate::down_to(1)).await, (vec![], 1));
        assert_eq!(run(Migrate::up_to(2)).await, (vec![2], 2));
        assert_eq!(run(Migrate::down_to(3)).await, (vec![], 2), "never up");

        let older = DB::migrate(pool, names, &all[..1], Migrate::down(1)).await.unwrap_err();
        assert_eq!(older.kind(), ErrorKind::NotMigrated, "a program that knows only the first");
        assert_eq!(DB::migrations(pool, names, &all[..1]).await.unwrap().version, 2);
        assert_eq!(run(Migrate::down(9)).await, (vec![2, 1], 0));
    }

    /// One that fails leaves nothing behind, not even those before it.
    async fn a_migration_that_fails_changes_nothing<DB: OutboxDatabase>(
        pool: &Pool<DB>,
        names: &Names,
    ) {
        let Migration { version, up, down } = DB::MIGRATIONS[0];
        let wrong = Migration { version: 2, up: "create table;\n", down: "" };
        let all = Box::leak(Box::new([Migration { version, up, down }, wrong]));
        DB::migrate(pool, names, all, Migrate::up()).await.unwrap_err();
        assert_eq!(DB::migrations(pool, names, all).await.unwrap().version, 0);
    }

    #[tokio::test]
    async fn migrations_go_up_and_down_on_postgres() {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool: PgPool = PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        let schema = format!("versions_{}", Uuid::now_v7().simple());
        let names = Names { schema: Some(schema), ..Names::default() };
        a_migration_that_fails_changes_nothing(&pool, &names).await;
        versions_come_and_go_one_after_the_other(&pool, &names).await;
        pool.execute(sql(names.fill("drop schema {schema}"))).await.unwrap();
    }

    #[tokio::test]
    async fn migrations_go_up_and_down_on_sqlite() {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        a_migration_that_fails_changes_nothing(&pool, &Names::default()).await;
        versions_come_and_go_one_after_the_other(&pool, &Names::default()).await;
    }
}
