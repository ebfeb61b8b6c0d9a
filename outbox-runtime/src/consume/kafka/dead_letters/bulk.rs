//! What is done to many dead letters: they are replayed, or discarded.

use std::collections::HashSet;
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
/// Pause of the lowest rate.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// Places that are returned of those that were left out.
const PLACES: usize = 100;

/// How many dead letters are replayed or discarded.
#[derive(Debug, Clone, Default)]
pub struct BulkOptions {
    rate: Option<f64>,
    progress: Progress,
}

impl BulkOptions {
    /// As fast as Kafka takes them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Most dead letters in a second, more than 0. Default: as many as Kafka takes. Handlers that
    /// are slow, or that call others, want a rate.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
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
        let pace = Pace::new(self.options.rate)?;
        self.options.progress.expect(selection.len());
        let mut letters = self.of.read(selection);
        let mut result = self.begin_all(&mut letters, pace).await;
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

    async fn begin_all(
        &mut self,
        letters: &mut DeadLetterStream,
        mut pace: Pace,
    ) -> Result<(), OutboxError> {
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
        self.options.progress.add(1);
        Ok(())
    }

    fn leave_out(&mut self, letter: &DeadLetter) {
        self.resolved.left_out += 1;
        if self.resolved.places_left_out.len() < PLACES {
            self.resolved.places_left_out.push(letter.id());
        }
        self.options.progress.add(1);
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
    fn new(rate: Option<f64>) -> Result<Self, OutboxError> {
        let every = match rate {
            None => Duration::ZERO,
            Some(rate) if rate > 0.0 && !rate.is_nan() => {
                Duration::try_from_secs_f64(1.0 / rate).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
            }
            Some(rate) => {
                return Err(OutboxError::config(format!(
                    "{rate} dead letters in a second is no rate: it must be more than 0. Nothing was done"
                )));
            }
        };
        Ok(Self { every, next: None })
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
        for (rate, count) in [(0.01, 1), (1.0, 2), (50.0, 100), (30_000.0, 60_000)] {
            let mut pace = Pace::new(Some(rate)).unwrap();
            let seconds = time_of(&mut pace, Instant::now(), count + 1).as_secs_f64();
            let expected = f64::from(count) / rate;
            assert!((0.99..=1.01).contains(&(seconds / expected)), "{rate}/s: {seconds} s");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_and_the_lowest_one_has_a_pause() {
        for wrong in [0.0, -1.0, f64::NAN] {
            let error = Pace::new(Some(wrong)).map(|pace| pace.every).unwrap_err();
            assert!(error.to_string().contains("Nothing was done"), "{error}");
        }
        assert_eq!(Pace::new(Some(1e-300)).unwrap().every, LONGEST_PAUSE);
        assert_eq!(Pace::new(Some(f64::INFINITY)).unwrap().every, Duration::ZERO);
    }

    #[test]
    fn what_was_not_ready_in_time_does_not_come_all_at_once() {
        let mut pace = Pace::new(Some(100.0)).unwrap();
        let begun = Instant::now();
        assert_eq!(time_of(&mut pace, begun, 1), Duration::ZERO);
        let later = time_of(&mut pace, begun + Duration::from_secs(60), 101);
        assert!(later >= Duration::from_millis(940), "{later:?}");
    }
}
