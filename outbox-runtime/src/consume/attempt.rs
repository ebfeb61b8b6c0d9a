//! One attempt: read the event, begin, note it in the inbox, run the handler, commit.

use std::sync::Arc;

use super::class::{ErrorClass, is_database_away};
use super::handler::{AnyHandler, EventContext, Failed, Undecodable};
use super::message::{History, Message};
use super::options::ForeignId;
use super::route::{Found, Named, Routes};
use crate::error::{ErrorKind, OutboxError};
use crate::outbox::Outbox;
use crate::record::{CE_TYPE, TRACEPARENT};
use crate::store::{GroupKey, Others, OutboxDatabase, Waiting};
use crate::tx::TxOptions;
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
    /// The handler failed, or its commit.
    Handler { class: ErrorClass, error: String },
    /// No attempt would succeed: it is not what it should be.
    Undecodable(String),
    /// Nothing can be handled at all.
    Hopeless(OutboxError),
}

impl<DB: OutboxDatabase> Group<DB> {
    /// The handler of a message.
    pub(crate) fn handler_of<'g>(&'g self, message: &'g Message, history: &History) -> Found<'g, DB> {
        self.routes.find(&history.topic, message)
    }

    /// Handles a message, once, in one transaction.
    pub(crate) async fn attempt_until(
        &self,
        message: &Message,
        history: &History,
        ending: Ending,
    ) -> Result<Attempted, Failure> {
        let (handler, named) = match self.handler_of(message, history) {
            Found::Handler(handler, named) => (handler, named),
            Found::NotForUs => return Ok(Attempted::NotForUs),
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
        let options = handler.options();
        let context = context(message, history, handler, named)?;
        let payload = message.payload.as_deref().unwrap_or_default();
        // A codec, or what makes a new version of an old one, is the user's code too.
        let event = caught(|| handler.decode(named, payload))
            .map_err(|said| Failure::Undecodable(format!("the codec panicked: {said}")))?
            .map_err(|undecodable| Failure::Undecodable(why(&undecodable, named)))?;

        let names = &self.outbox.settings().names;
        let mut tx =
            self.outbox.begin_with(TxOptions::of_consumer(options.timeout)).await.map_err(database)?;
        let new = DB::insert_inbox(&mut tx, names, &self.name, context.id).await;
        if !new.map_err(|error| database(error.into()))? {
            tx.rollback().await.map_err(database)?;
            return Ok(Attempted::Duplicate);
        }
        let waiting = self.waiting(message, history, options.foreign);
        // It may be noted as waiting wherever it comes from: a process may have died before it sent it to its retry topic.
        let mut later_wait = false;
        if let Some(waiting) = &waiting {
            let others = DB::end_waiting(&mut tx, names, waiting).await;
            let Others { earlier, later, in_retry_topic } = others.map_err(|error| database(error.into()))?;
            // On its own topic it has come again: its copy in the retry topic is the one that counts.
            let was_sent = in_retry_topic && message.topic == history.topic;
            if earlier || was_sent {
                tx.rollback().await.map_err(database)?;
                return Ok(if was_sent { Attempted::WasSent } else { Attempted::MustWait });
            }
            later_wait = later;
        }
        tx.set_traceparent(context.headers.get(TRACEPARENT).map(str::to_owned));
        let handled = Guarded::new(event.handle(&mut tx, &context));
        // A panic is a failure like others: one bad event must not end the consumer.
        let handled = match tokio::time::timeout(options.timeout, handled).await {
            Ok(Ok(handled)) => handled,
            Ok(Err(said)) => Err(transient(format!("the handler panicked: {said}"))),
            Err(_) => Err(transient(format!(
                "the handler did not end within {:?}, and was ended (`timeout`)",
                options.timeout
            ))),
        };
        match handled {
            Ok(()) if ending == Ending::RollBack => {
                tx.rollback().await.map_err(database)?;
                Ok(Attempted::RolledBack)
            }
            Ok(()) => {
                // An error that the handler swallowed has aborted the transaction: Postgres would answer its commit with a
                // rollback, and without an error.
                if tx.pending_events() == 0 {
                    DB::confirm(&mut tx).await.map_err(|error| not_committed(error.into()))?;
                }
                tx.commit().await.map_err(not_committed)?;
                Ok(Attempted::Handled { later_wait })
            }
            Err(Failed { class, error }) => {
                let rolled_back = tx.rollback().await;
                let lost = is_database_away(error.as_dyn()) || rolled_back.is_err();
                // If another connection can be had at once, it was not the database, but perhaps the event.
                if lost && self.outbox.begin().await.is_err() {
                    return Err(Failure::DatabaseAway(
                        OutboxError::new(ErrorKind::Database, "the database went away under a handler")
                            .with_source(error.to_string()),
                    ));
                }
                Err(Failure::Handler { class, error: error.to_string() })
            }
        }
    }

    /// How the message is noted while it waits, if its key is kept in order.
    pub(crate) fn waiting<'m>(
        &'m self,
        message: &'m Message,
        history: &'m History,
        foreign: Option<ForeignId>,
    ) -> Option<Waiting<'m>> {
        let History { topic, partition, offset, .. } = history;
        let key = message.key.as_deref().filter(|_| self.routes.keep_order(topic))?;
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

fn why(undecodable: &Undecodable, Named { topic, name, version, .. }: Named<'_>) -> String {
    match undecodable {
        Undecodable::Payload(error) => {
            format!("the payload of event `{name}` version {version} cannot be decoded ({error})")
        }
        Undecodable::AnotherEvent(read) => {
            format!(
                "its headers say that it is event `{name}` version {version} of topic `{topic}`, and its payload is read as event \
                 `{}` version {} of topic `{}`: no handler sees it. Is the type an enum with `#[serde(untagged)]`?",
                read.name, read.version, read.topic
            )
        }
        Undecodable::Version => {
            format!(
                "no handler takes version {version} of event `{name}`: deploy one that does, and replay it"
            )
        }
    }
}

/// A database that is away is waited for; tables that are missing are not.
fn database(error: OutboxError) -> Failure {
    match error.kind() {
        ErrorKind::NotMigrated => Failure::Hopeless(error),
        _ => Failure::DatabaseAway(error),
    }
}

/// What the database refuses at the commit may be the handler's doing: a deferred constraint, an event too large for a column.
fn not_committed(error: OutboxError) -> Failure {
    match error.kind() {
        ErrorKind::NotMigrated => Failure::Hopeless(error),
        _ if is_database_away(&error) => Failure::DatabaseAway(error),
        _ => Failure::Handler { class: ErrorClass::Transient, error: error.to_string() },
    }
}

fn transient(error: String) -> Failed {
    Failed { class: ErrorClass::Transient, error: UserError::new(error) }
}
