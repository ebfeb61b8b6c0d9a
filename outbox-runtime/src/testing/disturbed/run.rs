//! The steps of one test.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::logs::{Fate, Log, Planned, logs, plan};
use super::together::{Done, together};
use super::{GivenUp, Handled};
use crate::consume::ErrorClass;
use crate::consume::attempt::{Attempted, Ending, Failure, Group};
use crate::consume::message::{History, Message};
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::testing::awaits::{Ended, Leftovers, Stepped};
use crate::testing::seed::Random;
use crate::testing::{Finding, Seed, TestMessage};
use crate::user_code::Guarded;

/// Longest time for the database to say whether a killed attempt was committed.
const ANSWER: Duration = Duration::from_secs(30);
/// Conflicts in a row after which an event is not tried again.
const MOST_CONFLICTS: u32 = 50;
/// Steps that are shown before the one at which something was found.
const STEPS_SHOWN: usize = 8;

pub(super) struct Run<'t, DB: OutboxDatabase> {
    group: &'t Group<DB>,
    leftovers: Leftovers<DB>,
    seed: Seed,
    random: Random,
    concurrency: usize,
    logs: Vec<Log>,
    handled: Handled,
    ids: BTreeSet<Uuid>,
    /// Times that the longest attempt waited.
    awaits: u32,
    steps: Vec<String>,
}

/// How an attempt ended.
type Attempt = Result<Attempted, Failure>;

impl<'t, DB: OutboxDatabase> Run<'t, DB> {
    pub(super) async fn new(
        group: &'t Group<DB>,
        messages: Vec<TestMessage>,
        seed: Seed,
        concurrency: usize,
    ) -> Result<Self, Finding> {
        no_two_with_one_id(group, &messages)?;
        let leftovers = Leftovers::before(&group.outbox).await.map_err(Finding::new)?;
        Ok(Self {
            group,
            leftovers,
            seed,
            random: Random::new(seed, 0),
            concurrency,
            logs: logs(messages),
            handled: Handled::default(),
            ids: BTreeSet::new(),
            awaits: 10,
            steps: Vec::new(),
        })
    }

    pub(super) async fn all(
        mut self,
        within: Duration,
        mut check: impl AsyncFnMut(&Handled),
    ) -> Result<Handled, Finding> {
        let until = Instant::now() + within;
        loop {
            let planned = plan(&mut self.logs, self.concurrency, self.awaits, &mut self.random);
            if planned.is_empty() {
                break;
            }
            // While one of them opened a connection, the others would be ahead.
            let opened = self.leftovers.open_connections(planned.len()).await;
            opened.map_err(|error| self.found(error))?;
            let done = timeout_at(until, self.deliver(&planned)).await;
            let done = done.map_err(|_| {
                self.found(format!(
                    "the handlers did not end within {within:?}. Does one of them wait for ever? If they are only slow, allow \
                     more time (`within`)"
                ))
            })?;
            let mut step = Vec::new();
            for (planned, done) in planned.into_iter().zip(done) {
                step.push(self.conclude(planned, done).await?);
            }
            self.steps.push(step.join("; at the same time "));
            self.look(&mut check).await?;
        }
        self.once_more().await?;
        self.look(&mut check).await?;
        Ok(self.handled)
    }

    /// Makes the attempts, at the same time.
    async fn deliver(&mut self, planned: &[Planned]) -> Vec<Done<Attempt>> {
        let group = self.group;
        let logs = &self.logs;
        let attempts = planned.iter().map(|planned| {
            let entry = &logs[planned.log].entries[planned.place];
            let attempt = attempt(group, &entry.message.0, entry.failed, planned.fate.ending());
            Stepped::new(attempt, planned.fate.killed_at(), self.leftovers.polling())
        });
        let done = together(attempts.collect(), &mut self.random).await;
        self.handled.deliveries += u32::try_from(done.len()).unwrap_or(u32::MAX);
        done
    }

    /// Takes notice of how an attempt ended, and says it.
    async fn conclude(&mut self, planned: Planned, done: Done<Attempt>) -> Result<String, Finding> {
        let Planned { log, place, fate, came_again } = planned;
        let message = self.logs[log].entries[place].message.clone();
        let again = if came_again { ", which comes again" } else { "" };
        let said = format!("{message}{again}");
        self.handled.disturbances += u32::from(fate != Fate::Undisturbed || came_again);
        let result = match done.ended {
            Ended::With(result) => result,
            Ended::GivenUp => {
                let committed = self.is_handled(&message).await?;
                if committed {
                    self.is_now_handled(&message);
                }
                let at = done.awaits;
                let so = if committed { "committed" } else { "rolled back" };
                return Ok(format!("{said}: killed at await {at} of its attempt, and {so}"));
            }
            Ended::Panicked(panic) => return Err(self.found(format!("{said}: panicked: {panic}"))),
        };
        self.awaits = self.awaits.max(done.awaits);
        let stored = !matches!(fate, Fate::KilledAt(_) | Fate::KilledAfterCommit);
        let entry = &mut self.logs[log].entries[place];
        let ended = match result {
            Err(Failure::Interrupted { error, .. }) if entry.interrupted < MOST_CONFLICTS => {
                entry.interrupted += 1;
                return Ok(format!("{said}: to be tried again after a conflict ({error})"));
            }
            Ok(Attempted::RolledBack) if fate == Fate::Fails => {
                entry.failed += 1;
                return Ok(format!("{said}: the handler was made to fail, and rolled back"));
            }
            Ok(Attempted::RolledBack) => {
                return Ok(format!("{said}: killed before the commit"));
            }
            Err(failure) => match self.failed(planned, &message, failure)? {
                Some(ended) => ended,
                None => return Ok(format!("{said}: the handler failed, and is tried again")),
            },
            Ok(attempted) => self.succeeded(&message, attempted)?,
        };
        if !stored {
            return Ok(format!("{said}: {ended}, and killed before its offset was stored"));
        }
        self.logs[log].next = place + 1;
        Ok(format!("{said}: {ended}"))
    }

    fn succeeded(
        &mut self,
        message: &TestMessage,
        attempted: Attempted,
    ) -> Result<&'static str, Finding> {
        let known = self.id(message).is_some_and(|id| self.ids.contains(&id));
        match attempted {
            Attempted::Handled { .. } if known => {
                Err(self.found(format!("{message} was handled a second time")))
            }
            Attempted::Handled { .. } => {
                self.is_now_handled(message);
                Ok("handled")
            }
            Attempted::Duplicate if known => Ok("skipped, as handled before"),
            Attempted::Duplicate => Err(self.found(format!(
                "{message} was skipped as a duplicate, and this test has not handled it. Its group has handled an event \
                 of this id before the test: give the test a new database, or new events"
            ))),
            Attempted::NoHandler
            | Attempted::BehindAnother
            | Attempted::InRetryTopic
            | Attempted::RolledBack => {
                // Delivered again, it is passed over again.
                let offset = |other: &TestMessage| other.0.offset == message.0.offset;
                if !self.handled.passed_over.iter().any(offset) {
                    self.handled.passed_over.push(message.clone());
                }
                Ok("passed over: no handler takes it")
            }
        }
    }

    /// What becomes of a message whose attempt failed by itself. `None`: another attempt.
    fn failed(
        &mut self,
        Planned { log, place, .. }: Planned,
        message: &TestMessage,
        failure: Failure,
    ) -> Result<Option<&'static str>, Finding> {
        let error = match failure {
            Failure::DatabaseAway(error) | Failure::Fatal(error) => {
                return Err(self.found(format!("{message}: {error}")));
            }
            Failure::Undecodable(why) => why,
            Failure::Interrupted { error, .. } => error,
            Failure::Handler { class, error } => {
                let group = self.group;
                let options = group.routes.route(&message.0, message.0.fresh()).options();
                let retry_topics = options.schedule.map_or(0, |schedule| schedule.delays().count());
                let most = options.attempts_in_place().saturating_add(retry_topics as u32);
                let entry = &mut self.logs[log].entries[place];
                entry.failed += 1;
                entry.failed_by_itself += 1;
                if class == ErrorClass::Transient && entry.failed_by_itself < most {
                    return Ok(None);
                }
                error
            }
        };
        let offset = |other: &GivenUp| other.message.0.offset == message.0.offset;
        if !self.handled.dead_letters.iter().any(offset) {
            self.handled.dead_letters.push(GivenUp { message: message.clone(), error });
        }
        Ok(Some("a dead letter"))
    }

    /// All that was handled comes again, as when offsets are lost.
    async fn once_more(&mut self) -> Result<(), Finding> {
        for message in self.handled.events.clone() {
            self.handled.deliveries += 1;
            let attempted = attempt(self.group, &message.0, 0, Ending::Commit).await;
            if !matches!(attempted, Ok(Attempted::Duplicate)) {
                return Err(self.found(format!(
                    "{message} was handled, came once more at the end, and was not skipped: {attempted:?}"
                )));
            }
        }
        self.steps.push("all that was handled came once more".to_owned());
        Ok(())
    }

    /// Looks at what the step has left behind.
    async fn look(&self, check: &mut impl AsyncFnMut(&Handled)) -> Result<(), Finding> {
        self.leftovers.none().await.map_err(|left| self.found(left))?;
        let checked = Guarded::new(Box::pin(check(&self.handled))).await;
        checked.map_err(|said| {
            self.found(format!(
                "the check failed: {said}\nEvents handled so far: {}. What a handler does outside of its `tx` is not undone when \
                 an attempt fails, and is done again when its event comes again: do it on `tx`, or have it recognise the \
                 event by `context.id`",
                self.handled.events.len()
            ))
        })
    }

    fn found(&self, what: String) -> Finding {
        let first = self.steps.len().saturating_sub(STEPS_SHOWN);
        let mut text = what;
        for (number, step) in self.steps.iter().enumerate().skip(first) {
            text.push_str(&format!("\n  step {}: {step}", number + 1));
        }
        let seed = self.seed.number();
        text.push_str(&format!("\nReplay it by OUTBOX_SEED={seed}, or `Seed::from({seed})`"));
        Finding::new(text)
    }

    fn id(&self, message: &TestMessage) -> Option<Uuid> {
        self.group.routes.route(&message.0, message.0.fresh()).id
    }

    fn is_now_handled(&mut self, message: &TestMessage) {
        if let Some(id) = self.id(message)
            && self.ids.insert(id)
        {
            self.handled.events.push(message.clone());
        }
    }

    /// Whether an attempt that was killed was committed. Waits for one whose end is not known yet.
    async fn is_handled(&self, message: &TestMessage) -> Result<bool, Finding> {
        let Some(id) = self.id(message) else { return Ok(false) };
        let asked = async {
            let mut tx = self.group.begin(ANSWER).await?;
            let names = &self.group.outbox.core().names;
            let new = DB::insert_inbox(&mut tx, names, &self.group.name, id).await?;
            tx.rollback().await?;
            Ok::<_, OutboxError>(!new)
        };
        let handled = asked.await;
        handled.map_err(|error| self.found(format!("{message} was killed, and then: {error}")))
    }
}

impl Fate {
    fn ending(self) -> Ending {
        match self {
            Self::KilledBeforeCommit | Self::Fails => Ending::RollBack,
            Self::Undisturbed | Self::KilledAt(_) | Self::KilledAfterCommit => Ending::Commit,
        }
    }

    fn killed_at(self) -> Option<u32> {
        match self {
            Self::KilledAt(awaits) => Some(awaits),
            _ => None,
        }
    }
}

async fn attempt<DB: OutboxDatabase>(
    group: &Group<DB>,
    message: &Message,
    failed: u32,
    ending: Ending,
) -> Attempt {
    let history = History { attempts: failed, ..message.fresh() };
    let incoming = group.routes.route(message, history);
    group.attempt(&incoming, ending).await
}

/// A message may come twice. Another one of the same id is skipped as a duplicate, and lost.
fn no_two_with_one_id<DB: OutboxDatabase>(
    group: &Group<DB>,
    messages: &[TestMessage],
) -> Result<(), Finding> {
    let mut by_id = HashMap::new();
    for message in messages {
        let incoming = group.routes.route(&message.0, message.0.fresh());
        let Some(id) = incoming.id else { continue };
        let TestMessage(this) = message;
        let first = by_id.entry(id).or_insert(this);
        if (&first.topic, &first.key, &first.payload) != (&this.topic, &this.key, &this.payload) {
            return Err(Finding::new(format!(
                "two different events have the id {id}, the second one is {message}: a consumer takes it for the first, and \
                 skips it. An id is of one event, and not of what the event is about"
            )));
        }
    }
    Ok(())
}
