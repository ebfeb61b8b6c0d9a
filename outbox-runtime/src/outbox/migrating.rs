//! The tables: created, brought to another version, or removed.

use super::Outbox;
use super::deadline::ANSWER_WITHIN;
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::migrate::{Migrate, MigrationStatus, MigrationStep, script};

impl<DB: OutboxDatabase> Outbox<DB> {
    /// Creates the outbox's tables, or brings them to this version. Does nothing if they are at
    /// this version. Several processes may call it at once.
    ///
    /// # Errors
    /// If the database refuses, or if the tables are of a newer version than this program. Nothing
    /// is changed then.
    pub async fn migrate(&self) -> Result<(), OutboxError> {
        self.migrate_with(Migrate::up()).await.map(drop)
    }

    /// The SQL that [`migrate`](Self::migrate) would run on an empty database, for teams who run
    /// their own migrations: it leaves the tables as `migrate` does, and `migrate` then finds
    /// nothing to do.
    #[must_use]
    pub fn migration_sql(&self) -> String {
        script(&self.core().names, DB::MIGRATION_TABLE, DB::MIGRATIONS)
    }

    /// Runs the migrations that `which` needs, all in one transaction, and returns them. Several
    /// processes may call it at once.
    ///
    /// Going back removes what a version added, with all that is in it; without any version, the
    /// retained events and what consumers remember of events are lost as well.
    ///
    /// # Errors
    /// If the database refuses, if the tables are of a newer version than this program, or if the
    /// wanted version is not known. If going back would lose events that are not published, are
    /// parked, or wait in a consumer ([`ErrorKind::EventsWait`](crate::ErrorKind::EventsWait)).
    /// Nothing is changed then.
    pub async fn migrate_with(&self, which: Migrate) -> Result<Vec<MigrationStep>, OutboxError> {
        let core = self.core();
        DB::migrate(&core.pool, &core.names, DB::MIGRATIONS, which).await
    }

    /// The migrations that [`migrate_with`](Self::migrate_with) would run, with their SQL. Nothing
    /// is changed.
    ///
    /// # Errors
    /// As [`migrate_with`](Self::migrate_with), but events that wait are not looked for.
    pub async fn plan_migration(&self, which: Migrate) -> Result<Vec<MigrationStep>, OutboxError> {
        let core = self.core();
        DB::plan_migration(&core.pool, &core.names, DB::MIGRATIONS, which).await
    }

    /// Where the tables are, of which version they are, and which one this program knows.
    ///
    /// # Errors
    /// If the database refuses, or does not answer within 5 s.
    pub async fn migration_status(&self) -> Result<MigrationStatus, OutboxError> {
        let core = self.core();
        let status = DB::migrations(&core.pool, &core.names, DB::MIGRATIONS);
        let asked = "the version of the outbox's tables";
        tokio::time::timeout(ANSWER_WITHIN, status)
            .await
            .unwrap_or_else(|_| Err(OutboxError::no_answer(asked, ANSWER_WITHIN)))
    }
}
