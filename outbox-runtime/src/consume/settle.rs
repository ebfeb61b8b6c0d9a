//! One message, from its delivery until it is settled: handled, sent to a retry topic, queued, or a
//! dead letter. [`next_step`] chooses what to do; this does it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{Attempted, Ending, Failure, Interruption};
use super::class::ErrorClass;
use super::forward::{Forward, LastFailure, ORIGINAL_TOPIC, headers};
use super::message::{History, Message};
use super::policy::{AWAY_PAUSES, Outcome, Policy, Settled, Step, Tries, next_step};
use super::queued::KeyGuard;
use super::route::Incoming;
use super::sending::Sent;
use super::worker::{GroupWorker, Unsettled, log_event};
use crate::backoff::{Backoff, jittered};
use crate::store::{GroupKey, OutboxDatabase};
use crate::user_code::{Guarded, text_of};

/// Names of skipped events that are logged: others may write any number of them.
const MOST_UNKNOWN: usize = 1_000;
/// Interruptions between two lines of the log.
const INTERRUPTIONS_PER_LINE: u32 = 20;

/// What became of a message, and whether later events of its key may be queued behind it.
struct Settlement {
    settled: Settled,
    later: bool,
}

impl From<Settled> for Settlement {
    fn from(settled: Settled) -> Self {
        Self { settled, later: false }
    }
}

/// An attempt as the policy sees it, and what its failure says.
struct Ended {
    outcome: Outcome,
    error: String,
    /// Whether later events of its key may be queued behind it.
    later: bool,
}

impl<DB: OutboxDatabase, F: Forward> GroupWorker<DB, F> {
    /// Settles a message and the events that are queued behind it. A panic outside of a handler (in
    /// a callback of the pool, for example, or in a logger) does not end the consumer: the message
    /// is tried again. `slot`: for the first attempt, if a handler may run already.
    pub(crate) async fn settle(
        &self,
        message: &Message,
        history: &History,
        mut slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Settled, Unsettled> {
        let mut pauses = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        loop {
            let settled = self.settle_when_due(message, history.clone(), slot.take());
            match Guarded::new(Box::pin(settled)).await {
                Ok(settled) => return settled,
                Err(said) => {
                    let incoming = self.group.routes.route(message, history.clone());
                    log_event!(
                        error,
                        self,
                        incoming,
                        said,
                        "the consumer panicked over a message: it tries it again, and the partition waits"
                    );
                }
            }
            self.sleep(pauses.pause()).await?;
        }
    }

    async fn settle_when_due(
        &self,
        message: &Message,
        history: History,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Settled, Unsettled> {
        if let Some(due) = history.due {
            self.sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await?;
        }
        let topic = history.topic.clone();
        let incoming = self.group.routes.route(message, history);
        let Settlement { settled, later } = self.until_settled(incoming, slot).await?;
        if later && let Some(key) = &message.key {
            self.drain_key(&topic, key).await?;
        }
        Ok(settled)
    }

    /// Settles what is queued in the database of a key, in its order, up to an event that is in a
    /// retry topic. The message that led here is done only after that: if the process dies, it
    /// comes again, and leads here again. Keys that are still left are found by
    /// [`Self::stranded_keys`].
    pub(super) async fn drain_key(&self, topic: &str, key: &[u8]) -> Result<(), Unsettled> {
        let of = GroupKey { group: &self.group.name, topic, key };
        let Some(_guard) = KeyGuard::acquire(&self.draining, &of) else { return Ok(()) };
        let mut last = None;
        while let Some((event_id, message)) = self.queue_head(&of).await? {
            if last == Some(event_id) {
                // Settled, and here still: since it was queued, its handler was removed.
                self.remove(of, event_id, &message).await?;
                last = None;
                continue;
            }
            let incoming = self.group.routes.route(&message, message.resumed());
            let Settlement { settled, .. } = self.until_settled(incoming, None).await?;
            self.count(settled);
            if settled != Settled::Queued {
                last = Some(event_id);
            }
        }
        Ok(())
    }

    /// Tries an event until it is settled one way or the other.
    async fn until_settled(
        &self,
        mut incoming: Incoming<'_, DB>,
        mut slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Settlement, Unsettled> {
        let policy = Policy {
            handler: incoming.options(),
            undecodable: self.settings.undecodable,
            unknown_events: self.settings.unknown_events,
        };
        let mut tries = Tries { retry: incoming.history.retry, ..Tries::default() };
        loop {
            let Ended { outcome, error, later } = self.attempt(&incoming, slot.take()).await?;
            let step = next_step(outcome, &policy, &tries);
            let class = outcome.failed(&tries);
            tries.count(outcome);
            if let Some(class) = class {
                self.count_failure(&mut incoming, class, &error);
            } else if let Outcome::Interrupted(by) = outcome {
                self.log_interruption(&incoming, by, tries.interrupted, &error);
            }
            let class = class.map_or("undecodable", ErrorClass::as_str);
            let failure = LastFailure { class, error: &error };
            match step {
                Step::Done(settled) => return self.done(&incoming, settled, later, &error).await,
                Step::Enqueue if self.enqueue(&incoming).await? => {
                    self.meter.handled(incoming.in_metrics(), Settled::Queued.as_str());
                    return Ok(Settled::Queued.into());
                }
                // The earlier ones are settled by now.
                Step::Enqueue => {}
                Step::Wait(pause) | Step::RetryIn(pause) => self.sleep(jittered(pause)).await?,
                Step::ToTopic(delay) => {
                    return self.send_to_retry_topic(&incoming, delay, &failure).await;
                }
                Step::DeadLetter => {
                    incoming.history.first_failure.get_or_insert_with(SystemTime::now);
                    return self.give_up(&incoming, &failure).await;
                }
            }
        }
    }

    /// One attempt, once a handler may run.
    async fn attempt(
        &self,
        incoming: &Incoming<'_, DB>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Ended, Unsettled> {
        let slot = match slot {
            Some(slot) => Ok(slot),
            None => tokio::select! {
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
                () = self.stopped() => return Err(Unsettled::Stopped),
            },
        };
        let attempted = {
            let attempt = self.group.attempt(incoming, Ending::Commit);
            self.meter.handling(incoming.in_metrics(), attempt).await
        };
        drop(slot);
        match &attempted {
            Err(Failure::DatabaseAway(error)) => self.database_is_away(error),
            Ok(Attempted::NoHandler) | Err(Failure::Undecodable(_) | Failure::Fatal(_)) => {}
            Ok(_) | Err(_) => self.database_answers(),
        }
        let ended = |outcome, error| Ok(Ended { outcome, error, later: false });
        match attempted {
            Ok(Attempted::Handled { later }) => {
                Ok(Ended { outcome: Outcome::Handled, error: String::new(), later })
            }
            Ok(Attempted::RolledBack) => ended(Outcome::Handled, String::new()),
            Ok(Attempted::Duplicate) => ended(Outcome::Duplicate, String::new()),
            Ok(Attempted::InRetryTopic) => ended(Outcome::InRetryTopic, String::new()),
            Ok(Attempted::BehindAnother) => ended(Outcome::BehindAnother, String::new()),
            Ok(Attempted::NoHandler) => ended(no_handler(incoming), why_no_handler(incoming)),
            Err(Failure::DatabaseAway(error)) => ended(Outcome::DatabaseAway, error.to_string()),
            Err(Failure::Interrupted { by, error }) => ended(Outcome::Interrupted(by), error),
            Err(Failure::Handler { class, error }) => ended(Outcome::Failed(class), error),
            Err(Failure::Undecodable(error)) => ended(Outcome::Undecodable, error),
            Err(Failure::Fatal(error)) => Err(Unsettled::Fatal(error)),
        }
    }

    fn count_failure(&self, incoming: &mut Incoming<'_, DB>, class: ErrorClass, error: &str) {
        let history = &mut incoming.history;
        history.attempts = history.attempts.saturating_add(1);
        history.first_failure.get_or_insert_with(SystemTime::now);
        self.meter.handler_failed(incoming.in_metrics(), class);
        log_event!(
            warn,
            self,
            incoming,
            attempts = incoming.history.attempts,
            class = class.as_str(),
            error,
            "event not handled: rolled back"
        );
    }

    fn log_interruption(
        &self,
        incoming: &Incoming<'_, DB>,
        by: Interruption,
        times: u32,
        error: &str,
    ) {
        if times.is_multiple_of(INTERRUPTIONS_PER_LINE) {
            log_event!(
                warn,
                self,
                incoming,
                ?by,
                times,
                error,
                "event waits: tried again and again"
            );
        } else {
            log_event!(debug, self, incoming, ?by, error, "event tried again: that was no attempt");
        }
    }

    /// Nothing more is sent.
    async fn done(
        &self,
        incoming: &Incoming<'_, DB>,
        settled: Settled,
        later: bool,
        why: &str,
    ) -> Result<Settlement, Unsettled> {
        let later = match settled {
            Settled::Duplicate => {
                log_event!(debug, self, incoming, "event skipped: handled before");
                self.dequeue(incoming).await?
            }
            Settled::Skipped => {
                log_event!(
                    warn,
                    self,
                    incoming,
                    why,
                    "message skipped: it is not what it should be"
                );
                self.dequeue(incoming).await?
            }
            Settled::PassedOver => {
                self.log_unknown(incoming);
                later
            }
            _ => later,
        };
        self.meter.handled(incoming.in_metrics(), settled.as_str());
        Ok(Settlement { settled, later })
    }

    /// Logs the first event of each name that no handler takes.
    fn log_unknown(&self, incoming: &Incoming<'_, DB>) {
        let Some((name, _)) = incoming.message.name() else { return };
        let mut logged = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MOST_UNKNOWN
            && logged.insert((incoming.history.topic.clone(), text_of(name)))
        {
            log_event!(
                warn,
                self,
                incoming,
                "no handler of this group takes events of this name: they are skipped, and do not come again. If a newer \
                 version of this service takes them, deploy it before what emits them, or keep them as dead letters \
                 (`unknown_events`). This is said once a name"
            );
        }
    }

    async fn send_to_retry_topic(
        &self,
        incoming: &Incoming<'_, DB>,
        delay: Duration,
        failure: &LastFailure<'_>,
    ) -> Result<Settlement, Unsettled> {
        let history = &incoming.history;
        let due = SystemTime::now() + delay;
        let topic = self.forward.retry_topic(&history.topic, &self.group.name, delay);
        // Recorded before it is sent: the copy may be settled at once, which removes the record.
        if !self.note_failed(incoming).await? {
            return self.done(incoming, Settled::Duplicate, false, "").await;
        }
        let sent = History { retry: history.retry + 1, ..history.clone() };
        let original = self.forward.original_topic(&history.topic);
        let ours = headers(&self.group.name, original, &sent, Some(due), Some(failure));
        if self.send(&topic, incoming, &ours).await? == Sent::TooLarge {
            return self.give_up(incoming, failure).await;
        }
        self.note_sent(incoming).await?;
        self.meter.handled(incoming.in_metrics(), Settled::InRetryTopic.as_str());
        log_event!(
            info,
            self,
            incoming,
            retry_topic = topic,
            ?delay,
            "event waits in a retry topic"
        );
        Ok(Settled::InRetryTopic.into())
    }

    async fn give_up(
        &self,
        incoming: &Incoming<'_, DB>,
        failure: &LastFailure<'_>,
    ) -> Result<Settlement, Unsettled> {
        let history = &incoming.history;
        let topic = self.forward.dead_letter_topic(&history.topic, &self.group.name);
        let original = self.forward.original_topic(&history.topic);
        let ours = headers(&self.group.name, original, history, None, Some(failure));
        let place = self.send_dead_letter(&topic, incoming, ours).await?;
        // The later events of its key are handled, now that it is kept.
        let later = self.dequeue(incoming).await?;
        self.meter.handled(incoming.in_metrics(), Settled::DeadLetter.as_str());
        log_event!(
            error,
            self,
            incoming,
            attempts = history.attempts,
            class = failure.class,
            error = failure.error,
            dead_letters = topic,
            dead_letter = %place,
            "event given up: it is a dead letter, and can be replayed (`outbox dead-letters`, by its place `dead_letter` on \
             `dead_letters`; topic, partition and offset say where it came from)"
        );
        Ok(Settlement { settled: Settled::DeadLetter, later })
    }
}

fn no_handler<DB: OutboxDatabase>(incoming: &Incoming<'_, DB>) -> Outcome {
    let message = incoming.message;
    Outcome::NoHandler {
        named: message.name().is_some(),
        // It was waiting for this group, so one of its handlers took it once: it is not meant for
        // another consumer.
        was_taken: message.has_header(ORIGINAL_TOPIC),
    }
}

fn why_no_handler<DB: OutboxDatabase>(incoming: &Incoming<'_, DB>) -> String {
    let name = incoming.message.name().map(|(name, _)| text_of(name)).unwrap_or_default();
    format!(
        "no handler of this group takes event `{name}` of topic `{}`: deploy one that does, and replay it",
        incoming.history.topic
    )
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
