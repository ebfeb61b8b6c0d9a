//! Each rule that docs/guide/errors-retries-dead-letters.md promises.

use super::*;
use crate::consume::LaterEvents;

const TRANSIENT: Outcome = Outcome::Failed(ErrorClass::Transient);
const PERMANENT: Outcome = Outcome::Failed(ErrorClass::Permanent);
const CONFLICT: Outcome = Outcome::Interrupted(Interruption::Conflict);
const LOST_CONNECTION: Outcome = Outcome::Interrupted(Interruption::LostConnection);
const BEFORE_HANDLER: Outcome = Outcome::Interrupted(Interruption::BeforeHandler);

const SECONDS: Duration = Duration::from_secs(10);
const MINUTES: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);
const NEW: HandlerOptions = HandlerOptions::new();
const WITH_TOPICS: HandlerOptions =
    HandlerOptions::new().retry_topics(&[SECONDS, MINUTES, HOUR], LaterEvents::Wait);

fn policy(handler: HandlerOptions) -> Policy {
    Policy { handler, ..Policy::default() }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The steps of an event that is delivered for the first time, with these outcomes.
fn steps(handler: HandlerOptions, outcomes: impl IntoIterator<Item = Outcome>) -> Vec<Step> {
    steps_after(Tries::default(), handler, outcomes)
}

fn steps_after(
    mut tries: Tries,
    handler: HandlerOptions,
    outcomes: impl IntoIterator<Item = Outcome>,
) -> Vec<Step> {
    let outcomes = outcomes.into_iter();
    outcomes
        .map(|outcome| {
            let step = next_step(outcome, &policy(handler), &tries);
            tries.count(outcome);
            step
        })
        .collect()
}

#[test]
fn an_event_is_tried_ten_times_with_pauses_that_double_and_is_then_a_dead_letter() {
    let mut expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]
        .map(|pause| Step::RetryIn(millis(pause)))
        .to_vec();
    expected.push(Step::DeadLetter);
    assert_eq!(steps(NEW, [TRANSIENT; 10]), expected);
}

#[test]
fn a_handler_says_how_often_and_with_which_pauses_it_is_tried() {
    let options = NEW.attempts(3).backoff(millis(7), millis(10));
    assert_eq!(
        steps(options, [TRANSIENT; 3]),
        [Step::RetryIn(millis(7)), Step::RetryIn(millis(10)), Step::DeadLetter]
    );
    assert_eq!(steps(NEW.attempts(0), [TRANSIENT]), [Step::DeadLetter], "at least once");
}

#[test]
fn an_event_that_is_tried_for_ever_is_never_given_up_unless_its_failure_is_permanent() {
    let long = Tries { failed: u32::MAX, ..Tries::default() };
    let options = NEW.retry_forever();
    assert_eq!(
        steps_after(long, options, [TRANSIENT, PERMANENT, Outcome::Undecodable]),
        [Step::RetryIn(Duration::from_secs(10)), Step::DeadLetter, Step::DeadLetter]
    );
}

#[test]
fn with_retry_topics_an_event_is_tried_once_and_once_after_each_delay() {
    for (retry, expected) in [
        (0, Step::ToTopic(SECONDS)),
        (1, Step::ToTopic(MINUTES)),
        (2, Step::ToTopic(HOUR)),
        (3, Step::DeadLetter),
        (4, Step::DeadLetter), // a delay was removed from its handler
    ] {
        let tries = Tries { retry, ..Tries::default() };
        assert_eq!(steps_after(tries, WITH_TOPICS, [TRANSIENT]), [expected], "{retry}");
    }
}

#[test]
fn attempts_in_place_come_before_the_retry_topics_and_not_between_them() {
    let options = WITH_TOPICS.attempts(3);
    assert_eq!(
        steps(options, [TRANSIENT; 3]),
        [Step::RetryIn(millis(100)), Step::RetryIn(millis(200)), Step::ToTopic(SECONDS)]
    );
    let out_of_the_first = Tries { retry: 1, ..Tries::default() };
    assert_eq!(steps_after(out_of_the_first, options, [TRANSIENT]), [Step::ToTopic(MINUTES)]);
}

#[test]
fn a_permanent_failure_makes_a_dead_letter_at_once() {
    for options in [NEW, WITH_TOPICS, WITH_TOPICS.attempts(5)] {
        assert_eq!(steps(options, [PERMANENT]), [Step::DeadLetter]);
    }
}

#[test]
fn what_is_undecodable_is_a_dead_letter_at_once_or_is_skipped() {
    let skipping = Policy { undecodable: Undecodable::Skip, ..policy(WITH_TOPICS) };
    for (policy, expected) in
        [(policy(WITH_TOPICS), Step::DeadLetter), (skipping, Step::Done(Settled::Skipped))]
    {
        assert_eq!(next_step(Outcome::Undecodable, &policy, &Tries::default()), expected);
    }
    let class = Outcome::Undecodable.failed(&Tries::default());
    assert_eq!(class, None, "it was not tried");
}

#[test]
fn an_event_that_no_handler_takes_is_skipped_unless_the_group_wants_or_has_taken_it() {
    let passed_over = Step::Done(Settled::PassedOver);
    let keeping = Policy { unknown_events: UnknownEvents::DeadLetter, ..policy(NEW) };
    for (policy, named, was_taken, expected) in [
        (policy(NEW), true, false, passed_over),
        (policy(NEW), true, true, Step::DeadLetter), // it waited, and its handler was removed
        (keeping, true, false, Step::DeadLetter),
        (policy(NEW), false, false, passed_over), // another producer's tombstone
        (keeping, false, false, passed_over),
    ] {
        let outcome = Outcome::NoHandler { named, was_taken };
        assert_eq!(next_step(outcome, &policy, &Tries::default()), expected, "{outcome:?}");
    }
}

#[test]
fn what_succeeds_or_was_handled_before_is_done() {
    for (outcome, settled) in [
        (Outcome::Handled, Settled::Handled),
        (Outcome::Duplicate, Settled::Duplicate),
        (Outcome::InRetryTopic, Settled::InRetryTopic),
    ] {
        assert_eq!(steps(WITH_TOPICS, [TRANSIENT, outcome])[1], Step::Done(settled));
    }
}

#[test]
fn an_event_behind_another_of_its_key_is_queued_and_that_is_no_attempt() {
    assert_eq!(steps(WITH_TOPICS, [Outcome::BehindAnother]), [Step::Enqueue]);
    assert_eq!(
        steps(NEW.attempts(2), [Outcome::BehindAnother, TRANSIENT, TRANSIENT])[1..],
        [Step::RetryIn(millis(100)), Step::DeadLetter]
    );
}

#[test]
fn while_the_database_is_away_no_attempt_is_counted() {
    let steps = steps(NEW.attempts(1), [Outcome::DatabaseAway; 1_000]);
    assert_eq!(steps[..3], [200, 400, 800].map(|pause| Step::Wait(millis(pause))));
    assert_eq!(steps[999], Step::Wait(Duration::from_secs(5)));
}

#[test]
fn fifty_conflicts_in_a_row_count_nothing_and_the_next_one_is_a_failed_attempt() {
    let steps = steps(NEW.attempts(2), [CONFLICT; 102]);
    assert_eq!(steps[..3], [5, 10, 20].map(|pause| Step::Wait(millis(pause))));
    assert_eq!(steps[49], Step::Wait(millis(500)));
    assert_eq!(steps[50], Step::RetryIn(millis(100)));
    assert_eq!(steps[51], Step::Wait(millis(5)), "counted from the start");
    assert_eq!(steps[101], Step::DeadLetter);
}

#[test]
fn an_event_that_ends_connections_three_times_in_a_row_has_failed_with_the_fourth() {
    let steps = steps(WITH_TOPICS, [LOST_CONNECTION; 4]);
    assert!(steps[..3].iter().all(|step| matches!(step, Step::Wait(_))), "{steps:?}");
    assert_eq!(steps[3], Step::ToTopic(SECONDS));
}

#[test]
fn what_is_in_the_way_before_the_handler_runs_is_never_counted() {
    let steps = steps(NEW.attempts(1), [BEFORE_HANDLER; 1_000]);
    assert!(steps.iter().all(|step| matches!(step, Step::Wait(_))));
}

#[test]
fn a_database_that_is_away_does_not_end_a_row_of_conflicts_and_a_failed_attempt_does() {
    let conflicts = || std::iter::repeat_n(CONFLICT, 50);
    let last = |outcomes: Vec<Outcome>| *steps(NEW, outcomes).last().unwrap();
    let away = conflicts().chain([Outcome::DatabaseAway, CONFLICT]).collect();
    assert_eq!(last(away), Step::RetryIn(millis(100)));
    let failed = conflicts().chain([TRANSIENT, CONFLICT]).collect();
    assert_eq!(last(failed), Step::Wait(millis(5)));
}
