//! The messages of each key, as they are on a topic, and how far a consumer is with them.

use std::collections::BTreeMap;

use crate::testing::TestMessage;
use crate::testing::seed::Random;

/// Disturbances of one message, after which it has no more: the test comes to an end.
const MOST_DISTURBANCES: u32 = 4;

/// The messages of a topic and key, in order.
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    /// The stored offset: place of the next message.
    pub(super) next: usize,
    /// Times that it may still go back.
    goes_back: usize,
}

pub(super) struct Entry {
    pub(super) message: TestMessage,
    /// Attempts that failed.
    pub(super) failed: u32,
    /// Those that failed by themselves.
    pub(super) failed_by_itself: u32,
    /// Conflicts with other transactions, in a row.
    pub(super) interrupted: u32,
    disturbed: u32,
}

/// A delivery that is about to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    /// Which log.
    pub(super) log: usize,
    /// Place in the log.
    pub(super) place: usize,
    pub(super) fate: Fate,
    /// Whether the consumer has gone back to this message.
    pub(super) came_again: bool,
}

/// What happens to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Undisturbed,
    /// The process is killed when the attempt waits for this time.
    KilledAt(u32),
    KilledBeforeCommit,
    /// Killed after the commit, before the offset is stored.
    KilledAfterCommit,
    /// The handler's `Ok` becomes a transient error.
    Fails,
}

/// Sorts messages into logs. A message without a key is a log of its own.
pub(super) fn logs(messages: Vec<TestMessage>) -> Vec<Log> {
    let mut of_key = BTreeMap::new();
    let mut logs: Vec<Log> = Vec::new();
    for message in messages {
        let key = message.0.key.clone().map(|key| (message.0.topic.clone(), key));
        let log = match key {
            Some(key) => *of_key.entry(key).or_insert(logs.len()),
            None => logs.len(),
        };
        if log == logs.len() {
            logs.push(Log { entries: Vec::new(), next: 0, goes_back: 0 });
        }
        if let Some(log) = logs.get_mut(log) {
            log.goes_back += 1;
            log.entries.push(Entry {
                message,
                failed: 0,
                failed_by_itself: 0,
                interrupted: 0,
                disturbed: 0,
            });
        }
    }
    logs
}

/// Chooses the next messages: of different keys, `most` of them at most. Empty: all is done.
pub(super) fn plan(
    logs: &mut [Log],
    most: usize,
    awaits: u32,
    random: &mut Random,
) -> Vec<Planned> {
    let mut open: Vec<usize> =
        (0..logs.len()).filter(|log| logs[*log].next < logs[*log].entries.len()).collect();
    let count = (1 + random.below(most)).min(open.len());
    (0..count)
        .map(|_| {
            let log = open.swap_remove(random.below(open.len()));
            logs[log].deliver(log, awaits, random)
        })
        .collect()
}

impl Log {
    fn deliver(&mut self, log: usize, awaits: u32, random: &mut Random) -> Planned {
        let came_again = self.goes_back > 0 && self.next > 0 && random.chance(15);
        if came_again {
            self.goes_back -= 1;
            self.next -= 1 + random.below(self.next.min(3));
        }
        let place = self.next;
        let entry = &mut self.entries[place];
        let fate = if entry.disturbed < MOST_DISTURBANCES {
            Fate::choose(awaits, random)
        } else {
            Fate::Undisturbed
        };
        entry.disturbed += u32::from(fate != Fate::Undisturbed);
        Planned { log, place, fate, came_again }
    }
}

impl Fate {
    fn choose(awaits: u32, random: &mut Random) -> Self {
        match random.below(100) {
            0..20 => Self::KilledAt(1 + random.below(awaits as usize) as u32),
            20..35 => Self::KilledBeforeCommit,
            35..50 => Self::KilledAfterCommit,
            50..65 => Self::Fails,
            _ => Self::Undisturbed,
        }
    }
}
