//! One attempt: read the event, begin, note it in the inbox, run the handler, commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::class::{ErrorClass, is_cut_off, is_database_away, is_pool_exhausted};
use super::context::{EventContext, Named};
use super::handler::{AnyHandler, DecodeFailure, Decoded, HandlerFailure};
use super::message::{History, Message};
use super::options::{ForeignId, HandlerOptions};
use super::route::{Found, Routes};
use crate::error::{ErrorKind, OutboxError, is_caused_by_conflict};
use crate::outbox::Outbox;
use crate::record::{CE_TYPE, TRACEPARENT};
use crate::store::{GroupKey, Others, OutboxDatabase, Waiting};
use crate::tx::{OutboxTx, TxOptions};
use crate::user_code::{Guarded, UserError, caught};

/// A consumer group in this process: its handlers, and the database of its inbox.
pub(crate) struct Group<DB: OutboxDatabase> {
    pub(crate) outbox: Outbox<DB>,
    pub(crate) name: Arc<str>,
    pub(crate) routes: Routes<DB>,
}

/// What an attempt came to, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// The handler's changes are committed. Later events of its key may have waited for it.
    Handled { later_wait: bool },
    /// The inbox knew it: nothing was changed.
    Duplicate,
    /// No handler is for events of this name.
    NotForUs,
    /// An earlier event of its key waits, and it is to wait behind that.
    MustWait,
    /// It is in a retry topic, and has come again on its own.
    WasSent,
    /// The handler succeeded, and was rolled back.
    RolledBack,
}

/// How an attempt that succeeded ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    /// For tests.
    RollBack,
}

/// Why an event was not handled.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing is known of the event: the database is away.
    DatabaseAway(OutboxError),
    /// It was not handled, and that may not be the event's doing.
    Interrupted { by: Interruption, error: String },
    /// The handler failed, or its commit.
    Handler { class: ErrorClass, error: String },
    /// No attempt would succeed: it is not what it should be.
    Undecodable(String),
    /// Nothing can be handled at all.
    Hopeless(OutboxError),
}

/// What ended an attempt that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Another transaction was in the way before the handler ran.
    BeforeHandler,
    /// Another transaction was in the way.
    Conflict,
    /// The connection was lost, and others are not: it may be the event that ends them.
    LostConnection,
}

impl Interruption {
    /// How often in a row it does not count. Then it is a failed attempt, or an event that always
    /// leads to it would be tried for ever.
    pub(crate) const fn most(self) -> u64 {
        match self {
            Self::BeforeHandler => u64::MAX,
            Self::Conflict => 50,
            Self::LostConnection => 3,
        }
    }
}

/// The longest wait for an answer of the database to what is ours, unless locks are waited for: a
/// connection and its `BEGIN`, and the commit.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// How much later than the database itself an answer is given up.
const GRACE: Duration = Duration::from_secs(5);
/// A handler's statement may still run.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(5);

/// A message that can be handled.
struct Prepared<'g, DB: OutboxDatabase> {
    options: &'g HandlerOptions,
    context: EventContext,
    event: Box<dyn Decoded<DB> + 'g>,
}

/// What to do when a handler's own request for a connection was in vain.
const FOR_AN_EXHAUSTED_POOL: &str = " (a handler holds a connection for its `tx`: one that asks the pool for another should \
                                     use its `tx`, or the pool's `max_connections` be twice the consumer's `concurrency`)";

impl<DB: OutboxDatabase> Group<DB> {
    /// The handler of a message.
    pub(crate) fn handler_of<'g>(
        &'g self,
        message: &'g Message,
        history: &History,
    ) -> Found<'g, DB> {
        self.routes.find(&history.topic, message)
    }

    /// Handles a message, once, in one transaction. Every wait for the database has an end: a
    /// connection may have gone dead without a word. A transaction that is left is dropped with its
    /// connection.
    pub(crate) async fn attempt_until(
        &self,
        message: &Message,
        history: &History,
        ending: Ending,
    ) -> Result<Attempted, Failure> {
        let Some(Prepared { options, context, event }) = self.prepare(message, history)? else {
            return Ok(Attempted::NotForUs);
        };
        let answer = options.timeout.saturating_add(GRACE).min(LONGEST_ANSWER);
        let mut tx = self.in_time(answer, self.begin(options.timeout)).await.map_err(database)?;

        let waiting = self.waiting(message, history, options.foreign);
        // Another member may be at the same event: that is waited for.
        let admitted = self.admit(&mut tx, &context, waiting.as_ref(), message);
        let admitted = self.in_time(options.timeout.saturating_add(GRACE), admitted).await;
        let later_wait = match admitted.map_err(database)? {
            Admitted::Yes { later_wait } => later_wait,
            Admitted::No(attempted) => {
                self.roll_back(tx).await;
                return Ok(attempted);
            }
        };
        tx.set_traceparent(context.headers.get(TRACEPARENT).map(str::to_owned));
        let handled = Guarded::new(event.handle(&mut tx, &context));
        // A panic is a failure like others: one bad event must not end the consumer.
        let handled = match timeout(options.timeout, handled).await {
            Ok(Ok(handled)) => handled,
            Ok(Err(said)) => Err(transient(format!("the handler panicked: {said}"))),
            Err(_) => Err(transient(format!(
                "the handler did not end within {:?}, and was ended (`timeout`)",
                options.timeout
            ))),
        };
        match handled {
            Ok(()) if ending == Ending::RollBack => {
                self.roll_back(tx).await;
                Ok(Attempted::RolledBack)
            }
            Ok(()) => self.commit(tx, answer).await.map(|()| Attempted::Handled { later_wait }),
            Err(failed) => Err(self.failed(tx, failed, answer).await),
        }
    }

    /// Finds the handler of a message, and reads its event. `None`: it is not for us.
    fn prepare<'g>(
        &'g self,
        message: &'g Message,
        history: &History,
    ) -> Result<Option<Prepared<'g, DB>>, Failure> {
        let (handler, named) = match self.handler_of(message, history) {
            Found::Handler(handler, named) => (handler, named),
            Found::NotForUs => return Ok(None),
            Found::NoEvent => {
                let why = if message.has_header(CE_TYPE) {
                    "the header `ce_type` is not text: which event this is cannot be told"
                } else {
                    "the header `ce_type` is missing: no outbox wrote this message, and no handler takes such \
                     (`foreign`)"
                };
                return Err(Failure::Undecodable(why.to_owned()));
            }
        };
        if message.unreadable_headers > 0 {
            return Err(Failure::Undecodable(format!(
                "the names of {} of its headers are not UTF-8, and those headers cannot be read. Its dead letter is \
                 without them; replayed, it is handled without them",
                message.unreadable_headers
            )));
        }
        let context = context(message, history, handler, named)?;
        // A codec, or what makes a new version of an old one, is the user's code too.
        let event = caught(|| handler.decode(named, message.payload.as_deref()))
            .map_err(|said| Failure::Undecodable(format!("the codec panicked: {said}")))?
            .map_err(|undecodable| Failure::Undecodable(why(&undecodable, named)))?;

        Ok(Some(Prepared { options: handler.options(), context, event }))
    }

    /// A transaction of a consumer, whose statements take `limit` at most. Which events wait is
    /// decided by statements that see what was committed before them, not before the transaction.
    pub(crate) async fn begin(
        &self,
        limit: Duration,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.outbox.begin_with(TxOptions { watch: true, ..TxOptions::of_consumer(limit) }).await
    }

    /// Notes the event in the inbox, unless it is there or must wait.
    async fn admit(
        &self,
        tx: &mut OutboxTx<'static, DB>,
        context: &EventContext,
        waiting: Option<&Waiting<'_>>,
        message: &Message,
    ) -> Result<Admitted, OutboxError> {
        let names = &self.outbox.settings().names;
        if !DB::insert_inbox(tx, names, &self.name, context.id).await? {
            return Ok(Admitted::No(Attempted::Duplicate));
        }
        // It may be noted as waiting wherever it comes from: a process may have died before it sent
        // it to its retry topic.
        let Some(waiting) = waiting else { return Ok(Admitted::Yes { later_wait: false }) };
        let Others { noted, earlier, later, in_retry_topic } =
            DB::end_waiting(tx, names, waiting).await?;
        if message.kept && !noted {
            // Another member went on with the key too, and has settled it: it may be a dead letter,
            // and later ones handled.
            return Ok(Admitted::No(Attempted::Duplicate));
        }
        if in_retry_topic && message.topic == waiting.of.topic {
            // It has come again: its copy in the retry topic is the one that counts.
            return Ok(Admitted::No(Attempted::WasSent));
        }
        Ok(if earlier {
            Admitted::No(Attempted::MustWait)
        } else {
            Admitted::Yes { later_wait: later }
        })
    }

    /// If no answer comes, it was committed or not: the event is tried again, and the inbox knows.
    async fn commit(&self, tx: OutboxTx<'static, DB>, answer: Duration) -> Result<(), Failure> {
        let conflict = tx.saw_conflict();
        let committed = tx.commit();
        // What the database refuses may be the handler's doing: a deferred constraint, an event too
        // large for a column.
        match self.in_time(answer, committed).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotMigrated => Err(Failure::Hopeless(error)),
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

    async fn failed(
        &self,
        tx: OutboxTx<'static, DB>,
        failed: HandlerFailure,
        answer: Duration,
    ) -> Failure {
        let HandlerFailure { class, error } = failed;
        // The handler's own error may hide what the database said. If it calls that permanent, it
        // knows better.
        let hidden = class == ErrorClass::Transient && tx.saw_conflict();
        let conflict = hidden || is_caused_by_conflict(error.as_dyn());
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

    /// The connection was lost. If another can be had at once, it was not the database, but perhaps
    /// the event.
    async fn lost(&self, error: String, answer: Duration) -> Failure {
        match self.in_time(answer, self.outbox.begin()).await {
            Ok(_) => Failure::Interrupted { by: Interruption::LostConnection, error },
            Err(_) => Failure::DatabaseAway(
                OutboxError::new(ErrorKind::Database, "the database went away under a handler")
                    .with_source(error),
            ),
        }
    }

    /// Whether the rollback was answered.
    async fn roll_back(&self, tx: OutboxTx<'static, DB>) -> bool {
        self.in_time(ROLLED_BACK_WITHIN, tx.rollback()).await.is_ok()
    }

    /// The database's answer, unless its connection seems to be dead. A file answers in the time
    /// that its user set.
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

    /// How the message is noted while it waits, if its key is kept in order, or was when it began
    /// to wait.
    pub(crate) fn waiting<'m>(
        &'m self,
        message: &'m Message,
        history: &'m History,
        foreign: Option<ForeignId>,
    ) -> Option<Waiting<'m>> {
        let History { topic, partition, offset, .. } = history;
        let may_wait = self.routes.keep_order(topic) || message.has_waited(history);
        let key = message.key.as_deref().filter(|_| may_wait)?;
        let event_id = message.id(history, foreign)?;
        let of = GroupKey { group: &self.name, topic, key };
        Some(Waiting { of, event_id, partition: *partition, offset: *offset })
    }
}

fn context<DB: OutboxDatabase>(
    message: &Message,
    history: &History,
    handler: &dyn AnyHandler<DB>,
    named: Named<'_>,
) -> Result<EventContext, Failure> {
    let id = message.id(history, handler.options().foreign).ok_or_else(|| {
        Failure::Undecodable(
            "it has nothing to be recognised by when it comes again: the header `ce_id` is missing or malformed, and \
             so is what `foreign` names"
                .to_owned(),
        )
    })?;
    Ok(message.context(history, id, named.name, named.version))
}

fn why(undecodable: &DecodeFailure, Named { topic, name, version, .. }: Named<'_>) -> String {
    match undecodable {
        DecodeFailure::Payload(error) => {
            format!("the payload of event `{name}` version {version} cannot be decoded ({error})")
        }
        DecodeFailure::Tombstone => {
            format!(
                "it is a tombstone, event `{name}` without a payload, and its handler takes none: let it take an `Option` of its \
                 event"
            )
        }
        DecodeFailure::AnotherEvent(read) => {
            format!(
                "its headers say that it is event `{name}` version {version} of topic `{topic}`, and its payload is read as event \
                 `{}` version {} of topic `{}`: no handler sees it. Is the type an enum with `#[serde(untagged)]`?",
                read.name, read.version, read.topic
            )
        }
        DecodeFailure::Version => {
            format!(
                "no handler takes version {version} of event `{name}`: deploy one that does, and replay it"
            )
        }
    }
}

/// Whether an event may be handled now.
enum Admitted {
    Yes { later_wait: bool },
    No(Attempted),
}

/// Before a handler has run. A database that is away is waited for; tables that are missing are
/// not.
fn database(error: OutboxError) -> Failure {
    match error.kind() {
        ErrorKind::NotMigrated => Failure::Hopeless(error),
        kind if kind == ErrorKind::Conflict || is_cut_off(&error) => {
            Failure::Interrupted { by: Interruption::BeforeHandler, error: error.to_string() }
        }
        _ => Failure::DatabaseAway(error),
    }
}

fn transient(error: String) -> HandlerFailure {
    HandlerFailure { class: ErrorClass::Transient, error: UserError::new(error) }
}
