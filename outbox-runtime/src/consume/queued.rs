//! Events that are kept in the database behind an earlier one of their key, and the record of that
//! one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::class::{is_cut_off, is_database_away};
use super::forward::headers;
use super::message::{Message, PREFIX};
use super::policy::{AWAY_PAUSES, CONFLICT_PAUSES};
use super::route::Incoming;
use super::worker::{GroupWorker, Unsettled, log_event};
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::record::readable_key;
use crate::store::{GroupKey, OutboxDatabase, QueueHead, QueuedEvent, StoredMessage};

/// Time-outs of a statement on the queue of a key, in the database and on our side. It may wait for
/// the lock of a key whose handler runs, and is tried again.
const STEP: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(15));
/// The same for a search through all queues of a group.
const SEARCH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(65));
/// Conflicts between two lines of the log.
const CONFLICTS_PER_LINE: u64 = 20;

/// The only task of this process that drains a key.
pub(super) struct KeyGuard<'a> {
    all: &'a Mutex<HashSet<(String, Uuid)>>,
    key: (String, Uuid),
}

impl<'a> KeyGuard<'a> {
    /// `None`: another task drains the key.
    pub(super) fn acquire(
        all: &'a Mutex<HashSet<(String, Uuid)>>,
        of: &GroupKey<'_>,
    ) -> Option<Self> {
        let key = (of.topic.to_owned(), of.digest());
        let new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        new.then_some(Self { all, key })
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The pauses between the tries of one transaction.
struct Pauses {
    away: Backoff,
    conflict: Backoff,
    conflicts: u64,
}

impl Pauses {
    fn new() -> Self {
        Self {
            away: Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1),
            conflict: Backoff::new(CONFLICT_PAUSES.0, CONFLICT_PAUSES.1),
            conflicts: 0,
        }
    }

    /// The pause after an error, and the error if it is to be logged.
    fn after<DB: OutboxDatabase, F>(
        &mut self,
        error: OutboxError,
        worker: &GroupWorker<DB, F>,
    ) -> Result<(Duration, Option<OutboxError>), Unsettled> {
        if error.kind() == ErrorKind::NotMigrated {
            return Err(Unsettled::Fatal(error));
        }
        if is_database_away(&error) {
            worker.database_is_away(&error);
            return Ok((self.away.pause(), None));
        }
        if error.kind() == ErrorKind::Conflict || is_cut_off(&error) {
            self.conflicts += 1;
            let is_logged = self.conflicts.is_multiple_of(CONFLICTS_PER_LINE);
            return Ok((self.conflict.pause(), is_logged.then_some(error)));
        }
        Ok((self.away.pause(), Some(error)))
    }
}

/// Evaluates to the result of a call on `tx`, in a transaction of its own. It is tried until it
/// succeeds: while the database is away, this waits. A function would need a closure that is `Send`
/// for every lifetime of its `tx`, which cannot be expressed yet.
macro_rules! in_transaction {
    ($worker:expr, |$refused:ident| $log:expr, |$tx:ident| $call:expr) => {{
        let mut pauses = Pauses::new();
        loop {
            let ran = async {
                let mut $tx = $worker.group.begin(STEP.0).await?;
                let result = $call.await?;
                // It may have read only.
                DB::flush(&mut $tx, &$worker.group.outbox.core().names).await?;
                $tx.commit().await?;
                Ok::<_, OutboxError>(result)
            };
            let error = match $worker.group.in_time(STEP.1, ran).await {
                Ok(result) => break result,
                Err(error) => error,
            };
            let (pause, logged) = pauses.after(error, $worker)?;
            if let Some($refused) = logged {
                $log;
            }
            $worker.sleep(pause).await?;
        }
    }};
}

/// The same for an event whose partition waits until then.
macro_rules! note_event {
    ($worker:expr, $incoming:expr, |$tx:ident| $call:expr) => {
        in_transaction!(
            $worker,
            |error| log_event!(
                error, $worker, $incoming, %error,
                "the place of an event in the queue of its key could not be saved: its partition waits until it can be"
            ),
            |$tx| $call
        )
    };
}

impl<DB: OutboxDatabase, F> GroupWorker<DB, F> {
    /// Keeps an event in the database until the earlier ones of its key are settled. Returns
    /// `false` if they are settled by now.
    pub(super) async fn enqueue(&self, incoming: &Incoming<'_, DB>) -> Result<bool, Unsettled> {
        let Some(queued) = self.group.queued(incoming) else { return Ok(false) };
        let Incoming { message, history, .. } = incoming;
        let ours = headers(&self.group.name, history.topic.clone(), history, None, None);
        let ours =
            ours.into_iter().map(|(name, value)| (name.to_owned(), Some(value.into_bytes())));
        let theirs = message.headers.iter().filter(|(name, _)| !name.starts_with(PREFIX)).cloned();
        let headers: Vec<(String, Option<Vec<u8>>)> = theirs.chain(ours).collect();
        let stored = StoredMessage {
            // Names and bytes can always be serialized.
            headers: serde_json::to_vec(&headers).unwrap_or_default(),
            payload: message.payload.clone(),
        };
        let names = &self.group.outbox.core().names;
        let kept =
            note_event!(self, incoming, |tx| DB::enqueue_behind(&mut tx, names, &queued, &stored));
        if kept {
            log_event!(debug, self, incoming, "event waits for an earlier one of its key");
        }
        Ok(kept)
    }

    /// Records that an event failed and is about to be sent to a retry topic. Returns `false`,
    /// recording nothing, if the group has handled it.
    pub(super) async fn note_failed(&self, incoming: &Incoming<'_, DB>) -> Result<bool, Unsettled> {
        let Some(queued) = self.queued_in_order(incoming) else { return Ok(true) };
        let names = &self.group.outbox.core().names;
        Ok(note_event!(self, incoming, |tx| DB::enqueue_failed(&mut tx, names, &queued)))
    }

    /// Records that an event is in its retry topic.
    pub(super) async fn note_sent(&self, incoming: &Incoming<'_, DB>) -> Result<(), Unsettled> {
        let Some(queued) = self.queued_in_order(incoming) else { return Ok(()) };
        let names = &self.group.outbox.core().names;
        note_event!(self, incoming, |tx| DB::mark_sent(&mut tx, names, &queued));
        Ok(())
    }

    fn queued_in_order<'m>(&'m self, incoming: &'m Incoming<'_, DB>) -> Option<QueuedEvent<'m>> {
        let queued = self.group.queued(incoming)?;
        self.group.routes.keep_order(&incoming.history.topic).then_some(queued)
    }

    /// Takes a settled event out of the queue of its key. Returns whether later ones are queued.
    pub(super) async fn dequeue(&self, incoming: &Incoming<'_, DB>) -> Result<bool, Unsettled> {
        let Some(queued) = self.group.queued(incoming) else { return Ok(false) };
        let names = &self.group.outbox.core().names;
        let others = note_event!(self, incoming, |tx| DB::dequeue(&mut tx, names, &queued));
        Ok(others.later)
    }

    /// The first event of a key's queue, unless it is in a retry topic.
    pub(super) async fn queue_head(
        &self,
        of: &GroupKey<'_>,
    ) -> Result<Option<(Uuid, Message)>, Unsettled> {
        let names = &self.group.outbox.core().names;
        let first = in_transaction!(self, |error| log_unread(of, &error), |tx| DB::queue_head(
            &mut tx, names, of
        ));
        let Some(QueueHead { event_id, partition, offset, message: Some(stored) }) = first else {
            return Ok(None);
        };
        let message = Message {
            topic: of.topic.to_owned(),
            partition,
            offset,
            key: Some(of.key.to_vec()),
            headers: serde_json::from_slice(&stored.headers).unwrap_or_default(),
            payload: stored.payload,
            kept: true,
            ..Message::default()
        };
        Ok(Some((event_id, message)))
    }

    /// Takes an event out of the queue of its key.
    pub(super) async fn remove(
        &self,
        of: GroupKey<'_>,
        event_id: Uuid,
        message: &Message,
    ) -> Result<(), Unsettled> {
        let Message { partition, offset, .. } = *message;
        let queued = QueuedEvent { of, event_id, partition, offset };
        let names = &self.group.outbox.core().names;
        in_transaction!(self, |error| log_unread(&of, &error), |tx| DB::dequeue(
            &mut tx, names, &queued
        ));
        Ok(())
    }

    /// Topics and keys whose queues no task drains: a process ended, or the retry topic has lost
    /// the event that they wait for.
    pub(super) async fn stranded_keys(&self) -> Result<Vec<(String, Vec<u8>)>, OutboxError> {
        let names = &self.group.outbox.core().names;
        let search = async {
            let mut tx = self.group.begin(SEARCH.0).await?;
            let stranded = DB::stranded_keys(&mut tx, names, &self.group.name).await?;
            tx.rollback().await?;
            Ok(stranded)
        };
        self.group.in_time(SEARCH.1, search).await
    }
}

fn log_unread(of: &GroupKey<'_>, error: &OutboxError) {
    let GroupKey { group, topic, key } = *of;
    let key = readable_key(key);
    tracing::error!(target: target::CONSUMER, group, topic, key, %error, "the queued events of a key could not be read: they stay queued, and are read again");
}
