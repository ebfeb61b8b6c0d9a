//! How a transaction ends: the one place that decides whether events become part of the outbox.

use sqlx_core::transaction::TransactionManager;

use super::{Enclosing, OutboxTx};
use crate::error::{ErrorKind, OutboxError};
use crate::store::OutboxDatabase;

impl<DB: OutboxDatabase> OutboxTx<'_, DB> {
    pub(super) async fn insert_and_commit(mut self) -> Result<(), OutboxError> {
        match self.enclosing {
            Enclosing::Nothing => {
                let has_events = !self.events.is_empty();
                self.insert_events().await?;
                self.end().await.map_err(commit_failed)?;
                if has_events {
                    self.outbox.ring();
                }
            }
            Enclosing::SqlxTransaction => {
                self.insert_events().await?;
                self.end().await?;
            }
            Enclosing::OutboxTx(_) => {
                self.end().await?;
                if let Enclosing::OutboxTx(outer) = &mut self.enclosing {
                    outer.append(&mut self.events);
                }
            }
        }
        Ok(())
    }

    /// `COMMIT`, or `RELEASE` of a savepoint.
    async fn end(&mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::commit(self).await?;
        self.open = false;
        Ok(())
    }

    async fn insert_events(&mut self) -> Result<(), OutboxError> {
        if self.events.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.events);
        let outbox = self.outbox.clone();
        DB::insert_events(self, &outbox.settings().names, &events).await?;
        Ok(())
    }
}

impl<DB: OutboxDatabase> Drop for OutboxTx<'_, DB> {
    fn drop(&mut self) {
        if self.open {
            DB::TransactionManager::start_rollback(self);
        }
    }
}

fn commit_failed(error: sqlx::Error) -> OutboxError {
    match error {
        // An answer, and it is no: a deferred constraint, a serialization failure.
        sqlx::Error::Database(cause) if !is_farewell(&*cause) => sqlx::Error::Database(cause).into(),
        error => OutboxError::new(
            ErrorKind::CommitUnknown,
            "the connection was lost while the transaction committed: its changes and its events were both \
             committed, or neither was. Look for the changes before you try again",
        )
        .with_source(error),
    }
}

/// Whether Postgres ended the session, by `admin_shutdown` or `crash_shutdown`. It may do so when the commit is done and
/// only the answer is missing (see `ProcessInterrupts` and `CommitTransaction` in its source).
fn is_farewell(error: &dyn sqlx::error::DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("57P01" | "57P02"))
}
