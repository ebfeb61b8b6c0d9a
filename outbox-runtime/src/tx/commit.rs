//! How a transaction ends: the only place that decides whether events become part of the outbox.

use std::sync::Arc;

use sqlx_core::transaction::TransactionManager;

use super::{Enclosing, Link, OutboxTx, ended};
use crate::error::{ErrorKind, OutboxError};
use crate::record::EventRecord;
use crate::store::OutboxDatabase;
use crate::store::databases::fault_of;
use crate::store::fault::Fault;

impl<DB: OutboxDatabase> OutboxTx<'_, DB> {
    pub(super) async fn insert_and_commit(mut self) -> Result<(), OutboxError> {
        if !self.stands() {
            return Err(ended::ended());
        }
        match self.enclosing {
            Enclosing::Nothing => {
                let has_events = !self.events.is_empty();
                // Postgres answers the commit of a transaction that an error has aborted with a
                // rollback, and no error.
                if DB::asks_before_commit(self.doubt, has_events) {
                    DB::ensure_not_aborted(&mut self).await?;
                }
                let events = self.insert_events().await?;
                self.end().await.map_err(commit_failed)?;
                if has_events {
                    self.core.ring();
                    self.core.meter.emitted(&events);
                }
            }
            Enclosing::SqlxTransaction => {
                if DB::asks_before_commit(self.doubt, !self.events.is_empty()) {
                    DB::ensure_not_aborted(&mut self).await?;
                }
                let events = self.insert_events().await?;
                self.end().await?;
                self.core.meter.emitted(&events);
            }
            Enclosing::OutboxTx(..) => {
                self.end().await?;
                if let Enclosing::OutboxTx(events, outer) = &mut self.enclosing {
                    events.append(&mut self.events);
                    outer.statement_succeeded();
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

    /// Returns the events that were inserted.
    async fn insert_events(&mut self) -> Result<Vec<EventRecord>, OutboxError> {
        let events = std::mem::take(&mut self.events);
        let core = Arc::clone(&self.core);
        let parts = in_parts(&events, DB::MOST_BYTES_AT_ONCE, DB::MOST_EVENTS_AT_ONCE);
        let mut parts = parts.peekable();
        while let Some(events) = parts.next() {
            DB::insert_events(self, &core.names, events, parts.peek().is_some()).await?;
        }
        drop(parts);
        Ok(events)
    }
}

/// Splits the events into parts, in order. Each part has at least one event.
fn in_parts(
    events: &[EventRecord],
    most_bytes: usize,
    most_events: usize,
) -> impl Iterator<Item = &[EventRecord]> {
    let (mut bytes, mut number) = (0, 1);
    events.chunk_by(move |_, next| {
        bytes += next.size();
        number += 1;
        let same = bytes <= most_bytes && number <= most_events;
        if !same {
            (bytes, number) = (0, 1);
        }
        same
    })
}

impl<DB: OutboxDatabase> Drop for OutboxTx<'_, DB> {
    fn drop(&mut self) {
        if self.open {
            // The pool would wait for the answer until the system gives the dead connection up; and
            // a statement that was given up in the middle leaves some connections unusable.
            let given_up = self.doubt.in_flight || self.doubt.unseen;
            let closes = self.closes_if_dropped || DB::CANCELLED_IS_UNUSABLE && given_up;
            // With everything that began in it and did not end. Nothing, if it is over already. For
            // SQLite, sqlx knows that itself: after a commit of which nobody has taken the answer, it
            // ignores one rollback, and that must be the one of this transaction.
            let open = DB::TransactionManager::get_transaction_depth(self);
            let last = if DB::COUNTS_ROLLBACKS_AT_ONCE { open } else { self.depth };
            for _ in self.depth..=last {
                DB::TransactionManager::start_rollback(self);
            }
            if let Enclosing::OutboxTx(_, outer) = &mut self.enclosing {
                outer.in_flight |= self.doubt.in_flight;
                if self.doubt.over {
                    outer.rolled_back();
                }
            }
            if closes && let Link::Pool(connection) = &mut self.link {
                connection.close_on_drop();
            }
        }
    }
}

fn commit_failed(error: sqlx::Error) -> OutboxError {
    match error {
        // The database answered with a refusal: a deferred constraint, a serialization failure.
        sqlx::Error::Database(_)
            if !matches!(fault_of(&error), Fault::SessionEnded | Fault::Interrupted) =>
        {
            error.into()
        }
        error => OutboxError::new(
            ErrorKind::CommitUnknown,
            "the connection was lost, or the statement ended, while the transaction committed: its changes and its events \
             were both committed, or neither was. Look for the changes before you try again",
        )
        .with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use outbox_event::Headers;

    use super::*;

    #[test]
    fn the_events_of_a_transaction_are_inserted_in_parts_that_a_database_takes() {
        let record = |size: usize| EventRecord {
            id: uuid::Uuid::now_v7(),
            topic: "t".into(),
            key: None,
            name: "n".into(),
            version: 1,
            content_type: "c".into(),
            headers: Headers::new(),
            payload: Some(vec![0; size]),
            partition: None,
            occurred_at: SystemTime::now(),
        };
        let most = 1_000;
        let parts = |sizes: &[usize]| {
            let events: Vec<_> = sizes.iter().copied().map(record).collect();
            in_parts(&events, most, 3).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(parts(&[]), [] as [usize; 0]);
        assert_eq!(parts(&[0, 1, most / 2]), [3]);
        assert_eq!(parts(&[most * 2, most * 2, 1, 1]), [1, 3]);
        assert_eq!(parts(&[1, most, 1, most, 1]), [2, 2, 1]);
        assert_eq!(parts(&[1; 7]), [3, 3, 1]);
    }
}
