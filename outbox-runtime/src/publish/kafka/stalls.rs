//! Topics that take nothing although brokers answer: too few of a partition's replicas are in sync,
//! or it has no leader. librdkafka retries for ever, which is right while all brokers are away. But
//! the events of one topic must not hold up those of the others.

use crate::observe::target;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Statistics;
use rdkafka::metadata::{Metadata, MetadataPartition};

/// Longest wait for a broker's answer. A broker answers the requests of a connection one after the
/// other, and may take up to `request.timeout.ms` for each.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time that a partition takes nothing before it is logged.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// Time that a partition takes nothing, while brokers answer, before its topic is refused. A broker
/// that dies is replaced sooner.
const REFUSED_AFTER: Duration = Duration::from_secs(15);
/// Time for which brokers must have answered by then: after an outage of all of them, partitions
/// need a moment.
const ANSWERING_FOR: Duration = Duration::from_secs(10);
/// Interval at which one event of a refused topic is tried.
const TRIED_EVERY: Duration = Duration::from_secs(10);
/// Longest time that a topic stays refused without news of it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

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

    pub(super) fn take_in(&self, statistics: &Statistics, now: Instant) {
        let partitions = statistics.topics.values().flat_map(|topic| {
            topic.partitions.values().map(|of| {
                let counts = Counts {
                    queued: of.msgq_cnt + of.xmit_msgq_cnt + of.msgs_inflight,
                    acknowledged: of.acked_msgid,
                    sent: of.txmsgs,
                };
                ((topic.topic.as_str(), of.partition), counts)
            })
        });
        self.seen().take_in(partitions, now);
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

const REMEDY: &str = "are as many of its replicas in sync as `min.insync.replicas` asks for, and has every partition a leader";

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

/// Replicas of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replicas {
    all: usize,
    /// 0 if it has no leader.
    in_sync: usize,
}

/// The replicas of a topic's partitions, as brokers describe them.
pub(super) fn replicas(answer: &Metadata) -> BTreeMap<i32, Replicas> {
    let of = |found: &MetadataPartition| Replicas {
        all: found.replicas().len(),
        in_sync: if found.leader() < 0 { 0 } else { found.isr().len() },
    };
    let partitions = answer.topics().iter().flat_map(|topic| topic.partitions());
    partitions.map(|found| (found.id(), of(found))).collect()
}

/// Topics that are refused because they take nothing.
#[derive(Default)]
pub(super) struct Stalls(Mutex<HashMap<String, Stall>>);

struct Stall {
    /// Those that take nothing, with the number of their replicas in sync when that was found.
    partitions: BTreeMap<i32, usize>,
    state: String,
    next_try: Instant,
    until: Instant,
}

impl Stalls {
    fn topics(&self) -> MutexGuard<'_, HashMap<String, Stall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why events of the topic are refused. `None`: they are not.
    pub(super) fn refusal(&self, topic: &str, now: Instant) -> Option<String> {
        let topics = self.topics();
        let stall = topics.get(topic).filter(|stall| stall.until > now)?;
        Some(format!("the topic `{topic}` takes no events ({}): {REMEDY}?", stall.state))
    }

    /// Whether an event of a refused topic may be tried now: one at a time.
    pub(super) fn may_try(&self, topic: &str, now: Instant) -> bool {
        match self.topics().get_mut(topic).filter(|stall| stall.until > now) {
            Some(stall) if stall.next_try > now => false,
            Some(stall) => {
                stall.next_try = now + TRIED_EVERY;
                true
            }
            None => true,
        }
    }

    /// Whether a topic may take events again, by what brokers say of its partitions: each one that
    /// took nothing has as many replicas in sync as the topic asks for. If the brokers do not say
    /// how many these are, it must have all of them, or more than it had. Until then the topic is
    /// not forgotten.
    pub(super) fn has_recovered(
        &self,
        topic: &str,
        found: &BTreeMap<i32, Replicas>,
        least: Option<usize>,
        now: Instant,
    ) -> bool {
        let mut topics = self.topics();
        let Some(stall) = topics.get_mut(topic) else { return true };
        let is_enough = |(id, before): (&i32, &usize)| {
            let Some(Replicas { all, in_sync }) = found.get(id).copied() else { return true };
            let enough = least.map_or(in_sync >= all || in_sync > *before, |n| in_sync >= n);
            enough && in_sync > 0
        };
        let has_recovered = !found.is_empty() && stall.partitions.iter().all(is_enough);
        if !has_recovered {
            stall.until = now + FORGOTTEN_AFTER;
        }
        has_recovered
    }

    /// Whether any topic is refused.
    pub(super) fn are_any(&self, now: Instant) -> bool {
        self.topics().values().any(|stall| stall.until > now)
    }

    fn refuse(&self, topic: &str, partitions: BTreeMap<i32, usize>, state: String, now: Instant) {
        let stall =
            Stall { partitions, state, next_try: now + TRIED_EVERY, until: now + FORGOTTEN_AFTER };
        let refusal = &stall.state;
        let mut topics = self.topics();
        if !topics.contains_key(topic) {
            tracing::error!(
                target: target::PUBLISHER,
                topic,
                state = refusal.as_str(),
                "a topic still takes no events: they are parked, in the order of their keys, and tried again from time to time. The events of other topics are published: {REMEDY}?"
            );
        }
        topics.insert(topic.to_owned(), stall);
    }

    /// Records that the topic took an event.
    pub(super) fn delivered(&self, topic: &str, partition: i32) {
        let mut topics = self.topics();
        // Partition -1 stands for a topic whose partitions were not known.
        let over = topics.get(topic).is_some_and(|stall| {
            stall.partitions.contains_key(&partition) || stall.partitions.contains_key(&-1)
        });
        if over {
            topics.remove(topic);
            tracing::info!(target: target::PUBLISHER, topic, partition, "the topic takes events again");
        }
    }
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
    fn a_refused_topic_is_tried_one_event_at_a_time_until_its_partition_takes_one() {
        let (stalls, now) = (Stalls::default(), Instant::now());
        assert!(
            stalls.may_try("orders", now) && stalls.may_try("orders", now),
            "it is not refused"
        );
        stalls.refuse("orders", BTreeMap::from([(3, 0)]), "partition 3: no leader".to_owned(), now);
        let refusal = stalls.refusal("orders", now).unwrap();
        assert!(
            refusal.contains("`orders`") && refusal.contains("partition 3: no leader"),
            "{refusal}"
        );
        let later = now + TRIED_EVERY;
        assert!(!stalls.may_try("orders", now) && stalls.may_try("orders", later));
        assert!(!stalls.may_try("orders", later), "one at a time");
        stalls.delivered("orders", 4);
        assert!(stalls.refusal("orders", now).is_some(), "another partition");
        stalls.delivered("orders", 3);
        assert!(stalls.refusal("orders", now).is_none() && stalls.may_try("orders", now));
    }

    #[test]
    fn a_topic_has_recovered_when_each_partition_has_as_many_replicas_in_sync_as_it_needs() {
        let (stalls, start) = (Stalls::default(), Instant::now());
        let of = |in_sync, all| Replicas { all, in_sync };
        let refuse = |before| {
            stalls.refuse("orders", BTreeMap::from([(3, before)]), "a state".to_owned(), start);
        };
        let has = |found: Replicas, least| {
            let found = BTreeMap::from([(2, of(0, 3)), (3, found)]);
            stalls.has_recovered("orders", &found, least, start)
        };
        for (before, found, least, recovered) in [
            // A broker crashed, and was back before the topic was asked about.
            (1, of(1, 1), None, true),
            (1, of(1, 1), Some(1), true),
            // A replica never comes back, and the topic does without it.
            (2, of(2, 3), Some(2), true),
            (2, of(2, 3), None, false),
            (1, of(2, 3), None, true),
            (1, of(2, 3), Some(3), false),
            (1, of(1, 3), None, false),
            (0, of(0, 1), None, false),
            (0, of(0, 1), Some(0), false),
        ] {
            refuse(before);
            assert_eq!(has(found, least), recovered, "{before}, {found:?}, {least:?}");
        }
        assert!(!stalls.has_recovered("orders", &BTreeMap::new(), None, start), "it is not there");
    }

    #[test]
    fn a_topic_that_has_not_recovered_is_not_forgotten() {
        let (stalls, start) = (Stalls::default(), Instant::now());
        stalls.refuse("orders", BTreeMap::from([(3, 1)]), "a state".to_owned(), start);
        let found = BTreeMap::from([(3, Replicas { all: 3, in_sync: 1 })]);
        let later = start + FORGOTTEN_AFTER - Duration::from_secs(1);
        assert!(!stalls.has_recovered("orders", &found, Some(2), later));
        assert!(stalls.refusal("orders", start + FORGOTTEN_AFTER).is_some());
    }
}
