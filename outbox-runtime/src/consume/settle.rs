//! One message, from its receipt until it is settled: handled, sent on, or given up with a dead
//! letter.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::forward::{Forwarder, LastFailure, headers};
use super::sending::{Sent, Unwritten};
use super::topics::{Plan, dead_letter_topic, retry_topic};
use super::{Consumed, Settings, Undecodable, UnknownEvents};
use crate::backoff::Backoff;
use crate::consume::attempt::{Attempted, Ending, Failure, Group};
use crate::consume::class::{ErrorClass, is_cut_off, is_database_away};
use crate::consume::message::{History, Message, ORIGINAL_TOPIC, PREFIX};
use crate::consume::options::HandlerOptions;
use crate::consume::route::Found;
use crate::error::{ErrorKind, OutboxError};
use crate::observe;
use crate::record::CE_TYPE;
use crate::store::{Content, FirstWaiting, GroupKey, OutboxDatabase, Waiting};
use crate::user_code::{Guarded, text_of};

/// What all jobs of a consumer share.
pub(super) struct Shared<DB: OutboxDatabase> {
    pub(super) group: Group<DB>,
    pub(super) plan: Plan,
    pub(super) forwarder: Forwarder,
    pub(super) unwritten: Unwritten,
    pub(super) settings: Settings,
    /// One for each handler that may run.
    pub(super) slots: Semaphore,
    pub(super) stop: watch::Receiver<bool>,
    /// Whether the database was last said to be away.
    pub(super) database_away: AtomicBool,
    pub(super) consumed: Mutex<Consumed>,
    /// The keys that [`Shared::go_on`] is at.
    pub(super) driving: Mutex<HashSet<(String, Uuid)>>,
    /// Topics and names of skipped events, which were told.
    pub(super) unknown: Mutex<HashSet<(String, String)>>,
}

/// The names of skipped events that are told: others may write any number of them.
const MOST_UNKNOWN: usize = 1_000;

/// One goes on with a key at a time.
struct Driving<'a> {
    all: &'a Mutex<HashSet<(String, Uuid)>>,
    key: (String, Uuid),
}

impl<'a> Driving<'a> {
    fn begin(all: &'a Mutex<HashSet<(String, Uuid)>>, of: &GroupKey<'_>) -> Option<Self> {
        let key = (of.topic.to_owned(), of.digest());
        let new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        new.then_some(Self { all, key })
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// What became of a message. All but the last two mean that its offset is done.
#[derive(Debug)]
pub(super) enum Settled {
    Handled,
    Duplicate,
    PassedOver,
    InRetryTopic,
    /// It waits, in the database, for an earlier event of its key.
    Parked,
    DeadLetter,
    Skipped,
    /// The consumer stops: the message comes again.
    Abandoned,
    /// The consumer must end.
    Hopeless(OutboxError),
}

/// Why a message is not settled.
pub(super) enum Interrupted {
    /// The consumer stops.
    Stopped,
    /// It must end.
    Hopeless(OutboxError),
}

/// What became of a message, and whether the events that wait for it are to go on.
struct Ended {
    settled: Settled,
    later_wait: bool,
}

impl From<Settled> for Ended {
    fn from(settled: Settled) -> Self {
        Self { settled, later_wait: false }
    }
}

pub(super) const AWAY_PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(5));

/// The pauses between attempts that another transaction was in the way of.
const CONFLICT_PAUSES: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(500));
/// How many such attempts there are between two lines of the log.
const SAID_EVERY: u64 = 20;
/// After which the database ends a statement on the waiting events, and after which it is not
/// waited for any more. They may wait for the lock of a key whose handler runs: they are tried
/// again.
const STEP: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(15));
/// The same for a look at all waiting events of a group.
const SWEEP: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(65));
/// For a group's whole inbox.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(600);

/// What a call on `tx`, in a transaction of its own, returns. It is tried until it succeeds: while
/// the database is away, this waits. A function would need a closure that is `Send` for every
/// lifetime of its `tx`, which cannot be said yet.
macro_rules! in_transaction {
    ($shared:expr, |$refused:ident| $tell:expr, |$tx:ident| $call:expr) => {{
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        let mut conflicts = Backoff::new(CONFLICT_PAUSES.0, CONFLICT_PAUSES.1);
        let mut refusals = 0_u64;
        loop {
            let ran = async {
                let mut $tx = $shared.group.begin(STEP.0).await?;
                let result = $call.await?;
                $tx.commit().await?;
                Ok::<_, OutboxError>(result)
            };
            match $shared.group.in_time(STEP.1, ran).await {
                Ok(result) => break result,
                Err(error) if error.kind() == ErrorKind::NotMigrated => {
                    return Err(Interrupted::Hopeless(error));
                }
                Err(error) if is_database_away(&error) => $shared.database_is_away(&error),
                Err($refused)
                    if $refused.kind() == ErrorKind::Conflict || is_cut_off(&$refused) =>
                {
                    refusals += 1;
                    if u64::is_multiple_of(refusals, SAID_EVERY) {
                        $tell;
                    }
                    $shared.sleep(conflicts.pause()).await?;
                    continue;
                }
                Err($refused) => $tell,
            }
            $shared.sleep(away.pause()).await?;
        }
    }};
}

const NOT_NOTED: &str =
    "an event that waits could not be noted: its partition waits until it can be";

fn not_read(of: &GroupKey<'_>, error: &OutboxError) {
    let GroupKey { group, topic, key } = *of;
    let key = readable(key);
    tracing::error!(group, topic, key, %error, "the events of a key that wait could not be read: they go on waiting");
}

/// A line of the log on an event: with its id, name, key and place.
macro_rules! tell {
    ($level:ident, $shared:expr, $message:expr, $history:expr, $($rest:tt)*) => {{
        let (message, history): (&Message, &History) = ($message, $history);
        tracing::$level!(
            group = &*$shared.group.name,
            id = $shared.id_of(message, history).map(tracing::field::display),
            name = message.header(CE_TYPE),
            key = message.key.as_deref().map(|key| tracing::field::display(readable(key))),
            topic = history.topic,
            partition = history.partition,
            offset = history.offset,
            $($rest)*
        );
    }};
}

pub(super) use tell;

/// A key for the log: text as far as it is, and not all of a long one.
pub(super) fn readable(key: &[u8]) -> String {
    const LONGEST: usize = 100;
    let (shown, rest) = key.split_at(key.len().min(LONGEST));
    let text = String::from_utf8_lossy(shown).escape_debug().to_string();
    if rest.is_empty() { text } else { format!("{text}… ({} bytes)", key.len()) }
}

impl<DB: OutboxDatabase> Shared<DB> {
    /// Until it is settled, and the events that waited for it, or the consumer stops. A panic
    /// outside of a handler (in a callback of the pool, for example, or in a logger) does not end
    /// the consumer: the message is tried again.
    pub(super) async fn settle(&self, message: &Message) -> Settled {
        let mut pauses = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        loop {
            match Guarded::new(Box::pin(self.settle_unless_stopped(message))).await {
                Ok(Ok(settled)) => return settled,
                Ok(Err(Interrupted::Stopped)) => return Settled::Abandoned,
                Ok(Err(Interrupted::Hopeless(error))) => return Settled::Hopeless(error),
                Err(said) => {
                    tell!(
                        error,
                        self,
                        message,
                        &self.plan.history(message),
                        said,
                        "the consumer panicked over a message: it tries it again, and the partition waits"
                    );
                }
            }
            if self.sleep(pauses.pause()).await.is_err() {
                return Settled::Abandoned;
            }
        }
    }

    async fn settle_unless_stopped(&self, message: &Message) -> Result<Settled, Interrupted> {
        let history = self.plan.history(message);
        if let Some(due) = history.due {
            self.sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await?;
        }
        let topic = history.topic.clone();
        let Ended { settled, later_wait } = self.until_ended(message, history).await?;
        if later_wait && let Some(key) = &message.key {
            self.go_on(&topic, key).await?;
        }
        Ok(settled)
    }

    /// Settles what is kept in the database of a key, in its order, up to an event that is in a
    /// retry topic. The message that led here is not done before: if the process dies, it comes
    /// again, and leads here again. What is left behind all the same, is found by
    /// [`Self::left_behind`].
    pub(super) async fn go_on(&self, topic: &str, key: &[u8]) -> Result<(), Interrupted> {
        let of = GroupKey { group: &self.group.name, topic, key };
        let Some(_driving) = Driving::begin(&self.driving, &of) else { return Ok(()) };
        let mut last = None;
        loop {
            let names = &self.group.outbox.settings().names;
            let first =
                in_transaction!(self, |error| not_read(&of, &error), |tx| DB::first_waiting(
                    &mut tx, names, &of
                ));
            let Some(FirstWaiting { event_id, partition, offset, content: Some(content) }) = first
            else {
                return Ok(());
            };
            if last == Some(event_id) {
                // Settled, and here still: since it was parked, its handler has gone.
                let settled = Waiting { of, event_id, partition, offset };
                in_transaction!(self, |error| not_read(&of, &error), |tx| DB::end_waiting(
                    &mut tx, names, &settled
                ));
                last = None;
                continue;
            }
            let message = Message {
                topic: topic.to_owned(),
                partition,
                offset,
                key: Some(key.to_vec()),
                headers: serde_json::from_slice(&content.headers).unwrap_or_default(),
                payload: content.payload,
                kept: true,
                ..Message::default()
            };
            let history = message.resumed();
            match self.until_ended(&message, history).await?.settled {
                Settled::Hopeless(error) => return Err(Interrupted::Hopeless(error)),
                Settled::Parked => self.count(&Settled::Parked),
                settled => {
                    self.count(&settled);
                    last = Some(event_id);
                }
            }
        }
    }

    /// The topics and keys whose waiting events no process continues with: one died, or the retry
    /// topic has lost the event they wait for.
    pub(super) async fn left_behind(&self) -> Result<Vec<(String, Vec<u8>)>, OutboxError> {
        let names = &self.group.outbox.settings().names;
        let look = async {
            let mut tx = self.group.begin(SWEEP.0).await?;
            let left_behind = DB::left_behind(&mut tx, names, &self.group.name).await?;
            tx.rollback().await?;
            Ok(left_behind)
        };
        self.group.in_time(SWEEP.1, look).await
    }

    /// Forgets what was handled long ago, but no event while it may still wait in a retry topic.
    pub(super) async fn forget(&self) -> Result<u64, OutboxError> {
        let retention = self.settings.inbox_retention.max(self.plan.longest_delay() * 2);
        let forget = self.group.outbox.forget_handled(&self.group.name, retention);
        self.group.in_time(FORGOTTEN_WITHIN, forget).await
    }

    /// The id by which an event is known, for the log.
    pub(super) fn id_of(&self, message: &Message, history: &History) -> Option<Uuid> {
        let foreign = match self.group.handler_of(message, history) {
            Found::Handler(handler, _) => handler.options().foreign,
            Found::NotForUs | Found::NoEvent => None,
        };
        message.id(history, foreign)
    }

    /// Tries a message until it is settled one way or the other.
    async fn until_ended(
        &self,
        message: &Message,
        mut history: History,
    ) -> Result<Ended, Interrupted> {
        let options = match self.group.handler_of(message, &history) {
            Found::Handler(handler, _) => *handler.options(),
            Found::NotForUs | Found::NoEvent => HandlerOptions::new(),
        };
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        let mut backoff = Backoff::new(options.first_pause, options.longest_pause);
        // Out of a retry topic it is tried once, and goes on to the next.
        let mut left_in_place = if history.retry == 0 { options.attempts_in_place() } else { 1 };
        let mut interruptions = 0_u64;
        let mut conflicts = Backoff::new(CONFLICT_PAUSES.0, CONFLICT_PAUSES.1);
        loop {
            let (class, error) = match self.attempt(message, &history).await? {
                Ok(attempted) => {
                    self.database_answers();
                    match attempted {
                        Attempted::Handled { later_wait } => {
                            return Ok(Ended { settled: Settled::Handled, later_wait });
                        }
                        Attempted::RolledBack => return Ok(Settled::Handled.into()),
                        Attempted::Duplicate => {
                            return self.known(message, &history, &options).await;
                        }
                        Attempted::NotForUs => {
                            return self.unknown(message, history, &options).await;
                        }
                        Attempted::WasSent => return Ok(Settled::InRetryTopic.into()),
                        Attempted::MustWait => {
                            match self.park(message, &history, &options).await? {
                                Some(ended) => return Ok(ended),
                                None => continue,
                            }
                        }
                    }
                }
                Err(Failure::DatabaseAway(error)) => {
                    self.database_is_away(&error);
                    self.sleep(away.pause()).await?;
                    continue;
                }
                Err(Failure::Hopeless(error)) => return Ok(Settled::Hopeless(error).into()),
                Err(Failure::Undecodable(why)) => {
                    return self.undecodable(message, history, &options, &why).await;
                }
                Err(Failure::Interrupted { by, error }) if interruptions < by.most() => {
                    self.database_answers();
                    interruptions += 1;
                    if interruptions.is_multiple_of(SAID_EVERY) {
                        let times = interruptions;
                        tell!(
                            warn,
                            self,
                            message,
                            &history,
                            ?by,
                            times,
                            error,
                            "event waits: tried again and again"
                        );
                    } else {
                        tell!(
                            debug,
                            self,
                            message,
                            &history,
                            ?by,
                            error,
                            "event tried again: that was no attempt"
                        );
                    }
                    self.sleep(conflicts.pause()).await?;
                    continue;
                }
                Err(Failure::Interrupted { error, .. }) => (ErrorClass::Transient, error),
                Err(Failure::Handler { class, error }) => (class, error),
            };
            interruptions = 0;
            conflicts.reset();
            self.database_answers();
            away.reset();
            history.attempts = history.attempts.saturating_add(1);
            history.first_failure.get_or_insert_with(SystemTime::now);
            left_in_place = if left_in_place == u32::MAX { u32::MAX } else { left_in_place - 1 };
            observe::handler_failed(class);
            tell!(
                warn,
                self,
                message,
                &history,
                attempts = history.attempts,
                class = class.as_str(),
                error,
                "event not handled: rolled back"
            );
            if class == ErrorClass::Transient && left_in_place > 0 {
                self.sleep(backoff.pause()).await?;
                continue;
            }
            let failure = LastFailure { class: class.as_str(), error: &error };
            let next = options.ladder.and_then(|ladder| ladder.delays().nth(history.retry));
            return match next.filter(|_| class == ErrorClass::Transient) {
                Some(delay) => {
                    self.send_to_retry_topic(message, &history, &options, delay, &failure).await
                }
                None => self.give_up(message, &history, &options, &failure).await,
            };
        }
    }

    /// Once a handler may run.
    async fn attempt(
        &self,
        message: &Message,
        history: &History,
    ) -> Result<Result<Attempted, Failure>, Interrupted> {
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.stopped() => return Err(Interrupted::Stopped),
        };
        let attempted =
            observe::handling(self.group.attempt_until(message, history, Ending::Commit)).await;
        drop(slot);
        Ok(attempted)
    }

    /// It was handled before it came again.
    async fn known(
        &self,
        message: &Message,
        history: &History,
        options: &HandlerOptions,
    ) -> Result<Ended, Interrupted> {
        tell!(debug, self, message, history, "event skipped: handled before");
        observe::duplicate_suppressed();
        let later_wait = self.end_waiting(message, history, options).await?;
        Ok(Ended { settled: Settled::Duplicate, later_wait })
    }

    async fn undecodable(
        &self,
        message: &Message,
        mut history: History,
        options: &HandlerOptions,
        why: &str,
    ) -> Result<Ended, Interrupted> {
        match self.settings.undecodable {
            Undecodable::Skip => {
                tell!(
                    warn,
                    self,
                    message,
                    &history,
                    why,
                    "message skipped: it is not what it should be"
                );
                let later_wait = self.end_waiting(message, &history, options).await?;
                Ok(Ended { settled: Settled::Skipped, later_wait })
            }
            Undecodable::DeadLetter => {
                history.first_failure.get_or_insert_with(SystemTime::now);
                self.give_up(
                    message,
                    &history,
                    options,
                    &LastFailure { class: "undecodable", error: why },
                )
                .await
            }
        }
    }

    /// No handler takes events of its name.
    async fn unknown(
        &self,
        message: &Message,
        mut history: History,
        options: &HandlerOptions,
    ) -> Result<Ended, Interrupted> {
        let Some((name, _)) = message.name() else { return Ok(Settled::PassedOver.into()) };
        let name = text_of(name);
        // It waited for this group, when one of its handlers took it: it is none of another
        // consumer's.
        let was_taken = message.has_header(ORIGINAL_TOPIC);
        if self.settings.unknown_events == UnknownEvents::DeadLetter || was_taken {
            history.first_failure.get_or_insert_with(SystemTime::now);
            let error = format!(
                "no handler of this group takes event `{name}` of topic `{}`: deploy one that does, and replay it",
                history.topic
            );
            let failure = LastFailure { class: "undecodable", error: &error };
            return self.give_up(message, &history, options, &failure).await;
        }
        let mut told = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_UNKNOWN && told.insert((history.topic.clone(), name.clone())) {
            tell!(
                warn,
                self,
                message,
                &history,
                "no handler of this group takes events of this name: they are skipped, and do not come again. If a newer \
                 version of this service takes them, deploy it before what emits them, or keep them as dead letters \
                 (`unknown_events`). This is said once a name"
            );
        }
        Ok(Settled::PassedOver.into())
    }

    /// An earlier event of its key waits: this one is kept in the database until that is done.
    /// `None`: it is done meanwhile.
    async fn park(
        &self,
        message: &Message,
        history: &History,
        options: &HandlerOptions,
    ) -> Result<Option<Ended>, Interrupted> {
        let Some(waiting) = self.group.waiting(message, history, options.foreign) else {
            return Ok(None);
        };
        let ours = headers(&self.group.name, history, None, None);
        let ours =
            ours.into_iter().map(|(name, value)| (name.to_owned(), Some(value.into_bytes())));
        let theirs = message.headers.iter().filter(|(name, _)| !name.starts_with(PREFIX)).cloned();
        let headers: Vec<(String, Option<Vec<u8>>)> = theirs.chain(ours).collect();
        let content = Content {
            // Names and bytes always serialize.
            headers: serde_json::to_vec(&headers).unwrap_or_default(),
            payload: message.payload.clone(),
        };
        let names = &self.group.outbox.settings().names;
        let parked = in_transaction!(
            self,
            |error| tell!(error, self, message, history, %error, "{NOT_NOTED}"),
            |tx| DB::park_waiting(&mut tx, names, &waiting, &content)
        );
        if !parked {
            return Ok(None);
        }
        tell!(debug, self, message, history, "event waits for an earlier one of its key");
        Ok(Some(Settled::Parked.into()))
    }

    async fn send_to_retry_topic(
        &self,
        message: &Message,
        history: &History,
        options: &HandlerOptions,
        delay: Duration,
        failure: &LastFailure<'_>,
    ) -> Result<Ended, Interrupted> {
        let due = SystemTime::now() + delay;
        let topic = retry_topic(&history.topic, &self.group.name, delay);
        let names = &self.group.outbox.settings().names;
        let waiting = self.group.waiting(message, history, options.foreign);
        let waiting = waiting.filter(|_| self.group.routes.keep_order(&history.topic));
        // First noted, then sent: the copy may be settled at once, and takes the note away with it.
        if let Some(waiting) = &waiting
            && !in_transaction!(
                self,
                |error| tell!(error, self, message, history, %error, "{NOT_NOTED}"),
                |tx| DB::begin_waiting(&mut tx, names, waiting)
            )
        {
            return self.known(message, history, options).await;
        }
        let sent = History { retry: history.retry + 1, ..history.clone() };
        let ours = headers(&self.group.name, &sent, Some(due), Some(failure));
        if self.send(&topic, message, history, &ours).await? == Sent::TooLarge {
            return self.give_up(message, history, options, failure).await;
        }
        if let Some(waiting) = &waiting {
            in_transaction!(
                self,
                |error| tell!(error, self, message, history, %error, "{NOT_NOTED}"),
                |tx| DB::sent_waiting(&mut tx, names, waiting)
            );
        }
        observe::sent_to_retry_topic();
        tell!(
            info,
            self,
            message,
            &sent,
            retry_topic = topic,
            ?delay,
            "event waits in a retry topic"
        );
        Ok(Settled::InRetryTopic.into())
    }

    async fn give_up(
        &self,
        message: &Message,
        history: &History,
        options: &HandlerOptions,
        failure: &LastFailure<'_>,
    ) -> Result<Ended, Interrupted> {
        let topic = dead_letter_topic(&history.topic, &self.group.name);
        let ours = headers(&self.group.name, history, None, Some(failure));
        self.send_dead_letter(&topic, message, history, ours).await?;
        // The later events of its key go on, now that it is kept.
        let later_wait = self.end_waiting(message, history, options).await?;
        observe::dead_letter();
        tell!(
            error,
            self,
            message,
            history,
            attempts = history.attempts,
            class = failure.class,
            error = failure.error,
            dead_letters = topic,
            "event given up: it is a dead letter, and can be replayed (`outbox dead-letters`)"
        );
        Ok(Ended { settled: Settled::DeadLetter, later_wait })
    }

    /// Returns whether later events of its key wait.
    async fn end_waiting(
        &self,
        message: &Message,
        history: &History,
        options: &HandlerOptions,
    ) -> Result<bool, Interrupted> {
        let Some(waiting) = self.group.waiting(message, history, options.foreign) else {
            return Ok(false);
        };
        let names = &self.group.outbox.settings().names;
        let others = in_transaction!(
            self,
            |error| tell!(error, self, message, history, %error, "{NOT_NOTED}"),
            |tx| DB::end_waiting(&mut tx, names, &waiting)
        );
        Ok(others.later)
    }

    pub(super) async fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            () = sleep(duration) => Ok(()),
            () = self.stopped() => Err(Interrupted::Stopped),
        }
    }

    pub(super) async fn stopped(&self) {
        // An error is the end of the loop that would stop us.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    pub(super) fn count(&self, settled: &Settled) {
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        match settled {
            Settled::Handled => consumed.handled += 1,
            Settled::Duplicate => consumed.duplicates += 1,
            Settled::PassedOver => consumed.passed_over += 1,
            Settled::InRetryTopic => consumed.to_retry_topics += 1,
            Settled::Parked => consumed.parked += 1,
            Settled::DeadLetter => consumed.dead_letters += 1,
            Settled::Skipped => consumed.undecodable_skipped += 1,
            Settled::Abandoned | Settled::Hopeless(_) => {}
        }
    }

    fn database_is_away(&self, error: &OutboxError) {
        if !self.database_away.swap(true, Ordering::Relaxed) {
            let group = &*self.group.name;
            if error.kind() == ErrorKind::NotMigrated {
                tracing::error!(group, %error, "a table is missing: the consumer waits for it");
            } else {
                tracing::warn!(group, %error, "the consumer cannot use the database: it waits, and no attempt is counted");
            }
        }
    }

    fn database_answers(&self) {
        if self.database_away.swap(false, Ordering::Relaxed) {
            tracing::info!(group = &*self.group.name, "the consumer can use the database again");
        }
    }
}
