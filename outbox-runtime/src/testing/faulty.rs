//! A publisher that fails as brokers and networks do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::seed::Random;
use super::{MemoryPublisher, Seed};
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::record::StoredEvent;

/// Times that an event meets a fault. After that it is delivered, so that a relay comes to an end,
/// and parks nothing.
const MOST_FAULTS: u32 = 3;
/// Longest delay, in milliseconds.
const LONGEST_DELAY: usize = 10;

/// A [`MemoryPublisher`] that fails as brokers and networks do. By a seed, an event is not sent, or
/// late, or twice; or it is published and its answer lost, so that the relay has to send it again.
///
/// It keeps the contract of a [`Publisher`], so what it publishes is what Kafka may hold after
/// faults: each event at least once, those of a key in order. Give that to a consumer's handlers,
/// and they show whether they are idempotent.
///
/// ```
/// # mod example {
/// # use outbox::{Outbox, Relay};
/// # async fn example(outbox: Outbox<sqlx::Sqlite>) -> Result<(), Box<dyn std::error::Error>> {
/// use outbox::testing::{FaultyPublisher, MemoryPublisher, Seed, emitted};
///
/// let kafka = MemoryPublisher::new();
/// let faulty = FaultyPublisher::new(kafka.clone(), Seed::new());
/// Relay::new(outbox.clone(), faulty).drain().await?;
/// emitted(&outbox).await?.all_published_in(&kafka.published())?;
/// # Ok(())
/// # }
/// # }
/// ```
///
/// It refuses nothing: for that, and for parked events, use [`MemoryPublisher::refuse`].
#[derive(Clone)]
pub struct FaultyPublisher {
    memory: MemoryPublisher,
    seed: Seed,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    /// Times that each event was tried, by its number.
    tries: HashMap<i64, u32>,
}

/// How many faults of each kind there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Events that were not sent.
    pub not_sent: u32,
    /// Events that were published, and reported as not sent.
    pub answers_lost: u32,
    /// Events that were published twice at once.
    pub duplicated: u32,
    /// Events that were late.
    pub delayed: u32,
}

/// What happens to an event when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    NotSent,
    AnswerLost,
    Duplicated,
}

impl FaultyPublisher {
    /// A publisher that publishes to `memory`.
    #[must_use]
    pub fn new(memory: MemoryPublisher, seed: impl Into<Seed>) -> Self {
        Self { memory, seed: seed.into(), state: Arc::default() }
    }

    /// The faults so far.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.state().faults
    }

    /// The fate of an event, and how late it is. Decided by its number, not by the batches in which
    /// a relay sends it: these depend on how fast the machine is.
    fn decide(&self, event: &StoredEvent) -> (Fate, Option<Duration>) {
        let mut state = self.state();
        let tries = state.tries.entry(event.seq).or_default();
        let part = event.seq.unsigned_abs().wrapping_mul(64).wrapping_add(u64::from(*tries));
        *tries += 1;
        let mut random = Random::new(self.seed, part);
        let delay = random.chance(30).then(|| 1 + random.below(LONGEST_DELAY) as u64);
        let fate = match random.below(100) {
            _ if *tries > MOST_FAULTS => Fate::Delivered,
            0..15 => Fate::NotSent,
            15..30 => Fate::AnswerLost,
            30..45 => Fate::Duplicated,
            _ => Fate::Delivered,
        };
        let faults = &mut state.faults;
        faults.delayed += u32::from(delay.is_some());
        match fate {
            Fate::Delivered => {}
            Fate::NotSent => faults.not_sent += 1,
            Fate::AnswerLost => faults.answers_lost += 1,
            Fate::Duplicated => faults.duplicated += 1,
        }
        (fate, delay.map(Duration::from_millis))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher for FaultyPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let mut reports = Vec::with_capacity(batch.events.len());
        let mut answers_lost = false;
        for event in batch.events {
            let (fate, delay) = self.decide(event);
            if let Some(delay) = delay {
                sleep(delay).await;
            }
            let times = match fate {
                Fate::NotSent => break,
                Fate::Delivered | Fate::AnswerLost => 1,
                Fate::Duplicated => 2,
            };
            let mut report = DeliveryReport::Delivered;
            for _ in 0..times {
                report = self.memory.accept(&event.record);
            }
            // The request with the rest of the batch was sent as well, and has no answer either.
            answers_lost |= fate == Fate::AnswerLost;
            let refused = !report.is_delivered();
            if !answers_lost {
                reports.push(report);
            }
            if refused {
                break;
            }
        }
        // One that was not delivered keeps later ones from being sent: they could be of its key.
        reports.resize_with(batch.events.len(), || DeliveryReport::NotSent);
        reports
    }
}

impl fmt::Debug for FaultyPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyPublisher")
            .field("seed", &self.seed)
            .field("faults", &self.faults())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventRecord, Lane};

    #[test]
    fn the_same_seed_takes_the_same_decisions_and_every_event_is_delivered_in_the_end() {
        let record = EventRecord::of_key(Some("a"));
        let lane = Lane::of(record.key.as_deref(), record.id);
        let event = |seq| StoredEvent { lane, seq, record: record.clone(), unreadable: None };
        let decide = |seed: u64, numbers: &mut dyn Iterator<Item = i64>| {
            let faulty = FaultyPublisher::new(MemoryPublisher::new(), seed);
            let mut fates: Vec<_> = numbers.map(|seq| (seq, faulty.decide(&event(seq)))).collect();
            fates.sort_by_key(|(seq, _)| *seq);
            (fates, faulty.faults())
        };
        let (fates, faults) = decide(1, &mut (0..100));
        assert_eq!((&fates, faults), (&decide(1, &mut (0..100).rev()).0, faults), "in any order");
        assert_ne!(fates, decide(2, &mut (0..100)).0);
        assert!(faults.not_sent > 0 && faults.answers_lost > 0 && faults.duplicated > 0);

        let faulty = FaultyPublisher::new(MemoryPublisher::new(), 3);
        for seq in 0..100 {
            let fates = [0; 4].map(|_| faulty.decide(&event(seq)).0);
            assert_eq!(fates[3], Fate::Delivered, "{fates:?}");
        }
    }
}
