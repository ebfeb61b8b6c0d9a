//! One attempt: prepare (read the event), admit (insert it into the inbox), run the handler,
//! conclude (commit or roll back).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::Uuid;

use super::class::{ErrorClass, is_cut_off, is_database_away, is_pool_exhausted};
use super::context::EventContext;
use super::erased::{Decoded, HandlerFailure};
use super::message::History;
use super::prepare::{Prepared, prepare};
use super::route::{Incoming, Routes};
use super::spans;
use crate::error::{ErrorKind, OutboxError, is_conflict};
#[cfg(feature = "kafka")]
use crate::observe::Meter;
use crate::outbox::Outbox;
use crate::record::BAGGAGE;
use crate::store::{GroupKey, OutboxDatabase, QueuePosition, QueuedEvent};
use crate::trace::{Relation, of_message};
use crate::tx::{OutboxTx, TxOptions};
use crate::user_code::{Guarded, UserError};

/// A consumer group in this process: its handlers, and the database of its inbox.
pub(crate) struct Group<DB: OutboxDatabase> {
    pub(crate) outbox: Outbox<DB>,
    pub(crate) name: Arc<str>,
    pub(crate) routes: Routes<DB>,
    /// What the span that emitted an event is to that of its first delivery.
    pub(crate) first_delivery: Relation,
}

/// The result of an attempt that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// The handler's changes are committed.
    Handled {
        /// Whether later events of its key may be queued behind it.
        later: bool,
    },
    /// The inbox knew the event: nothing was changed.
    Duplicate,
    /// No handler takes events of this name.
    NoHandler,
    /// An earlier event of its key is not settled, and this one has to be queued behind it.
    BehindAnother,
    /// It is in a retry topic, and was delivered again from its own.
    InRetryTopic,
    /// The handler succeeded, and was rolled back.
    RolledBack,
}

/// How a successful attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    /// For tests.
    RollBack,
}

/// Why an event was not handled.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database is away: nothing is known of the event.
    DatabaseAway(OutboxError),
    /// Something ended the attempt that may not be the event's fault.
    Interrupted { by: Interruption, error: String },
    /// The handler failed, or its commit.
    Handler { class: ErrorClass, error: String },
    /// No attempt would succeed: the message cannot be read as an event that its handler takes.
    Undecodable(String),
    /// Nothing can be handled at all: the consumer must end.
    Fatal(OutboxError),
}

/// What ended an attempt early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// A conflict with another transaction, before the handler ran.
    BeforeHandler,
    /// A conflict with another transaction.
    Conflict,
    /// The connection was lost, although others work: the event may be what ends connections.
    LostConnection,
}

/// Longest wait for the database where no lock is waited for: for a connection and its `BEGIN`, and
/// for the commit.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// Time by which our own time-out is longer than the database's.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Longest wait for a rollback: a handler's statement may still run.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(5);

/// What to do when a handler got no connection from the pool.
const FOR_AN_EXHAUSTED_POOL: &str = " (a handler holds a connection for its `tx`: one that asks the pool for another should \
                                     use its `tx`, or the pool's `max_connections` be twice the consumer's `concurrency`)";

impl<DB: OutboxDatabase> Group<DB> {
    /// Where its metrics are reported.
    #[cfg(feature = "kafka")]
    pub(crate) fn meter(&self) -> Meter {
        self.outbox.core().meter.of_group(&self.name)
    }

    /// Handles a message once, in one transaction, and in a span if tracing is on.
    pub(crate) async fn attempt(
        &self,
        incoming: &Incoming<'_, DB>,
        ending: Ending,
    ) -> Result<Attempted, Failure> {
        let span = spans::process(self, incoming);
        let attempted = self.attempt_in_span(incoming, ending).instrument(span.clone()).await;
        spans::ended(&span, attempted.as_ref().copied());
        attempted
    }

    /// Every wait for the database is bounded, since a connection may die silently. A transaction
    /// that is abandoned is dropped with its connection.
    async fn attempt_in_span(
        &self,
        incoming: &Incoming<'_, DB>,
        ending: Ending,
    ) -> Result<Attempted, Failure> {
        let Some(Prepared { options, context, event }) = prepare(incoming)? else {
            return Ok(Attempted::NoHandler);
        };
        let answer = options.timeout.saturating_add(GRACE).min(LONGEST_ANSWER);
        let begun = self.in_time(answer, self.begin(options.timeout));
        let mut tx = begun.await.map_err(before_handler)?;
        // Another member may be handling the same event: this waits for it.
        let admitted = self.admit(&mut tx, incoming, context.id);
        let admitted = self.in_time(options.timeout.saturating_add(GRACE), admitted).await;
        let later = match admitted.map_err(before_handler)? {
            Admitted::Yes { later } => later,
            Admitted::No(attempted) => {
                self.roll_back(tx).await;
                self.flush(answer).await.map_err(before_handler)?;
                return Ok(attempted);
            }
        };
        let handled = run(event, &mut tx, &context, options.timeout).await;
        self.conclude(tx, handled, ending, answer).await?;
        Ok(match ending {
            Ending::Commit => Attempted::Handled { later },
            Ending::RollBack => Attempted::RolledBack,
        })
    }

    /// A transaction whose statements take `limit` at most. Those that decide which events wait
    /// must see what was committed before them, not before the transaction.
    pub(crate) async fn begin(
        &self,
        limit: Duration,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.outbox.begin_with(TxOptions { watch: true, ..TxOptions::of_consumer(limit) }).await
    }

    /// Waits until all that was read is on disk: an event must not be passed over for what a crash
    /// of the database takes back.
    pub(super) async fn flush(&self, answer: Duration) -> Result<(), OutboxError> {
        if !DB::SHOWS_BEFORE_DISK {
            return Ok(());
        }
        let flushed = async {
            let mut tx = self.begin(answer).await?;
            DB::flush(&mut tx, &self.outbox.core().names).await?;
            tx.commit().await
        };
        self.in_time(answer, flushed).await
    }

    /// Inserts the event into the inbox, unless it is there or must be queued.
    async fn admit(
        &self,
        tx: &mut OutboxTx<'static, DB>,
        incoming: &Incoming<'_, DB>,
        id: Uuid,
    ) -> Result<Admitted, OutboxError> {
        let names = &self.outbox.core().names;
        if !DB::insert_inbox(tx, names, &self.name, id).await? {
            return Ok(Admitted::No(Attempted::Duplicate));
        }
        // It may be recorded as queued even if it comes from its own topic: a process may have died
        // before sending it to its retry topic.
        let Some(queued) = self.queued(incoming) else {
            return Ok(Admitted::Yes { later: false });
        };
        let QueuePosition { queued: was_queued, earlier, later, in_retry_topic } =
            DB::dequeue(tx, names, &queued).await?;
        Ok(if incoming.message.kept && !was_queued {
            // Another member drained the key too, and has settled it: it may be a dead letter, and
            // later ones handled.
            Admitted::No(Attempted::Duplicate)
        } else if in_retry_topic && !incoming.history.from_retry_topic {
            // It has come again. Its copy in the retry topic is the one that counts.
            Admitted::No(Attempted::InRetryTopic)
        } else if earlier {
            Admitted::No(Attempted::BehindAnother)
        } else {
            Admitted::Yes { later }
        })
    }

    /// Ends the transaction of a handler that has run.
    async fn conclude(
        &self,
        tx: OutboxTx<'static, DB>,
        handled: Result<(), HandlerFailure>,
        ending: Ending,
        answer: Duration,
    ) -> Result<(), Failure> {
        match (handled, ending) {
            (Ok(()), Ending::Commit) => self.commit(tx, answer).await,
            (Ok(()), Ending::RollBack) => {
                self.roll_back(tx).await;
                Ok(())
            }
            (Err(failure), _) => Err(self.failed(tx, failure, answer).await),
        }
    }

    /// Without an answer, the transaction may or may not be committed: the event is tried again,
    /// and the inbox decides.
    pub(super) async fn commit(
        &self,
        tx: OutboxTx<'static, DB>,
        answer: Duration,
    ) -> Result<(), Failure> {
        let conflict = tx.saw_conflict();
        let committed = tx.commit();
        // A refusal of the database may be caused by the handler: a deferred constraint, an event
        // too large for a column.
        match self.in_time(answer, committed).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotMigrated => Err(Failure::Fatal(error)),
            Err(error) if is_database_away(&error) => {
                Err(self.lost(error.to_string(), answer).await)
            }
            Err(error) if conflict || error.kind() == ErrorKind::Conflict => {
                Err(Failure::Interrupted { by: Interruption::Conflict, error: error.to_string() })
            }
            Err(error) => {
                Err(Failure::Handler { class: ErrorClass::Transient, error: error.to_string() })
            }
        }
    }

    /// Rolls back, and finds out whether it was the handler that failed.
    pub(super) async fn failed(
        &self,
        tx: OutboxTx<'static, DB>,
        failure: HandlerFailure,
        answer: Duration,
    ) -> Failure {
        let HandlerFailure { class, error } = failure;
        // The handler's own error may hide what the database said. If it says permanent, it is
        // believed.
        let hidden = class == ErrorClass::Transient && tx.saw_conflict();
        let conflict = hidden || is_conflict(error.as_dyn());
        let away = is_database_away(error.as_dyn());
        let remedy = if is_pool_exhausted(error.as_dyn()) { FOR_AN_EXHAUSTED_POOL } else { "" };
        let error = format!("{error}{remedy}");
        if !self.roll_back(tx).await || away {
            self.lost(error, answer).await
        } else if conflict {
            Failure::Interrupted { by: Interruption::Conflict, error }
        } else {
            Failure::Handler { class, error }
        }
    }

    /// The connection was lost. If another one can be opened at once, the cause was not the
    /// database, but perhaps the event.
    async fn lost(&self, error: String, answer: Duration) -> Failure {
        match self.in_time(answer, self.outbox.begin()).await {
            Ok(_) => Failure::Interrupted { by: Interruption::LostConnection, error },
            Err(_) => Failure::DatabaseAway(
                OutboxError::new(ErrorKind::Database, "the database went away under a handler")
                    .with_source(error),
            ),
        }
    }

    /// Rolls back. Returns whether the database answered.
    pub(super) async fn roll_back(&self, tx: OutboxTx<'static, DB>) -> bool {
        self.in_time(ROLLED_BACK_WITHIN, tx.rollback()).await.is_ok()
    }

    /// The database's answer, or an error if its connection seems to be dead. A file database has
    /// its own time-out (`busy_timeout`).
    pub(crate) async fn in_time<T>(
        &self,
        bound: Duration,
        answer: impl Future<Output = Result<T, OutboxError>>,
    ) -> Result<T, OutboxError> {
        if !DB::CAN_GO_SILENT {
            return answer.await;
        }
        timeout(bound, answer).await.unwrap_or_else(|_| {
            let error = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            let silent =
                "the database does not answer; the connection is closed, and another opened";
            Err(OutboxError::new(ErrorKind::Database, silent).with_source(error))
        })
    }

    /// How the event is recorded in the queue of its key. `None`: the key is not kept in order, and
    /// was not when the event was first queued.
    pub(crate) fn queued<'m>(&'m self, incoming: &'m Incoming<'_, DB>) -> Option<QueuedEvent<'m>> {
        let Incoming { message, history, id, .. } = incoming;
        let History { topic, partition, offset, .. } = history;
        let may_be_queued = self.routes.keep_order(topic) || message.was_queued(history);
        let key = message.key.as_deref().filter(|_| may_be_queued)?;
        let of = GroupKey { group: &self.name, topic, key };
        Some(QueuedEvent { of, event_id: (*id)?, partition: *partition, offset: *offset })
    }
}

/// Runs a handler, for a limited time. A panic is a failure like any other: one bad event must not
/// end the consumer.
pub(super) async fn run<DB: OutboxDatabase>(
    event: Box<dyn Decoded<DB> + '_>,
    tx: &mut OutboxTx<'static, DB>,
    context: &EventContext,
    limit: Duration,
) -> Result<(), HandlerFailure> {
    // For events that the handler emits, if no span is known. Baggage goes on only if the outbox has
    // a propagation for it.
    let header = |name: &str| of_message(name, |name| context.headers.get(name));
    tx.set_trace_context(|name| header(name).filter(|_| name != BAGGAGE));
    match timeout(limit, Guarded::new(event.handle(tx, context))).await {
        Ok(Ok(handled)) => handled,
        Ok(Err(said)) => Err(transient(format!("the handler panicked: {said}"))),
        Err(_) => Err(transient(format!(
            "the handler did not end within {limit:?}, and was ended (`timeout`)"
        ))),
    }
}

/// Whether an event may be handled now.
enum Admitted {
    Yes {
        /// Whether later events of its key may be queued behind it.
        later: bool,
    },
    No(Attempted),
}

/// The failure before a handler has run. A database that is away is waited for; missing tables are
/// not.
pub(super) fn before_handler(error: OutboxError) -> Failure {
    match error.kind() {
        ErrorKind::NotMigrated => Failure::Fatal(error),
        kind if kind == ErrorKind::Conflict || is_cut_off(&error) => {
            Failure::Interrupted { by: Interruption::BeforeHandler, error: error.to_string() }
        }
        _ => Failure::DatabaseAway(error),
    }
}

fn transient(error: String) -> HandlerFailure {
    HandlerFailure { class: ErrorClass::Transient, error: UserError::new(error) }
}
