//! The calls of one test, and what they have left behind.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::leftovers::Leftovers;
use super::statements::Statements;
use super::stepped::{Ended, Stepped};
use super::{Dropped, Limits};
use crate::error::ErrorKind;
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;
use crate::testing::{Emitted, Finding, emitted};
use crate::user_code::Guarded;

/// Rounds, each until the call runs to its end, of which none has dropped it at a new place: then
/// the test is done. An answer may be there at once, and the await then cannot be dropped at in
/// this round; and the first time, statements are prepared, which are more awaits.
const ROUNDS_WITHOUT_NEWS: u32 = 3;
const MOST_ROUNDS: u32 = 12;

/// Where a call was dropped: number of the await, statements that had ended, and whether another
/// one was under way.
type Place = (u32, usize, bool);

pub(super) struct Run<'o, DB: OutboxDatabase> {
    outbox: &'o Outbox<DB>,
    limits: Limits,
    until: Instant,
    leftovers: Leftovers<DB>,
    statements: Statements,
    /// Events of the calls.
    emitted: Emitted,
    /// Ids of all events that were ever seen.
    known: BTreeSet<Uuid>,
    places: BTreeSet<Place>,
    /// Names of the events of each call that ran to its end.
    whole: Vec<Vec<String>>,
    /// What calls were dropped at and have left, if they have left events.
    partial: Vec<(String, Vec<String>)>,
    report: Dropped,
}

/// How a call ended, and where it was.
struct Called<T> {
    /// `None`: the time is over.
    ended: Option<Ended<T>>,
    awaits: u32,
    place: String,
}

impl<'o, DB: OutboxDatabase> Run<'o, DB> {
    pub(super) async fn new(outbox: &'o Outbox<DB>, limits: Limits) -> Result<Self, Finding> {
        let leftovers = Leftovers::before(outbox).await.map_err(before_the_first)?;
        let mut run = Self {
            outbox,
            limits,
            until: Instant::now() + limits.within,
            leftovers,
            statements: Statements::new(),
            emitted: Emitted::default(),
            known: BTreeSet::new(),
            places: BTreeSet::new(),
            whole: Vec::new(),
            partial: Vec::new(),
            report: Dropped::default(),
        };
        let before = run.stored().await.map_err(before_the_first)?;
        run.known.extend(before.iter().map(|record| record.id));
        Ok(run)
    }

    pub(super) async fn all<T, E>(
        mut self,
        mut call: impl AsyncFnMut() -> Result<T, E>,
        mut check: impl AsyncFnMut(&Emitted),
    ) -> Result<Dropped, Finding>
    where
        E: fmt::Debug,
    {
        let mut without_news = 0;
        while without_news < ROUNDS_WITHOUT_NEWS && self.report.completed < MOST_ROUNDS {
            let places = self.places.len();
            for give_up_at in 1.. {
                let Called { ended, awaits, place } = self.one(call(), give_up_at).await;
                self.report.awaits = self.report.awaits.max(awaits);
                let dropped = self.dropped(ended, &place)?;
                let names = self.look(&place).await?;
                self.checked(&mut check, &place).await?;
                if !dropped {
                    self.whole.push(names);
                    break;
                }
                if !names.is_empty() {
                    self.partial.push((place, names));
                }
                if give_up_at >= self.limits.awaits {
                    return Err(too_many_awaits(give_up_at));
                }
            }
            without_news = if self.places.len() > places { 0 } else { without_news + 1 };
            if self.report.dropped == 0 {
                return Err(Finding::new(
                    "the call ended without waiting once, so it was dropped nowhere, and this test shows nothing. Does \
                     it reach the database?",
                ));
            }
        }
        self.whole_or_nothing()?;
        Ok(self.report)
    }

    /// One call, to its end or to this await.
    async fn one<F: Future>(&mut self, future: F, give_up_at: u32) -> Called<F::Output> {
        let mut stepped = Stepped::new(future, Some(give_up_at), self.leftovers.polling());
        let mut time_is_over = pin!(sleep_until(self.until));
        let ended = poll_fn(|context| {
            if time_is_over.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            self.statements.during(|| stepped.step(context)).map(Some)
        })
        .await;
        let awaits = stepped.awaits();
        let run = self.statements.take();
        self.statements.during(|| drop(stepped));
        let under_way = self.statements.take();
        if matches!(ended, Some(Ended::GivenUp)) {
            self.places.insert((awaits, run.len(), !under_way.is_empty()));
            self.report.under_way.extend(under_way.iter().cloned());
        }
        let place = match (&ended, under_way.last(), run.last()) {
            (Some(Ended::With(_)), ..) => "the call ran to its end".to_owned(),
            (_, Some(statement), _) => {
                format!("dropped at its await {awaits}, while {statement} was under way")
            }
            (_, None, Some(statement)) => {
                format!("dropped at its await {awaits}, after {statement}")
            }
            (_, None, None) => format!("dropped at its await {awaits}"),
        };
        Called { ended, awaits, place }
    }

    /// Whether the call was dropped. Otherwise it must have succeeded.
    fn dropped<T, E: fmt::Debug>(
        &mut self,
        ended: Option<Ended<Result<T, E>>>,
        place: &str,
    ) -> Result<bool, Finding> {
        match ended {
            Some(Ended::GivenUp) => {
                self.report.dropped += 1;
                Ok(true)
            }
            Some(Ended::With(Ok(_))) => {
                self.report.completed += 1;
                Ok(false)
            }
            Some(Ended::With(Err(error))) => Err(Finding::new(format!(
                "the call failed, although it was not dropped: {error:?}. {} calls before it were. It must succeed each \
                 time: if it cannot do the same thing twice, let the closure count, and give it the number",
                self.report.dropped
            ))),
            Some(Ended::Panicked(said)) => {
                Err(Finding::new(format!("the call panicked: {said} ({place})")))
            }
            None => Err(Finding::new(format!(
                "the calls did not end within {:?}: the last one was {place}, where it still waited. Does it end? If all of \
                 them are only slow, allow more time (`within`)",
                self.limits.within
            ))),
        }
    }

    /// Looks at what the call has left, and returns the names of its events.
    async fn look(&mut self, place: &str) -> Result<Vec<String>, Finding> {
        let left = self.leftovers.none().await;
        left.map_err(|left| Finding::new(format!("{place}: {left}")))?;
        let stored =
            self.stored().await.map_err(|error| Finding::new(format!("{place}: {error}")))?;
        let mut names = Vec::new();
        for record in stored {
            if self.known.insert(record.id) {
                names.push(record.name.to_string());
                self.emitted.0.push(record);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn checked(
        &self,
        check: &mut impl AsyncFnMut(&Emitted),
        place: &str,
    ) -> Result<(), Finding> {
        let checked = Guarded::new(Box::pin(check(&self.emitted))).await;
        checked.map_err(|said| {
            Finding::new(format!(
                "{place}: the check failed: {said}\nThe calls so far ({} dropped, {} at their end) have emitted {:?}. Rows and \
                 events are committed together only if both are written on the `tx` of one transaction",
                self.report.dropped,
                self.report.completed,
                self.emitted.names()
            ))
        })
    }

    /// Whether each dropped call has left none of its events, or all of them.
    fn whole_or_nothing(&self) -> Result<(), Finding> {
        if self.limits.several_transactions {
            return Ok(());
        }
        let part = self.partial.iter().find(|(_, names)| !self.whole.contains(names));
        let Some((place, names)) = part else { return Ok(()) };
        Err(Finding::new(format!(
            "{place}: the call has left a part of its events, {names:?}. One that ran to its end emits {:?}. After a crash \
             there, the others are lost: emit all of them in one transaction. If these are meant to be several, say \
             `in_several_transactions`",
            self.whole.last().map(Vec::as_slice).unwrap_or_default()
        )))
    }

    /// All events of the outbox. Without its tables there are none.
    async fn stored(&self) -> Result<Emitted, String> {
        match emitted(self.outbox).await {
            Err(error) if error.kind() == ErrorKind::NotMigrated => Ok(Emitted::default()),
            stored => stored.map_err(|error| error.to_string()),
        }
    }
}

fn before_the_first(error: String) -> Finding {
    Finding::new(format!("before the first call: {error}"))
}

fn too_many_awaits(awaits: u32) -> Finding {
    Finding::new(format!(
        "the call waited {awaits} times and had not ended. Does it end? If it is meant to wait more often, say so (`at_most`)"
    ))
}
