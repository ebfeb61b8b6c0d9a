//! What all tasks of a consumer share: its handlers, its way to retry topics and dead letters, its
//! limits, and what it has done and said.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::attempt::Group;
use super::forward::Unwritten;
use super::policy::{Settled, Undecodable, UnknownEvents};
use crate::error::{ErrorKind, OutboxError};
use crate::observe::{Meter, target};
use crate::store::OutboxDatabase;

/// What a consumer did from its start to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumed {
    /// Events whose handler's changes were committed.
    pub handled: u64,
    /// Events that the inbox knew: skipped.
    pub duplicates: u64,
    /// Events of names that no handler takes.
    pub passed_over: u64,
    /// Events that were sent to a retry topic.
    pub to_retry_topics: u64,
    /// Events that were queued in the database behind an earlier one of their key. They are counted
    /// once more when they are settled.
    pub queued: u64,
    /// Events that became dead letters.
    pub dead_letters: u64,
    /// Messages that are not what they should be, and were skipped as [`Undecodable::Skip`] says.
    pub undecodable_skipped: u64,
}

/// The tasks of a consumer group in this process.
pub(crate) struct GroupWorker<DB: OutboxDatabase, F> {
    pub(super) group: Group<DB>,
    pub(super) forward: F,
    pub(super) settings: WorkerSettings,
    /// One permit for each handler that may run.
    pub(super) slots: Arc<Semaphore>,
    /// Keys whose queues are being drained: topic and digest of the key.
    pub(super) draining: Mutex<HashSet<(String, Uuid)>>,
    /// Topics and names of skipped events that the log has named.
    pub(super) unknown: Mutex<HashSet<(String, String)>>,
    pub(super) unwritten: Unwritten,
    stop: watch::Receiver<bool>,
    /// Whether the last log line said that the database is away.
    database_away: AtomicBool,
    consumed: Mutex<Consumed>,
    /// Where its metrics are reported.
    pub(crate) meter: Meter,
}

/// What the user has asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerSettings {
    /// Handlers that may run at the same time.
    pub(crate) concurrency: usize,
    pub(crate) undecodable: Undecodable,
    pub(crate) unknown_events: UnknownEvents,
    /// Time after which the inbox forgets what was handled.
    pub(crate) inbox_retention: Duration,
}

/// Why a message was not settled.
#[derive(Debug)]
pub(crate) enum Unsettled {
    /// The consumer stops, and the message comes again.
    Stopped,
    /// The consumer must end: nothing can be handled.
    Fatal(OutboxError),
}

impl<DB: OutboxDatabase, F> GroupWorker<DB, F> {
    /// It stops when `stop` is `true`, or its sender dropped.
    pub(crate) fn new(
        group: Group<DB>,
        forward: F,
        settings: WorkerSettings,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let meter = group.meter();
        Self {
            group,
            meter,
            forward,
            settings,
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            draining: Mutex::default(),
            unknown: Mutex::default(),
            unwritten: Unwritten::default(),
            stop,
            database_away: AtomicBool::new(false),
            consumed: Mutex::default(),
        }
    }

    pub(crate) fn group_name(&self) -> &str {
        &self.group.name
    }

    pub(super) async fn sleep(&self, duration: Duration) -> Result<(), Unsettled> {
        tokio::select! {
            () = sleep(duration) => Ok(()),
            () = self.stopped() => Err(Unsettled::Stopped),
        }
    }

    pub(super) async fn stopped(&self) {
        // An error means that the loop that would stop us has ended.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// What was done so far.
    pub(crate) fn consumed(&self) -> Consumed {
        *self.lock_consumed()
    }

    pub(crate) fn count(&self, settled: Settled) {
        let mut consumed = self.lock_consumed();
        match settled {
            Settled::Handled => consumed.handled += 1,
            Settled::Duplicate => consumed.duplicates += 1,
            Settled::PassedOver => consumed.passed_over += 1,
            Settled::InRetryTopic => consumed.to_retry_topics += 1,
            Settled::Queued => consumed.queued += 1,
            Settled::DeadLetter => consumed.dead_letters += 1,
            Settled::Skipped => consumed.undecodable_skipped += 1,
        }
    }

    fn lock_consumed(&self) -> MutexGuard<'_, Consumed> {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs that the database is away, once.
    pub(super) fn database_is_away(&self, error: &OutboxError) {
        if !self.database_away.swap(true, Ordering::Relaxed) {
            self.meter.database_up(false);
            let group = &*self.group.name;
            if error.kind() == ErrorKind::NotMigrated {
                tracing::error!(target: target::CONSUMER, group, %error, "a table is missing: the consumer waits for it");
            } else {
                tracing::warn!(target: target::CONSUMER, group, %error, "the consumer cannot use the database: it waits, and no attempt is counted");
            }
        }
    }

    /// Logs that the database answers again, once.
    pub(super) fn database_answers(&self) {
        if self.database_away.swap(false, Ordering::Relaxed) {
            self.meter.database_up(true);
            tracing::info!(target: target::CONSUMER, group = &*self.group.name, "the consumer can use the database again");
        }
    }
}

/// Writes a line to the log about an event: with its handler, id, name, key and place.
macro_rules! log_event {
    ($level:ident, $worker:expr, $incoming:expr, $($rest:tt)*) => {{
        let incoming = &$incoming;
        tracing::$level!(
            target: $crate::observe::target::CONSUMER,
            group = &*$worker.group.name,
            handler = incoming.handler_name(),
            id = incoming.id.map(tracing::field::display),
            name = incoming.message.header($crate::record::CE_TYPE),
            key = incoming
                .message
                .key
                .as_deref()
                .map(|key| tracing::field::display($crate::record::readable_key(key))),
            topic = incoming.history.topic,
            partition = incoming.history.partition,
            offset = incoming.history.offset,
            $($rest)*
        );
    }};
}

pub(super) use log_event;
