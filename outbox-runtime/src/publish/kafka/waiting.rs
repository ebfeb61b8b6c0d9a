//! Partitions that take nothing although brokers answer: too few replicas are in sync, or there is
//! no leader. They are told by librdkafka's statistics, and by what brokers say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::metadata::Metadata;

use super::stalls::{REMEDY, Stalls, replicas};
use super::statistics::Statistics;
use crate::observe::target;

/// Time that a partition takes nothing before it is logged.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// Time that a partition takes nothing, while brokers answer, before its topic is refused. A broker
/// that dies is replaced sooner.
const REFUSED_AFTER: Duration = Duration::from_secs(15);
/// Time for which brokers must have answered by then: after an outage of all of them, partitions
/// need a moment.
const ANSWERING_FOR: Duration = Duration::from_secs(10);
/// Most topics that are asked about at a time.
const MOST_TOPICS: usize = 10;

/// Metadata that brokers answered, by topic.
pub(super) type Answers = BTreeMap<String, Metadata>;

/// What each partition of a producer has acknowledged, from librdkafka's statistics.
#[derive(Default)]
pub(super) struct Progress(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    partitions: BTreeMap<(String, i32), Partition>,
    /// Time since which brokers have answered all questions about partitions that take nothing.
    /// `None`: they did not answer the last one.
    answering_since: Option<Instant>,
}

struct Partition {
    counts: Counts,
    /// Last time that it acknowledged something, or had nothing to acknowledge.
    since: Instant,
    waits: bool,
    told: bool,
}

/// librdkafka's counters of a partition.
#[derive(Clone, Copy)]
struct Counts {
    queued: i64,
    acknowledged: u64,
    /// Messages sent, repetitions included.
    sent: u64,
}

impl Progress {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_in(&self, statistics: &Statistics<'_>, now: Instant) {
        let partitions = statistics.topics.values().flat_map(|topic| {
            topic.partitions.values().map(|of| {
                let counts = Counts {
                    queued: of.queued + of.to_transmit + of.in_flight,
                    acknowledged: of.acknowledged,
                    sent: of.sent,
                };
                ((&*topic.name, of.id), counts)
            })
        });
        self.seen().take_in(partitions, now);
    }

    /// Nothing is awaited now: what was seen before says nothing of what is sent next.
    pub(super) fn nothing_awaited(&self) {
        *self.seen() = Seen::default();
    }

    /// An event of the partition was refused or given up: it is never acknowledged, and not awaited
    /// any more.
    pub(super) fn not_taken(&self, topic: &str, partition: i32) {
        self.seen().partitions.remove(&(topic.to_owned(), partition));
    }

    /// The topics that have taken nothing for long enough to be asked about; only some of them if
    /// there are many.
    pub(super) fn stalled(&self, now: Instant) -> BTreeSet<String> {
        let mut seen = self.seen();
        let stalled = seen.partitions.iter().filter(|(_, of)| of.stalls(TOLD_AFTER, now));
        let topics: BTreeSet<_> = stalled.map(|((topic, _), _)| topic.clone()).collect();
        if topics.is_empty() {
            seen.answering_since = None;
        }
        topics.into_iter().take(MOST_TOPICS).collect()
    }

    /// Takes in what brokers answered about each topic. `None`: they did not answer. Returns
    /// whether a topic is refused from now on.
    pub(super) fn judge(&self, answers: Option<&Answers>, stalls: &Stalls, now: Instant) -> bool {
        let mut seen = self.seen();
        let Some(answers) = answers else {
            seen.answering_since = None;
            return false;
        };
        let answering = now.saturating_duration_since(*seen.answering_since.get_or_insert(now));
        let mut stalled = BTreeMap::<String, BTreeSet<i32>>::new();
        let mut refused = BTreeSet::<String>::new();
        for ((topic, partition), of) in &seen.partitions {
            if of.stalls(TOLD_AFTER, now) && answers.contains_key(topic) {
                stalled.entry(topic.clone()).or_default().insert(*partition);
                let again = stalls.refusal(topic, now).is_some();
                if again || of.stalls(REFUSED_AFTER, now) && answering >= ANSWERING_FOR {
                    refused.insert(topic.clone());
                }
            }
        }
        for (topic, partitions) in &stalled {
            let fresh = |partition| {
                let seen = seen.partitions.get_mut(&(topic.clone(), partition));
                seen.is_some_and(|seen| !std::mem::replace(&mut seen.told, true))
            };
            if partitions.iter().copied().map(fresh).fold(false, |any, one| any | one)
                && stalls.refusal(topic, now).is_none()
            {
                tracing::warn!(
                    target: target::PUBLISHER,
                    topic,
                    ?partitions,
                    state = described(topic, partitions, answers),
                    "a topic takes no events, although a broker answers: {REMEDY}? Its events wait, and are parked if this lasts, so that those of other topics are published"
                );
            }
        }
        for topic in &refused {
            let partitions = stalled.remove(topic).unwrap_or_default();
            let state = described(topic, &partitions, answers);
            let partitions = partitions.into_iter();
            let found = answers.get(topic).map(replicas).unwrap_or_default();
            let partitions = partitions.map(|id| (id, found.get(&id).map_or(0, |of| of.in_sync)));
            stalls.refuse(topic, partitions.collect(), state, now);
        }
        !refused.is_empty()
    }
}

impl Seen {
    fn take_in<'a>(
        &mut self,
        partitions: impl Iterator<Item = ((&'a str, i32), Counts)>,
        now: Instant,
    ) {
        for ((topic, partition), counts) in partitions {
            let seen = self.partitions.entry((topic.to_owned(), partition));
            let seen = seen.or_insert(Partition { counts, since: now, waits: false, told: false });
            // Messages that wait to be repeated are in no queue.
            seen.waits = counts.queued > 0 || counts.sent > seen.counts.sent;
            if counts.acknowledged != seen.counts.acknowledged || !seen.waits {
                *seen = Partition { counts, since: now, waits: counts.queued > 0, told: false };
            }
        }
    }
}

impl Partition {
    fn stalls(&self, after: Duration, now: Instant) -> bool {
        self.waits && now.saturating_duration_since(self.since) >= after
    }
}

/// Partitions as their metadata describe them.
fn described(topic: &str, partitions: &BTreeSet<i32>, answers: &Answers) -> String {
    let topics = answers.get(topic).map_or(&[][..], Metadata::topics);
    let known =
        topics.iter().filter(|found| found.name() == topic).flat_map(|found| found.partitions());
    let describe = |id: &i32| match known.clone().find(|found| found.id() == *id) {
        Some(found) if found.leader() < 0 => format!("partition {id}: no leader"),
        Some(found) => format!(
            "partition {id}: leader {}, {} of {} replicas in sync",
            found.leader(),
            found.isr().len(),
            found.replicas().len()
        ),
        None => format!("partition {id}: unknown"),
    };
    // A topic may have thousands of partitions.
    let first: Vec<String> = partitions.iter().take(10).map(describe).collect();
    first.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_stalls_while_it_has_events_and_acknowledges_none() {
        let (start, mut seen) = (Instant::now(), Seen::default());
        let second = |n| start + Duration::from_secs(n);
        let counts = |queued, acknowledged, sent| Counts { queued, acknowledged, sent };
        let stalled = |seen: &Seen, now| -> Vec<_> {
            let all = seen.partitions.iter();
            all.filter(|(_, of)| of.stalls(TOLD_AFTER, now))
                .map(|((topic, _), _)| topic.clone())
                .collect()
        };
        for n in 0..=6 {
            let partitions = [
                (("busy", 0), counts(3, n, 10 * n)),
                (("stuck", 1), counts(4, 7, 7)),
                (("repeats", 1), counts(0, 7, 7 + 4 * n)),
                (("idle", 2), counts(0, 7, 7)),
            ];
            seen.take_in(partitions.into_iter(), second(n));
        }
        assert_eq!(stalled(&seen, second(6)), ["repeats", "stuck"]);
        seen.take_in(
            [(("stuck", 1), counts(1, 8, 9)), (("repeats", 1), counts(0, 11, 40))].into_iter(),
            second(7),
        );
        assert_eq!(stalled(&seen, second(7)), [""; 0]);
    }

    #[test]
    fn an_event_that_was_refused_or_given_up_is_not_awaited_for_ever() {
        let (start, progress) = (Instant::now(), Progress::default());
        let second = |n| start + Duration::from_secs(n);
        let sent = |sent, now| {
            let counts = Counts { queued: 0, acknowledged: 7, sent };
            let partitions = [(("orders", 3), counts), (("orders", 4), counts)];
            progress.seen().take_in(partitions.into_iter(), now);
        };
        sent(7, second(0));
        sent(8, second(1));
        assert!(!progress.stalled(second(9)).is_empty(), "both wait for an acknowledgement");
        progress.not_taken("orders", 3);
        progress.not_taken("orders", 4);
        sent(8, second(10));
        sent(8, second(30));
        assert!(progress.stalled(second(30)).is_empty());
        sent(9, second(31));
        assert!(!progress.stalled(second(40)).is_empty(), "it waits again");
        progress.nothing_awaited();
        sent(9, second(41));
        sent(9, second(60));
        assert!(progress.stalled(second(60)).is_empty());
    }
}
