//! Topics that take nothing although brokers answer (see [`waiting`](super::waiting)): their events
//! are refused. librdkafka retries for ever, which is right while all brokers are away. But the
//! events of one topic must not hold up those of the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::metadata::{Metadata, MetadataPartition};

use crate::observe::target;

/// Longest wait for a broker's answer. A broker answers the requests of a connection one after the
/// other, and may take up to `request.timeout.ms` for each.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Interval at which one event of a refused topic is tried.
const TRIED_EVERY: Duration = Duration::from_secs(10);
/// Longest time that a topic stays refused without news of it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

pub(super) const REMEDY: &str = "are as many of its replicas in sync as `min.insync.replicas` asks for, and has every partition a leader";

/// Replicas of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replicas {
    pub(super) all: usize,
    /// 0 if it has no leader.
    pub(super) in_sync: usize,
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

    pub(super) fn refuse(
        &self,
        topic: &str,
        partitions: BTreeMap<i32, usize>,
        state: String,
        now: Instant,
    ) {
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
