//! What is done to many dead letters: they are replayed, or discarded.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::letter::{DeadLetter, DeadLetterId};
use super::progress::Progress;
use super::selection::Selection;
use super::stream::DeadLetterStream;
use super::{Action, DeadLetters};
use crate::error::{ErrorKind, OutboxError};

/// Dead letters that are under way at a time.
const UNDER_WAY: usize = 1_000;
/// Bytes of those. One that is larger is under way alone.
const BYTES_UNDER_WAY: usize = 16 << 20;
/// Time that may be caught up with when dead letters were not ready at theirs.
const CAUGHT_UP: Duration = Duration::from_millis(50);
/// Places that are returned of those that were left out.
const PLACES: usize = 100;

/// How many dead letters are replayed or discarded.
#[derive(Debug, Clone, Default)]
pub struct BulkOptions {
    rate: Option<NonZeroU32>,
    progress: Progress,
}

impl BulkOptions {
    /// As fast as Kafka takes them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Most dead letters in a second. Default: as many as Kafka takes. Handlers that are slow, or
    /// that call others, want a rate.
    #[must_use]
    pub fn rate(mut self, per_second: NonZeroU32) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Where it is counted how far it is.
    #[must_use]
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }
}

/// What was replayed or discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Number of those for which it was done.
    pub done: u64,
    /// Number of those that cannot be replayed, because their payload was [left
    /// out](DeadLetter::payload_left_out). They stay open.
    pub left_out: u64,
    /// The first 100 places of those.
    pub places_left_out: Vec<DeadLetterId>,
}

/// A dead letter that is under way.
struct UnderWay {
    key: Option<Vec<u8>>,
    bytes: usize,
}

pub(super) struct Bulk<'a> {
    of: &'a DeadLetters,
    action: Action,
    options: BulkOptions,
    running: JoinSet<(UnderWay, Result<(), OutboxError>)>,
    /// Keys of those under way. Those of one key are sent one after the other: if one of them
    /// fails, the next one is not before it.
    keys: HashSet<Vec<u8>>,
    bytes: usize,
    resolved: Resolved,
}

impl<'a> Bulk<'a> {
    pub(super) fn new(of: &'a DeadLetters, action: Action, options: BulkOptions) -> Self {
        Self {
            of,
            action,
            options,
            running: JoinSet::new(),
            keys: HashSet::new(),
            bytes: 0,
            resolved: Resolved::default(),
        }
    }

    pub(super) async fn run(mut self, selection: &Selection) -> Result<Resolved, OutboxError> {
        self.options.progress.expect(selection.len());
        let mut letters = self.of.read(selection);
        let mut result = self.begin_all(&mut letters).await;
        // What was sent is marked, whatever happened to others.
        while !self.running.is_empty() {
            let ended = self.one_ends().await;
            result = result.and(ended);
        }
        if let Err(error) = result {
            return Err(self.stopped(selection, error));
        }
        self.options.progress.finish();
        Ok(self.resolved)
    }

    async fn begin_all(&mut self, letters: &mut DeadLetterStream) -> Result<(), OutboxError> {
        let mut pace = Pace::new(self.options.rate);
        while let Some(letter) = letters.next().await? {
            if self.action == Action::Replay && letter.payload_left_out.is_some() {
                self.leave_out(&letter);
                continue;
            }
            pace.wait().await;
            while let Some(ended) = self.running.try_join_next() {
                self.ended(ended)?;
            }
            while self.must_wait(&letter) {
                self.one_ends().await?;
            }
            self.begin(letter);
        }
        Ok(())
    }

    fn must_wait(&self, letter: &DeadLetter) -> bool {
        let is_busy = letter.key.as_ref().is_some_and(|key| self.keys.contains(key));
        let is_full = self.bytes > 0 && self.bytes + letter.bytes() > BYTES_UNDER_WAY;
        is_busy || is_full || self.running.len() >= UNDER_WAY
    }

    fn begin(&mut self, letter: DeadLetter) {
        let under_way = UnderWay { key: letter.key.clone(), bytes: letter.bytes() };
        self.bytes += under_way.bytes;
        self.keys.extend(under_way.key.clone());
        let (of, action) = (self.of.clone(), self.action);
        self.running
            .spawn(async move { (under_way, of.resolve_one_of_many(letter, action).await) });
    }

    async fn one_ends(&mut self) -> Result<(), OutboxError> {
        match self.running.join_next().await {
            Some(ended) => self.ended(ended),
            None => Ok(()),
        }
    }

    fn ended(
        &mut self,
        ended: Result<(UnderWay, Result<(), OutboxError>), tokio::task::JoinError>,
    ) -> Result<(), OutboxError> {
        // Only the end of the runtime ends one early.
        let (under_way, result) = ended.map_err(|error| {
            OutboxError::new(ErrorKind::Kafka, "a task was ended by its runtime").with_source(error)
        })?;
        self.bytes -= under_way.bytes;
        if let Some(key) = &under_way.key {
            self.keys.remove(key);
        }
        result?;
        self.resolved.done += 1;
        self.options.progress.done_more(1);
        Ok(())
    }

    fn leave_out(&mut self, letter: &DeadLetter) {
        self.resolved.left_out += 1;
        if self.resolved.places_left_out.len() < PLACES {
            self.resolved.places_left_out.push(letter.id());
        }
        self.options.progress.done_more(1);
    }

    fn stopped(&self, selection: &Selection, error: OutboxError) -> OutboxError {
        let (action, done) = (self.action.done(), self.resolved.done);
        OutboxError::new(
            error.kind(),
            format!(
                "{done} of {} dead letters were {action}, then one was not. Nothing is lost: those that were not {action} are still \
                 open. The same again continues with them",
                selection.len()
            ),
        )
        .with_source(error)
    }
}

/// Says when the next one may begin.
struct Pace {
    every: Duration,
    /// `None`: none has begun.
    next: Option<Instant>,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        let every = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get());
        Self { every, next: None }
    }

    async fn wait(&mut self) {
        if !self.every.is_zero() {
            tokio::time::sleep_until(self.next_after(Instant::now())).await;
        }
    }

    /// When the next one may begin. What was not ready at its time does not come all at once later.
    fn next_after(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(CAUGHT_UP).unwrap_or(now);
        let next = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(next + self.every);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of the last of `count`, each of which is ready as soon as the one before has begun.
    fn time_of(pace: &mut Pace, begun: Instant, count: u32) -> Duration {
        let mut now = begun;
        for _ in 0..count {
            now = now.max(pace.next_after(now));
        }
        now - begun
    }

    #[test]
    fn a_rate_is_kept_however_high_it_is() {
        for rate in [1, 50, 30_000] {
            let mut pace = Pace::new(NonZeroU32::new(rate));
            let seconds = time_of(&mut pace, Instant::now(), rate * 2 + 1).as_secs_f64();
            assert!((1.99..=2.01).contains(&seconds), "{rate}/s: twice that took {seconds} s");
        }
    }

    #[test]
    fn what_was_not_ready_in_time_does_not_come_all_at_once() {
        let mut pace = Pace::new(NonZeroU32::new(100));
        let begun = Instant::now();
        assert_eq!(time_of(&mut pace, begun, 1), Duration::ZERO);
        let later = time_of(&mut pace, begun + Duration::from_secs(60), 101);
        assert!(later >= Duration::from_millis(940), "{later:?}");
    }
}
