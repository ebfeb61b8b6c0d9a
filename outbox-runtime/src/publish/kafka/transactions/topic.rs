//! The topic with the progress of an outbox: a partition for each group, of which the last
//! committed record counts.

use std::collections::BTreeMap;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;

use super::names::progress_topic;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Admin, Brokers, TopicPrefix};
use crate::observe::target;
use crate::publish::kafka::MIN_INSYNC;
use crate::publish::transactions::GroupId;

/// Number of brokers from which on the topic has replicas on three.
const BROKERS_FOR_REPLICAS: usize = 3;

const CLEANUP_POLICY: &str = "cleanup.policy";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// Settings of a topic that is created. Nothing that progress depends on is inherited.
const SETTINGS: [(&str, &str); 5] = [
    // Progress that is a year old counts as well.
    (CLEANUP_POLICY, "compact"),
    // What is superseded is removed from whole segments only. Each wave writes some hundred bytes.
    ("segment.bytes", "16777216"),
    // Markers of transactions are kept for as long, for readers that began before.
    ("delete.retention.ms", "3600000"),
    // A relay whose clock is wrong must not be refused.
    ("message.timestamp.type", "LogAppendTime"),
    ("max.message.bytes", "1048588"),
];

/// Where a group's progress is.
#[derive(Debug, Clone)]
pub(super) struct ProgressTopic {
    pub(super) name: String,
    pub(super) partition: i32,
    /// Key of the group's records, of which compaction keeps the last one.
    pub(super) key: String,
}

/// What the brokers say of the topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    brokers: usize,
    /// 0: there is no such topic, or this user may not describe it.
    partitions: usize,
    /// Smallest number of replicas of a partition.
    replicas: usize,
}

impl ProgressTopic {
    pub(super) fn of(prefix: &TopicPrefix, group: &GroupId) -> Result<Self, OutboxError> {
        let name = progress_topic(prefix, group)?;
        Ok(Self { name, partition: i32::from(group.group), key: group.group.to_string() })
    }

    /// Creates the topic if there is none, and refuses one that would lose progress.
    pub(super) async fn ensure(
        &self,
        admin: &Admin,
        brokers: &Brokers,
        groups: u16,
    ) -> Result<(), OutboxError> {
        let name = self.name.clone();
        let asked = admin.topics(move |metadata| Found::of(metadata, &name)).await;
        let found = asked.map_err(|error| self.refused_by(brokers, error, "looked for"))?;
        if found.partitions == 0 {
            return self.create(admin, found.brokers, groups).await;
        }
        let settings = admin.settings(&[&self.name]).await;
        let settings =
            settings.map_err(|error| self.refused_by(brokers, error, "looked at"))?.by_topic;
        let settings: BTreeMap<_, _> = settings.into_values().flatten().collect();
        self.check(&found, groups, |name| settings.get(name).map(String::as_str))
    }

    async fn create(&self, admin: &Admin, brokers: usize, groups: u16) -> Result<(), OutboxError> {
        if admin.has_tokens() {
            return Err(self.absent(groups, "this program creates none where it uses OAUTHBEARER"));
        }
        let has_replicas = brokers >= BROKERS_FOR_REPLICAS;
        let replicas = TopicReplication::Fixed(if has_replicas { 3 } else { -1 });
        let mut new = NewTopic::new(&self.name, i32::from(groups), replicas);
        for (name, value) in SETTINGS {
            new = new.set(name, value);
        }
        if has_replicas {
            new = new.set(MIN_INSYNC, "2").set(UNCLEAN, "false");
        }
        let refused = admin.create(&[new]).await;
        let refused = refused.map_err(|error| self.refused(error, "created"))?;
        if let Some((_, code)) = refused.first() {
            let why = format!("Kafka refused to create it ({code})");
            return Err(self.absent(groups, &why));
        }
        tracing::info!(target: target::PUBLISHER, topic = self.name, groups, "the topic for the relay's progress is there");
        Ok(())
    }

    /// Refuses what loses progress, and warns of what may.
    fn check<'s>(
        &self,
        found: &Found,
        groups: u16,
        setting: impl Fn(&str) -> Option<&'s str>,
    ) -> Result<(), OutboxError> {
        let topic = &self.name;
        if let Some(policy) = setting(CLEANUP_POLICY).filter(|policy| policy.contains("delete")) {
            return Err(OutboxError::config(format!(
                "the topic `{topic}` for the relay's progress has `{CLEANUP_POLICY}={policy}`: Kafka would delete the progress of a \
                 group that publishes nothing for a while, and its events would be published twice. Nothing was published. Set it to \
                 `compact` (`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {CLEANUP_POLICY}=compact`)"
            )));
        }
        if found.partitions < usize::from(groups) {
            return Err(OutboxError::config(format!(
                "the topic `{topic}` for the relay's progress has {} partitions, and the outbox has {groups} groups, which take one \
                 each. Nothing was published. Add partitions (`kafka-topics.sh --alter --topic {topic} --partitions {groups}`)",
                found.partitions
            )));
        }
        let is_weak = found.replicas < 3
            || setting(MIN_INSYNC).is_some_and(|least| least.trim() == "1")
            || setting(UNCLEAN).is_some_and(|may| may.eq_ignore_ascii_case("true"));
        if found.brokers >= BROKERS_FOR_REPLICAS && is_weak {
            tracing::warn!(
                target: target::PUBLISHER,
                topic,
                replicas = found.replicas,
                "the topic for the relay's progress may lose its last records when a broker fails, and events would be published \
                 twice: give it three replicas, `{MIN_INSYNC}=2` and `{UNCLEAN}=false`"
            );
        }
        Ok(())
    }

    fn absent(&self, groups: u16, why: &str) -> OutboxError {
        let topic = &self.name;
        OutboxError::config(format!(
            "the topic `{topic}` for the relay's progress does not exist, or this user may not describe it, and {why}. Nothing was \
             published. Create it (`kafka-topics.sh --create --topic {topic} --partitions {groups} --replication-factor 3 --config \
             {CLEANUP_POLICY}=compact --config {MIN_INSYNC}=2 --config {UNCLEAN}=false`), or {}",
            self.grant()
        ))
    }

    /// The error of a request about the topic.
    pub(super) fn refused(&self, error: KafkaError, what: &str) -> OutboxError {
        let topic = &self.name;
        let why = match super::errors::code_of(&error) {
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                format!(": this user may not do that. Grant it: {}", self.grant())
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                ": it is not there any more, or has too few partitions".to_owned()
            }
            _ => String::new(),
        };
        OutboxError::new(
            ErrorKind::Kafka,
            format!(
                "the topic `{topic}` for the relay's progress could not be {what}{why}. Nothing is lost: the events stay in the \
                 outbox, and the relay tries again"
            ),
        )
        .with_source(error)
    }

    fn refused_by(&self, brokers: &Brokers, error: KafkaError, what: &str) -> OutboxError {
        match brokers.refusal().filter(|_| brokers.refuses_for_good()) {
            Some(refusal) => OutboxError::new(
                ErrorKind::Kafka,
                format!("{refusal}. Nothing was published: events stay in the outbox"),
            )
            .with_source(error),
            None => self.refused(error, what),
        }
    }

    fn grant(&self) -> String {
        format!(
            "`kafka-acls.sh --add --operation Read --operation Write --operation Create --operation Describe --topic {} \
             --allow-principal User:NAME`",
            self.name
        )
    }
}

impl Found {
    fn of(metadata: &Metadata, topic: &str) -> Self {
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
        Self {
            brokers: metadata.brokers().len(),
            partitions: partitions.len(),
            replicas: replicas.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(found: &Found, settings: &[(&str, &'static str)]) -> Result<(), OutboxError> {
        let group = GroupId { outbox: "shop".to_owned(), group: 1, groups: 4 };
        let topic = ProgressTopic::of(&TopicPrefix::default(), &group).unwrap();
        let value = |name: &str| Some(settings.iter().find(|(set, _)| *set == name)?.1);
        topic.check(found, group.groups, value)
    }

    #[test]
    fn a_topic_that_loses_progress_is_refused_with_the_remedy() {
        let found = Found { brokers: 3, partitions: 4, replicas: 3 };
        checked(&found, &[]).unwrap();
        checked(&found, &[(CLEANUP_POLICY, "compact")]).unwrap();
        for policy in ["delete", "compact,delete"] {
            let error = checked(&found, &[(CLEANUP_POLICY, policy)]).unwrap_err().to_string();
            assert!(error.contains(policy) && error.contains("kafka-configs.sh"), "{error}");
        }
        let few = Found { partitions: 3, ..found };
        let error = checked(&few, &[]).unwrap_err().to_string();
        assert!(error.contains("3 partitions") && error.contains("--partitions 4"), "{error}");
    }
}
