//! The step that follows an attempt: every rule of retries, as one function without side effects.

use std::time::Duration;

use super::attempt::Interruption;
use super::class::ErrorClass;
use super::options::HandlerOptions;
use crate::backoff::pause_after;

/// What becomes of a message that is not what it should be: its payload cannot be decoded, its
/// version is unknown, or it lacks the headers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undecodable {
    /// It goes to the dead letters.
    #[default]
    DeadLetter,
    /// It is passed over, with a warning in the log.
    Skip,
}

/// What becomes of an event whose name no handler of its topic takes.
///
/// A topic often has events that a group does not need: they are skipped, which is the default. But
/// members of a group that are not deployed yet also skip an event that is new, and it does not
/// come again for those that are. Deploy the consumers of a new name first, and then what emits it;
/// or keep such events as dead letters, and replay them after the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownEvents {
    /// It is skipped. The first of each name is logged as a warning, with its place.
    #[default]
    Skip,
    /// It goes to the dead letters. For topics of which this group handles all events.
    DeadLetter,
}

/// The first and the longest pause between attempts while the database or the brokers are away.
pub(super) const AWAY_PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(5));
/// The same between attempts that conflicted with another transaction.
pub(super) const CONFLICT_PAUSES: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(500));

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The handler's changes are committed.
    Handled,
    /// The inbox knew the event: nothing was changed.
    Duplicate,
    /// The event is in a retry topic, and was delivered again from its own.
    InRetryTopic,
    /// An earlier event of its key is not settled.
    BehindAnother,
    /// No handler of the group takes events of its name.
    NoHandler {
        /// Whether it has a name. A tombstone of another producer has none.
        named: bool,
        /// Whether it has waited in a retry topic or in the database: a handler of this group took
        /// it then.
        was_taken: bool,
    },
    /// It cannot be read as an event that its handler takes.
    Undecodable,
    /// The handler failed, or its commit.
    Failed(ErrorClass),
    /// Something ended the attempt that may not be the event's fault.
    Interrupted(Interruption),
    /// The database does not answer.
    DatabaseAway,
}

/// What became of a message. Its offset is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Handled,
    /// Skipped: the inbox knew it.
    Duplicate,
    /// Skipped: no handler takes events of its name.
    PassedOver,
    InRetryTopic,
    /// Kept in the database, behind an earlier event of its key.
    Queued,
    DeadLetter,
    /// Skipped: undecodable, and the consumer is configured to skip such messages.
    Skipped,
}

impl Settled {
    pub(crate) const ALL: [Self; 7] = [
        Self::Handled,
        Self::Duplicate,
        Self::PassedOver,
        Self::InRetryTopic,
        Self::Queued,
        Self::DeadLetter,
        Self::Skipped,
    ];

    /// The value of the label `result` in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Duplicate => "duplicate",
            Self::PassedOver => "passed_over",
            Self::InRetryTopic => "retry_topic",
            Self::Queued => "queued",
            Self::DeadLetter => "dead_letter",
            Self::Skipped => "skipped",
        }
    }
}

/// What to do with an event after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing more: it is settled.
    Done(Settled),
    /// Keep it in the database until the earlier events of its key are settled.
    Enqueue,
    /// Try it again after this pause. The attempt does not count.
    Wait(Duration),
    /// Try it again in place after this pause. The attempt counts as failed.
    RetryIn(Duration),
    /// Send it to the retry topic of this delay. The attempt counts as failed.
    ToTopic(Duration),
    /// Send it to the dead letters.
    DeadLetter,
}

/// What the user has asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    /// Options of the event's handler.
    pub(crate) handler: HandlerOptions,
    pub(crate) undecodable: Undecodable,
    pub(crate) unknown_events: UnknownEvents,
}

/// What has happened to an event before an attempt. All but the first since this delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Times that it was sent to a retry topic because it failed.
    pub(crate) retry: usize,
    /// Failed attempts.
    pub(crate) failed: u32,
    /// Interrupted attempts since the last failed one.
    pub(crate) interrupted: u32,
    /// Attempts since the last failed one for which the database was away.
    pub(crate) away: u32,
}

impl Outcome {
    /// Class of the failed attempt that this is; `None` if it does not count as one.
    pub(crate) fn failed(self, before: &Tries) -> Option<ErrorClass> {
        match self {
            Self::Failed(class) => Some(class),
            // Without a bound, an event that always leads to this would be tried for ever.
            Self::Interrupted(by) if before.interrupted >= most_in_a_row(by) => {
                Some(ErrorClass::Transient)
            }
            _ => None,
        }
    }
}

/// Interruptions in a row that do not count as attempts. The next one is a failed attempt.
const fn most_in_a_row(by: Interruption) -> u32 {
    match by {
        Interruption::BeforeHandler => u32::MAX,
        Interruption::Conflict => 50,
        Interruption::LostConnection => 3,
    }
}

impl Tries {
    /// Counts an attempt.
    pub(crate) fn count(&mut self, outcome: Outcome) {
        if outcome.failed(self).is_some() {
            let failed = self.failed.saturating_add(1);
            *self = Self { failed, interrupted: 0, away: 0, ..*self };
            return;
        }
        match outcome {
            Outcome::Interrupted(_) => self.interrupted = self.interrupted.saturating_add(1),
            Outcome::DatabaseAway => self.away = self.away.saturating_add(1),
            _ => {}
        }
    }
}

/// What to do with an event after an attempt with this outcome. `before`: what had happened to it
/// before that attempt.
pub(crate) fn next_step(outcome: Outcome, policy: &Policy, before: &Tries) -> Step {
    match outcome {
        Outcome::Handled => Step::Done(Settled::Handled),
        Outcome::Duplicate => Step::Done(Settled::Duplicate),
        Outcome::InRetryTopic => Step::Done(Settled::InRetryTopic),
        Outcome::BehindAnother => Step::Enqueue,
        Outcome::NoHandler { named: true, was_taken }
            if was_taken || policy.unknown_events == UnknownEvents::DeadLetter =>
        {
            Step::DeadLetter
        }
        Outcome::NoHandler { .. } => Step::Done(Settled::PassedOver),
        Outcome::Undecodable => match policy.undecodable {
            Undecodable::Skip => Step::Done(Settled::Skipped),
            Undecodable::DeadLetter => Step::DeadLetter,
        },
        Outcome::DatabaseAway => Step::Wait(pause_after(before.away, AWAY_PAUSES.0, AWAY_PAUSES.1)),
        Outcome::Failed(class) => after_failure(class, &policy.handler, before),
        Outcome::Interrupted(_) => match outcome.failed(before) {
            Some(class) => after_failure(class, &policy.handler, before),
            None => {
                let (first, longest) = CONFLICT_PAUSES;
                Step::Wait(pause_after(before.interrupted, first, longest))
            }
        },
    }
}

/// In place, then through the retry topics, then to the dead letters.
fn after_failure(class: ErrorClass, options: &HandlerOptions, before: &Tries) -> Step {
    if class == ErrorClass::Permanent {
        return Step::DeadLetter;
    }
    // An event from a retry topic is tried once, and then sent to the next one.
    let in_place = if before.retry == 0 { options.attempts_in_place() } else { 1 };
    if in_place == u32::MAX || before.failed.saturating_add(1) < in_place {
        let pause = pause_after(before.failed, options.first_pause, options.longest_pause);
        return Step::RetryIn(pause);
    }
    let delay = options.schedule.and_then(|schedule| schedule.delays().nth(before.retry));
    delay.map_or(Step::DeadLetter, Step::ToTopic)
}

#[cfg(test)]
mod tests;
