//! What delivery exactly once asks of the database and the brokers.

use std::collections::BTreeMap;

use outbox::admin::{DeliveryStatus, Diagnosis, Status};
use outbox::consume::{ClusterDescription, TopicDescription};
use outbox::publish::kafka::progress_topic;

use super::finding::{Area, Finding};
use crate::failure::Failure;

/// Time after which the relay's transactions are aborted, in milliseconds: its default.
const TRANSACTION_MS: u64 = 15_000;
/// Replicas, so that a broker may fail and its data is still on two.
const REPLICAS: u64 = 3;

/// What is known of an outbox that is delivered exactly once.
pub struct Delivered {
    /// Its topic for progress, on the brokers.
    pub topic: String,
    groups: usize,
    /// Whether a relay has taken a group over: then there is progress.
    has_begun: bool,
}

impl Delivered {
    /// `None`: the outbox is delivered at least once.
    pub fn of(status: &Status, topic_prefix: &str) -> Result<Option<Self>, Failure> {
        let DeliveryStatus::ExactlyOnce { outbox, groups, .. } = &status.delivery else {
            return Ok(None);
        };
        Ok(Some(Self {
            topic: progress_topic(topic_prefix, *outbox)?,
            groups: groups.len(),
            has_begun: groups.iter().any(|group| group.claim.is_some()),
        }))
    }
}

/// What the database means for it. It is a server, or a file of SQLite.
pub fn of_database(diagnosis: &Diagnosis) -> Vec<Finding> {
    const AREA: Area = Area::Db;
    let Some(standbys) = &diagnosis.synchronous_standbys else {
        let is_server = diagnosis.connections.is_some();
        return vec![if is_server { of_mysql() } else { of_file(diagnosis) }];
    };
    let mut findings = Vec::new();
    if !diagnosis.commits_reach_the_disk {
        findings.push(Finding::fail(
            AREA,
            "exactly-once",
            "commits do not wait for the disk: after a crash of the machine, events arrive twice, and some are lost",
            "set fsync = on",
        ));
    }
    findings.push(if standbys.is_empty() {
        Finding::warn(
            AREA,
            "exactly-once",
            "there is no synchronous standby: a failover that loses commits is noticed and counted, and events arrive twice",
            "set synchronous_standby_names if the database fails over to standbys",
        )
    } else {
        Finding::ok(
            AREA,
            "exactly-once",
            format!("commits wait for a synchronous standby (synchronous_standby_names = {standbys})"),
        )
    });
    findings
}

fn of_mysql() -> Finding {
    Finding::fail(
        Area::Db,
        "exactly-once",
        "MySQL and MariaDB cannot deliver exactly once: a relay deletes what it has delivered, and keeps no position",
        "leave `--delivery` out: consumers that are idempotent need at least once only",
    )
}

fn of_file(diagnosis: &Diagnosis) -> Finding {
    if diagnosis.commits_reach_the_disk {
        return Finding::ok(
            Area::Db,
            "exactly-once",
            "commits of this command wait for the disk (synchronous = full). A relay in a service looks at its own connection when \
             it starts",
        );
    }
    Finding::fail(
        Area::Db,
        "exactly-once",
        "commits do not wait for the disk, or the database has no journal in a file: a relay that is to deliver exactly once does \
         not start",
        "use a file with journal_mode = wal, and connections with synchronous = full",
    )
}

/// What the topic for progress means for it.
pub fn of_topic(delivered: &Delivered, cluster: &ClusterDescription) -> Vec<Finding> {
    let Delivered { topic: name, groups, has_begun } = delivered;
    let found = cluster.topics.get(name).filter(|topic| topic.partitions > 0);
    match found {
        Some(topic) => of_progress(name, *groups, topic, cluster.brokers as u64),
        None if *has_begun => vec![fail(
            format!(
                "the topic {name} for the relays' progress does not exist, or this user may not describe it: without it, a \
                 relay falls back to the cursor in the database, and events arrive twice"
            ),
            format!("grant DESCRIBE on {name}, if it is there"),
        )],
        None => Vec::new(),
    }
}

fn of_progress(name: &str, groups: usize, topic: &TopicDescription, brokers: u64) -> Vec<Finding> {
    let TopicDescription { partitions, replicas, leaderless, .. } = topic;
    let found = format!("the topic {name} for the relays' progress");
    let mut findings = Vec::new();
    if *partitions < groups {
        findings.push(fail(
            format!(
                "{found} has {partitions} partitions for {groups} groups: some are not published"
            ),
            format!("kafka-topics.sh --alter --topic {name} --partitions {groups}"),
        ));
    }
    if *leaderless > 0 {
        findings.push(fail(
            format!("{found} has partitions without a leader: their groups are not published"),
            "bring the brokers back that have them",
        ));
    }
    if let Some(policy) = topic.settings.get("cleanup.policy").filter(|p| p.contains("delete")) {
        findings.push(fail(
            format!("{found} has cleanup.policy={policy}: progress is deleted in time, and events arrive twice"),
            format!(
                "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=compact"
            ),
        ));
    }
    let least =
        topic.settings.get("min.insync.replicas").and_then(|least| least.parse::<u64>().ok());
    let is_unclean = is_on(&topic.settings, "unclean.leader.election.enable") == Some(true);
    let is_weak =
        (*replicas as u64) < REPLICAS || least.is_some_and(|least| least < 2) || is_unclean;
    if is_weak {
        let more = if brokers < REPLICAS { "run at least three brokers, and " } else { "" };
        findings.push(Finding::warn(
            Area::Topics,
            CHECK,
            format!(
                "{found} may lose its last records with a broker ({replicas} replicas, min.insync.replicas={}, \
                 unclean.leader.election.enable={is_unclean}): events would arrive twice without a word",
                least.map_or_else(|| "?".to_owned(), |least| least.to_string())
            ),
            format!(
                "{more}give it three replicas, min.insync.replicas=2 and unclean.leader.election.enable=false"
            ),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Area::Topics, CHECK, format!("{found} keeps what it is given")));
    }
    findings
}

const CHECK: &str = "progress";

fn fail(found: String, fix: impl Into<String>) -> Finding {
    Finding::fail(Area::Topics, CHECK, found, fix)
}

type Settings = BTreeMap<String, String>;

fn is_on(settings: &Settings, name: &str) -> Option<bool> {
    settings.get(name)?.parse().ok()
}

/// What the settings of the brokers mean for it, by their ids.
pub fn of_brokers(brokers: &BTreeMap<i32, Settings>) -> Vec<Finding> {
    if brokers.is_empty() {
        return vec![Finding::warn(
            Area::Kafka,
            "transactions",
            "this user may not read the settings of the brokers: whether they suit transactions is not known",
            "grant DESCRIBE_CONFIGS on the cluster to the user of this command",
        )];
    }
    let mut findings = Vec::new();
    for (broker, settings) in brokers {
        findings.extend(of_broker(*broker, settings));
    }
    if findings.is_empty() {
        let ok = "the settings of the brokers suit transactions";
        findings.push(Finding::ok(Area::Kafka, "transactions", ok));
    }
    findings
}

fn of_broker(broker: i32, settings: &Settings) -> Vec<Finding> {
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u64>().ok());
    let mut findings = Vec::new();
    if let Some(longest) = number("transaction.max.timeout.ms").filter(|ms| *ms < TRANSACTION_MS) {
        findings.push(Finding::fail(
            Area::Kafka,
            "transactions",
            format!(
                "broker {broker} has transaction.max.timeout.ms={longest}, less than the relay's {TRANSACTION_MS}: nothing is \
                 published"
            ),
            format!(
                "raise it, or lower the relay's: -X transaction.timeout.ms={longest}, and socket.timeout.ms below that"
            ),
        ));
    }
    // Before Kafka 3.6, there is no such setting.
    let verifies = is_on(settings, "transaction.partition.verification.enable").unwrap_or(false);
    if !verifies {
        findings.push(Finding::warn(
            Area::Kafka,
            "transactions",
            format!(
                "broker {broker} does not verify that a partition belongs to a transaction: a request that was delayed can leave a \
                 transaction open, and consumers wait behind it"
            ),
            "set transaction.partition.verification.enable=true (Kafka 3.6 or newer)",
        ));
    }
    if let Some(replicas) =
        number("transaction.state.log.replication.factor").filter(|replicas| *replicas < REPLICAS)
    {
        findings.push(Finding::warn(
            Area::Kafka,
            "transactions",
            format!(
                "broker {broker} has transaction.state.log.replication.factor={replicas}: while one broker is down, no \
                 transaction may be possible"
            ),
            "use three replicas for __transaction_state: the setting counts when that topic is created",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Verdict;

    fn settings(set: &[(&str, &str)]) -> Settings {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn worst(findings: &[Finding]) -> Verdict {
        findings.iter().map(|finding| finding.verdict).max().unwrap()
    }

    #[test]
    fn brokers_are_judged_by_what_they_do_to_transactions() {
        let fine = [
            ("transaction.max.timeout.ms", "900000"),
            ("transaction.partition.verification.enable", "true"),
            ("transaction.state.log.replication.factor", "3"),
        ];
        let verdict = |set: &[(&str, &str)]| worst(&of_brokers(&[(1, settings(set))].into()));
        assert_eq!(verdict(&fine), Verdict::Ok);
        for (place, value, expected) in
            [(0, "14999", Verdict::Fail), (1, "false", Verdict::Warn), (2, "1", Verdict::Warn)]
        {
            let mut set = fine;
            set[place].1 = value;
            assert_eq!(verdict(&set), expected, "{set:?}");
        }
        assert_eq!(verdict(&[]), Verdict::Warn, "an older broker");
        assert_eq!(worst(&of_brokers(&BTreeMap::new())), Verdict::Warn, "not known");
    }

    #[test]
    fn the_topic_for_progress_is_judged_by_what_it_keeps() {
        let verdict = |partitions: usize, replicas: usize, set: &[(&str, &str)]| {
            let mut topic = TopicDescription::default();
            (topic.partitions, topic.replicas, topic.in_sync) = (partitions, replicas, replicas);
            topic.settings = settings(set);
            worst(&of_progress("outbox-a-progress", 2, &topic, 3))
        };
        let fine = [("cleanup.policy", "compact"), ("min.insync.replicas", "2")];
        assert_eq!(verdict(2, 3, &fine), Verdict::Ok);
        assert_eq!(verdict(1, 3, &fine), Verdict::Fail);
        assert_eq!(verdict(2, 1, &fine), Verdict::Warn);
        assert_eq!(verdict(2, 3, &[("cleanup.policy", "compact,delete")]), Verdict::Fail);
        assert_eq!(verdict(2, 3, &[("min.insync.replicas", "1")]), Verdict::Warn);
        assert_eq!(verdict(2, 3, &[("unclean.leader.election.enable", "true")]), Verdict::Warn);
    }
}
