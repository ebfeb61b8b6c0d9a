//! Handlers whose consumer is disturbed: killed, failing, with events that come again.

mod logs;
mod run;
mod together;

use std::fmt;
use std::time::Duration;

use run::Run;

use outbox_event::{Decode, DomainEvent};

use super::emitted::read;
use super::{Finding, Seed, TestMessage};
use crate::consume::attempt::Group;
use crate::error::OutboxError;
use crate::record::{CE_TYPE, CE_VERSION};
use crate::store::OutboxDatabase;

/// The settings of [`HandlerTest::disturbed`](super::HandlerTest::disturbed).
/// [`check`](Self::check) runs it.
#[must_use = "nothing is delivered before `.check(…).await`"]
pub struct Disturbed<'t, DB: OutboxDatabase> {
    group: &'t Group<DB>,
    messages: Vec<TestMessage>,
    seed: Seed,
    concurrency: usize,
    within: Duration,
}

/// What the handlers have done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Handled {
    /// Messages whose handler's changes are committed, in the order of the commits; each once.
    pub events: Vec<TestMessage>,
    /// Messages of which a consumer makes dead letters.
    pub dead_letters: Vec<GivenUp>,
    /// Messages that no handler takes.
    pub passed_over: Vec<TestMessage>,
    /// Times that a message was delivered.
    pub deliveries: u32,
    /// Deliveries that were disturbed.
    pub disturbances: u32,
}

/// A message that was given up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GivenUp {
    /// The message.
    pub message: TestMessage,
    /// The error of the last attempt.
    pub error: String,
}

impl Handled {
    /// The handled events that are an `E`, decoded.
    ///
    /// # Errors
    /// If the payload of one cannot be decoded.
    pub fn of<E>(&self) -> Result<Vec<E>, OutboxError>
    where
        E: DomainEvent,
        E::Codec: Decode<E>,
    {
        let events = self.events.iter().filter_map(|TestMessage(message)| {
            let version = message.parsed(CE_VERSION).unwrap_or(1);
            let payload = message.payload()?;
            read::<E>(&message.topic, message.header(CE_TYPE)?, version, payload)
        });
        events.collect()
    }
}

impl<'t, DB: OutboxDatabase> Disturbed<'t, DB> {
    pub(super) fn new(group: &'t Group<DB>, messages: Vec<TestMessage>, seed: Seed) -> Self {
        Self { group, messages, seed, concurrency: 3, within: Duration::from_secs(60) }
    }

    /// Most keys that are handled at the same time. Default: 3. With 1, a seed replays everything;
    /// with more, the database decides which of them waits for which.
    pub fn concurrency(mut self, keys: usize) -> Self {
        self.concurrency = keys.max(1);
        self
    }

    /// Longest time for all of it. Default: a minute. A handler that never ends is found by it.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Delivers the messages. After each step, when no handler runs, calls `check` with what was
    /// handled so far; let it compare that with the business rows, and panic (`assert_eq!`) if they
    /// do not fit. At the end, all that was handled comes once more.
    ///
    /// By itself the test checks that no transaction is left open, that the connections are back in
    /// the pool, that no event is handled twice, and that no two events have the same id.
    ///
    /// A handler that fails by itself is tried as often as its options say, without pauses and
    /// retry topics, and its event is given up then; events of its key follow it.
    ///
    /// # Errors
    /// The first thing that was found, with the steps before it and the seed.
    pub async fn check(self, check: impl AsyncFnMut(&Handled)) -> Result<Handled, Finding> {
        let Self { group, messages, seed, concurrency, within } = self;
        let run = Box::pin(Run::new(group, messages, seed, concurrency)).await?;
        Box::pin(run.all(within, check)).await
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Disturbed<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disturbed")
            .field("messages", &self.messages)
            .field("seed", &self.seed)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
