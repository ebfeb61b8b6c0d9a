//! Several events in one transaction, for handlers that say so
//! ([`HandlerOptions::shared_transaction`](super::HandlerOptions::shared_transaction)): one
//! `BEGIN`, one insert into the inbox, the handlers one after the other, one `COMMIT`.
//!
//! It is optimistic. Whatever fails, all of it is rolled back, and each event goes the way of
//! [`settle`](super::settle), alone and from its first attempt on. So nothing here counts attempts,
//! sends to topics or queues events, and what becomes of an event is decided in one place.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::attempt::{Attempted, Failure, GRACE, Group, LONGEST_ANSWER, before_handler, run};
use super::class::ErrorClass;
use super::erased::HandlerFailure;
use super::message::{History, Message};
use super::policy::Settled;
use super::prepare::{Prepared, prepare};
use super::route::{Incoming, Route};
use super::spans;
use super::worker::{GroupWorker, log_event};
use crate::error::OutboxError;
use crate::observe::target;
use crate::store::{GroupKey, OutboxDatabase};
use crate::tx::OutboxTx;
use crate::user_code::{Guarded, UserError};

/// What became of an event in a shared transaction that was committed.
struct Shared {
    settled: Settled,
    /// Time of its handler.
    took: Duration,
}

/// Why a shared transaction was rolled back.
struct RolledBack {
    /// Number of the event in the transaction, if it was one of them.
    by: Option<usize>,
    failure: Failure,
}

impl<DB: OutboxDatabase, F> GroupWorker<DB, F> {
    /// Number of events that may be in the transaction of this one. `None`: it is handled alone. So
    /// are events that may have a place in the queue of their key, and messages that are not what
    /// they should be.
    pub(super) fn shares(&self, message: &Message, history: &History) -> Option<u32> {
        let was_tried = message.was_queued(history) || history.attempts > 0;
        if !self.group.routes.share || was_tried {
            return None;
        }
        let incoming = self.group.routes.route(message, history.clone());
        let Route::Handler(handler, _) = incoming.route else { return None };
        let events = handler.options().shared_transaction;
        (events > 1 && incoming.id.is_some()).then_some(events)
    }

    /// Handles messages in one transaction, in their order. `None`: it was rolled back, and each of
    /// them has to be settled alone.
    pub(super) async fn settle_shared(
        &self,
        messages: &[(&Message, &History)],
    ) -> Option<Vec<Settled>> {
        let begun = Instant::now();
        let routed = messages.iter();
        let routed =
            routed.map(|(message, history)| self.group.routes.route(message, (*history).clone()));
        let batch: Vec<_> = routed.collect();
        let attempt = Box::pin(self.group.attempt_shared(&batch));
        let rolled_back = match Guarded::new(attempt).await {
            Ok(Ok(shared)) => return Some(self.committed(&batch, &shared, begun.elapsed())),
            Ok(Err(rolled_back)) => rolled_back,
            Err(said) => {
                let error = format!("the consumer panicked: {said}");
                let failure = Failure::Handler { class: ErrorClass::Transient, error };
                RolledBack { by: None, failure }
            }
        };
        let (kind, error) = spans::described(&rolled_back.failure);
        if let Some(incoming) = rolled_back.by.and_then(|by| batch.get(by)) {
            log_event!(
                debug,
                self,
                incoming,
                kind,
                error,
                "event failed in a shared transaction: that was no attempt"
            );
        }
        tracing::info!(
            target: target::CONSUMER,
            group = &*self.group.name,
            events = batch.len(),
            kind,
            error,
            "a shared transaction was rolled back: each of its events is handled in a transaction of its own"
        );
        None
    }

    /// Reports what was done.
    fn committed(
        &self,
        batch: &[Incoming<'_, DB>],
        shared: &[Shared],
        took: Duration,
    ) -> Vec<Settled> {
        self.database_answers();
        let in_handlers: Duration = shared.iter().map(|shared| shared.took).sum();
        let events = u32::try_from(batch.len()).unwrap_or(u32::MAX).max(1);
        let part = took.saturating_sub(in_handlers) / events;
        let each = batch.iter().zip(shared);
        each.map(|(incoming, Shared { settled, took })| {
            if *settled == Settled::Duplicate {
                log_event!(debug, self, incoming, "event skipped: handled before");
            }
            self.meter.handling_took(incoming.in_metrics(), *took + part);
            self.meter.handled(incoming.in_metrics(), settled.as_str());
            *settled
        })
        .collect()
    }
}

impl<DB: OutboxDatabase> Group<DB> {
    /// Every wait for the database is bounded, as in an attempt of one event. Dropped, the
    /// transaction is rolled back with its connection.
    async fn attempt_shared(&self, batch: &[Incoming<'_, DB>]) -> Result<Vec<Shared>, RolledBack> {
        // What cannot be read is found before anything is done.
        let mut prepared = Vec::with_capacity(batch.len());
        for (by, incoming) in batch.iter().enumerate() {
            let failed = |failure| RolledBack { by: Some(by), failure };
            let no_handler = || Failure::Undecodable("no handler takes it".to_owned());
            let of = prepare(incoming).and_then(|of| of.ok_or_else(no_handler));
            prepared.push(of.map_err(failed)?);
        }
        let limit = prepared.iter().map(|of| of.options.timeout).min().unwrap_or(LONGEST_ANSWER);
        let answer = limit.saturating_add(GRACE).min(LONGEST_ANSWER);
        let not_begun = |error| RolledBack { by: None, failure: before_handler(error) };
        let begun = self.in_time(answer, self.begin(limit)).await;
        let mut tx = begun.map_err(not_begun)?;
        // Other members may be handling the same events: this waits for them.
        let ids = prepared.iter().map(|of| of.context.id).collect();
        let admitted = self.admit_all(&mut tx, batch, ids);
        let admitted = self.in_time(limit.saturating_add(GRACE), admitted).await;
        let Some(new) = admitted.map_err(not_begun)? else {
            self.roll_back(tx).await;
            let error = "an event of one of its keys waits, or is in a retry topic".to_owned();
            let failure = Failure::Handler { class: ErrorClass::Transient, error };
            return Err(RolledBack { by: None, failure });
        };
        let all_known = new.is_empty();
        let mut ran =
            Ran { new, until: Instant::now() + limit, shared: Vec::new(), spans: Vec::new() };
        for (by, (incoming, prepared)) in batch.iter().zip(prepared).enumerate() {
            if let Err(failure) = self.run_next(&mut tx, &mut ran, incoming, prepared).await {
                let failure = self.failed(tx, failure, answer).await;
                ran.failed(&failure);
                return Err(RolledBack { by: Some(by), failure });
            }
        }
        if all_known {
            self.roll_back(tx).await;
            self.flush(answer).await.map_err(not_begun)?;
            return Ok(ran.shared);
        }
        match self.commit(tx, answer).await {
            Ok(()) => {
                ran.all_ended(Ok(Attempted::Handled { later: false }));
                Ok(ran.shared)
            }
            Err(failure) => {
                ran.all_ended(Err(&failure));
                Err(RolledBack { by: None, failure })
            }
        }
    }

    /// Inserts the events into the inbox. Returns those that it did not know, or `None` if the queue
    /// of any of their keys has an event.
    async fn admit_all(
        &self,
        tx: &mut OutboxTx<'static, DB>,
        batch: &[Incoming<'_, DB>],
        mut ids: Vec<Uuid>,
    ) -> Result<Option<HashSet<Uuid>>, OutboxError> {
        let names = &self.outbox.core().names;
        ids.sort_unstable();
        ids.dedup();
        let new = DB::insert_inbox_all(tx, names, &self.name, &ids).await?;
        // They are of one partition, and so of one topic.
        let keys: Vec<_> = batch.iter().filter_map(|of| Some(self.queued(of)?.of)).collect();
        if let Some(GroupKey { group, topic, .. }) = keys.first() {
            let mut digests: Vec<_> = keys.iter().map(GroupKey::digest).collect();
            digests.sort_unstable();
            digests.dedup();
            if DB::any_queued(tx, names, group, topic, &digests).await? {
                return Ok(None);
            }
        }
        Ok(Some(new.into_iter().collect()))
    }

    /// Runs the handler of the next event, unless the inbox knew it.
    async fn run_next(
        &self,
        tx: &mut OutboxTx<'static, DB>,
        ran: &mut Ran,
        incoming: &Incoming<'_, DB>,
        Prepared { context, event, .. }: Prepared<'_, DB>,
    ) -> Result<(), HandlerFailure> {
        let span = spans::process(self, incoming);
        // The same event may be there twice: the first one is handled.
        if !ran.new.remove(&context.id) {
            spans::ended(&span, Ok(Attempted::Duplicate));
            ran.shared.push(Shared { settled: Settled::Duplicate, took: Duration::ZERO });
            return Ok(());
        }
        ran.spans.push(span.clone());
        let begun = Instant::now();
        let left = ran.until.saturating_duration_since(begun);
        run(event, tx, &context, left).instrument(span).await?;
        // The next handler must not run outside of the transaction, or in one that is aborted.
        let open = self.in_time(left.saturating_add(GRACE), tx.ensure_open()).await;
        open.map_err(|error| HandlerFailure {
            class: ErrorClass::Transient,
            error: UserError::new(error),
        })?;
        ran.shared.push(Shared { settled: Settled::Handled, took: begun.elapsed() });
        Ok(())
    }
}

/// What has run in a shared transaction.
struct Ran {
    /// The events that the inbox did not know, and whose handlers have not run yet.
    new: HashSet<Uuid>,
    /// Time at which all handlers must have ended.
    until: Instant,
    shared: Vec<Shared>,
    /// Of the handlers that have run.
    spans: Vec<Span>,
}

impl Ran {
    fn all_ended(&self, attempted: Result<Attempted, &Failure>) {
        self.spans.iter().for_each(|span| spans::ended(span, attempted));
    }

    /// The last handler has failed, and the others are rolled back.
    fn failed(mut self, failure: &Failure) {
        if let Some(last) = self.spans.pop() {
            spans::ended(&last, Err(failure));
        }
        self.all_ended(Ok(Attempted::RolledBack));
    }
}
