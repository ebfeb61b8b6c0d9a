//! The brokers and the topics.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox::consume::{ClusterDescription, TopicDescription};
use outbox::event::DEFAULT_MAX_EVENT_BYTES;

use super::finding::{Area, Finding};

const AREA: Area = Area::Topics;

/// What the brokers mean for events.
pub fn brokers(cluster: &ClusterDescription) -> Finding {
    let found = match cluster.brokers {
        1 => "one broker answers, with the security that is configured".to_owned(),
        brokers => format!("{brokers} brokers answer, with the security that is configured"),
    };
    if cluster.brokers >= 3 {
        return Finding::ok(Area::Kafka, "brokers", found);
    }
    Finding::warn(
        Area::Kafka,
        "brokers",
        format!("{found}: while one of them is down, events may have to wait in the outbox"),
        "run at least three brokers in production",
    )
}

/// Whether the settings of a topic matter here: it is named, or one of those for retries.
pub fn is_of_interest(topic: &str, named: &BTreeSet<String>) -> bool {
    named.contains(topic) || delay_of(topic).is_some()
}

/// What the topics mean for events.
pub fn topics(cluster: &ClusterDescription, named: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in named {
        match cluster.topics.get(name).filter(|topic| topic.partitions > 0) {
            None => findings.push(Finding::fail(
                AREA,
                "topic",
                format!("topic {name} does not exist, or this user may not describe it: its events stay in the outbox"),
                "create it, or grant DESCRIBE on it",
            )),
            Some(topic) => findings.push(of_events(name, topic)),
        }
    }
    for (name, topic) in &cluster.topics {
        findings.extend(delay_of(name).and_then(|delay| of_retries(name, topic, delay)));
    }
    findings
}

fn of_events(name: &str, topic: &TopicDescription) -> Finding {
    let TopicDescription { partitions, replicas, in_sync, leaderless, .. } = topic;
    let found = format!("topic {name}: {partitions} partitions, {replicas} replicas");
    let setting = |name: &str| topic.settings.get(name).and_then(|value| value.parse::<u64>().ok());
    let least = setting("min.insync.replicas");
    if *leaderless > 0 {
        return Finding::fail(
            AREA,
            "topic",
            format!(
                "{found}, {leaderless} partitions have no leader: their events stay in the outbox"
            ),
            "bring the brokers back that have them",
        );
    }
    if let Some(least) = least.filter(|least| (*in_sync as u64) < *least) {
        return Finding::fail(
            AREA,
            "topic",
            format!(
                "{found}, {in_sync} in sync, fewer than min.insync.replicas={least}: events stay in the outbox"
            ),
            "bring the brokers back that have the other replicas",
        );
    }
    if let Some(most) =
        setting("max.message.bytes").filter(|most| *most < DEFAULT_MAX_EVENT_BYTES as u64)
    {
        return Finding::warn(
            AREA,
            "topic",
            format!(
                "{found}, max.message.bytes={most}: an outbox takes larger events by default, and they would be parked"
            ),
            format!(
                "set max.message.bytes to at least 1000000, or max_event_bytes of the services' outboxes to less than {most}"
            ),
        );
    }
    if least == Some(1) {
        return Finding::warn(
            AREA,
            "topic",
            format!(
                "{found}, min.insync.replicas=1: an event is acknowledged by one broker, and lost with it"
            ),
            "use three replicas and min.insync.replicas=2",
        );
    }
    Finding::ok(AREA, "topic", found)
}

fn of_retries(name: &str, topic: &TopicDescription, delay: Duration) -> Option<Finding> {
    let kept = topic.settings.get("retention.ms")?.parse::<i64>().ok()?;
    let is_enough = kept < 0 || Duration::from_millis(kept.unsigned_abs()) > delay;
    (!is_enough).then(|| {
        Finding::fail(
            AREA,
            "retry-topic",
            format!("topic {name} has retention.ms={kept}, no longer than its delay: events are lost before their next attempt"),
            "raise retention.ms: `outbox topics plan` shows the value",
        )
    })
}

/// The delay in the name of a retry topic: `orders.inventory.retry.10s`.
fn delay_of(topic: &str) -> Option<Duration> {
    let (_, delay) = topic.rsplit_once(".retry.")?;
    humantime::parse_duration(delay).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Verdict;

    #[test]
    fn the_delay_of_a_retry_topic_is_in_its_name() {
        assert_eq!(delay_of("orders.inventory.retry.10s"), Some(Duration::from_secs(10)));
        assert_eq!(delay_of("orders.inventory.dlt"), None);
        assert_eq!(delay_of("orders"), None);
    }

    fn verdict(settings: &[(&str, &str)], in_sync: usize) -> Verdict {
        let mut topic = TopicDescription::default();
        (topic.partitions, topic.replicas, topic.in_sync) = (3, 3, in_sync);
        topic.settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        of_events("orders", &topic).verdict
    }

    #[test]
    fn a_topic_is_judged_by_what_it_does_to_events() {
        let fine = [("min.insync.replicas", "2"), ("max.message.bytes", "1048588")];
        assert_eq!(verdict(&fine, 3), Verdict::Ok);
        assert_eq!(verdict(&fine, 1), Verdict::Fail);
        assert_eq!(verdict(&[("min.insync.replicas", "1")], 3), Verdict::Warn);
        assert_eq!(verdict(&[("max.message.bytes", "1000")], 3), Verdict::Warn);
        assert_eq!(verdict(&[("max.message.bytes", "absurd")], 3), Verdict::Ok);
    }
}
