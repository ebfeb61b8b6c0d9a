//! What a Kafka cluster says of its topics, and the creation of those that are missing.

use std::collections::BTreeMap;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::topic_settings::Source;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Admin, Brokers, Properties, SettingsByTopic};
use crate::observe::target;

/// What the brokers have answered.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// All topics, with their numbers of partitions.
    pub(super) partitions: BTreeMap<String, i32>,
    /// Settings by topic and name. Topics whose settings may not be read are left out.
    pub(super) settings: SettingsByTopic,
}

impl Cluster {
    pub(super) fn has(&self, topic: &str) -> bool {
        self.partitions.contains_key(topic)
    }

    pub(super) fn setting(&self, topic: &str, name: &str) -> Option<&str> {
        self.settings.get(topic)?.get(name).map(String::as_str)
    }

    pub(super) fn source(&self, topic: &str) -> Source {
        let value = |name| self.setting(topic, name);
        Source {
            max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
            retention_ms: value("retention.ms").and_then(|value| value.parse().ok()),
        }
    }
}

/// A topic that is to be created.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing<'p> {
    pub(super) name: &'p str,
    /// `None`: as many as the brokers give a topic.
    pub(super) partitions: Option<i32>,
    pub(super) settings: Vec<(&'static str, String)>,
}

/// Why a consumer cannot start.
pub(super) enum Unprepared {
    NoAnswer(KafkaError),
    ForGood(OutboxError),
}

/// The topics of a consumer, on the brokers.
pub(super) struct Topics {
    admin: Admin,
    brokers: Brokers,
}

impl Topics {
    pub(super) fn new(properties: &Properties, brokers: Brokers) -> Result<Self, OutboxError> {
        Ok(Self { admin: Admin::new(properties, brokers.clone())?, brokers })
    }

    /// All topics that this user may describe, with their numbers of partitions.
    pub(super) async fn partitions(&self) -> Result<BTreeMap<String, i32>, Unprepared> {
        let asked = self.admin.topics(counted).await;
        asked.map_err(|error| unanswered(error, &self.brokers))
    }

    /// Waits until the brokers have topics that were created.
    pub(super) async fn known(&self, created: &[Missing<'_>]) -> Result<(), Unprepared> {
        let all = |topics: &BTreeMap<String, i32>| {
            created.iter().all(|topic| topics.contains_key(topic.name))
        };
        match self.admin.until(counted, all).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = "Kafka said that they were created, and does not report them";
                Err(Unprepared::ForGood(absent(created, why)))
            }
            Err(error) => Err(unanswered(error, &self.brokers)),
        }
    }

    /// The settings of topics. Those that may not be read are left out.
    pub(super) async fn settings(&self, topics: &[&str]) -> Result<SettingsByTopic, KafkaError> {
        let settings = self.admin.settings(topics).await?;
        for code in settings.unread {
            tracing::info!(
                target: target::CONSUMER,
                %code,
                "the settings of some topics cannot be read (it takes the right to DescribeConfigs, and a broker that \
                 knows the request): whether those for retries and dead letters have room for every event is not known"
            );
        }
        Ok(settings.by_topic)
    }

    /// Creates topics, with as many replicas as the brokers give a topic.
    pub(super) async fn create(&self, missing: &[Missing<'_>]) -> Result<(), Unprepared> {
        if self.admin.has_tokens() {
            let why = "this program creates none where it uses OAUTHBEARER";
            return Err(Unprepared::ForGood(absent(missing, why)));
        }
        let new = missing.iter().map(|Missing { name, partitions, settings }| {
            let new = NewTopic::new(name, partitions.unwrap_or(-1), TopicReplication::Fixed(-1));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        });
        let refused = self.admin.create(&new.collect::<Vec<_>>()).await;
        let refused = refused.map_err(Unprepared::NoAnswer)?;
        let Some((_, code)) = refused.first() else {
            let topics: Vec<&str> = missing.iter().map(|missing| missing.name).collect();
            tracing::info!(target: target::CONSUMER, ?topics, "topics for retries and dead letters created");
            return Ok(());
        };
        if !refused.iter().any(|(_, code)| is_for_good(*code)) {
            return Err(Unprepared::NoAnswer(KafkaError::AdminOp(*code)));
        }
        let why: Vec<String> =
            refused.iter().map(|(name, code)| format!("{name}: {code}")).collect();
        let right = if refused.iter().any(|(_, code)| is_about_rights(*code)) {
            ", which takes the right to Create"
        } else {
            ""
        };
        let why = format!("Kafka refused to create them{right} ({})", why.join("; "));
        Err(Unprepared::ForGood(absent(missing, &why)))
    }
}

/// Names of topics, and their numbers of partitions.
fn counted(metadata: &Metadata) -> BTreeMap<String, i32> {
    let topics = metadata.topics().iter();
    topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect()
}

/// What it means that brokers do not answer a new client.
fn unanswered(error: KafkaError, brokers: &Brokers) -> Unprepared {
    let refusal = brokers.refusal().filter(|_| brokers.refuses_for_good());
    let Some(refusal) = refusal else { return Unprepared::NoAnswer(error) };
    let what = format!("{refusal}. Nothing was consumed, and nothing was changed");
    Unprepared::ForGood(OutboxError::new(ErrorKind::Kafka, what))
}

fn is_about_rights(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)
}

/// Whether waiting would not change the error.
fn is_for_good(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::PolicyViolation
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
    )
}

/// The error of topics that are missing and are not created.
pub(super) fn absent(missing: &[Missing<'_>], why: &str) -> OutboxError {
    let names: Vec<&str> = missing.iter().map(|missing| missing.name).collect();
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "topics for retries and dead letters are missing, or this user may not describe them, and {why}: {}. Nothing was \
             consumed. Create them (`kafka-topics.sh --create --topic NAME`), with as many partitions as their topic, and a \
             `max.message.bytes` of 65536 more; the rights that a consumer needs are in docs/guide/securing.md",
            names.join(", ")
        ),
    )
}
