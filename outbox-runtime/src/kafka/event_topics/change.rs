//! What of the differences is changed: each request is followed by a look at what became of it.

use std::collections::BTreeMap;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::difference::{EventTopic, EventTopicsPlan, TopicDifference, are_alike};
use super::{Admin, Brokers, EventTopics, TopicSettings, described, no_answer};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::Patience;

type Settings = BTreeMap<String, String>;

impl EventTopics {
    /// Creates the topics that are missing by the plan, and waits until each of their partitions
    /// can be written to. A topic that somebody else has created meanwhile stays as it is.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses one of them. Others may have been created.
    pub async fn create(&self, plan: &EventTopicsPlan) -> Result<(), OutboxError> {
        let (mut new, mut names) = (Vec::new(), Vec::new());
        for (EventTopic { name: topic, .. }, difference) in plan.differences() {
            let TopicDifference::Missing { partitions, replicas, settings } = difference else {
                continue;
            };
            // Of both, -1 is what the brokers give a topic.
            let partitions = partitions.and_then(|count| i32::try_from(count).ok()).unwrap_or(-1);
            let replicas = TopicReplication::Fixed(replicas.map_or(-1, i32::from));
            let plain = NewTopic::new(topic, partitions, replicas);
            new.push(settings.iter().fold(plain, |new, (name, value)| new.set(name, value)));
            names.push(topic.as_str());
        }
        if new.is_empty() {
            return Ok(());
        }
        let (admin, brokers) = self.for_changes()?;
        let refused = admin.create(&new).await.map_err(|error| unanswered(&brokers, error))?;
        if !refused.is_empty() {
            let refused = refused
                .iter()
                .map(|(name, code)| format!("`{}`: {code}{}", name.escape_debug(), meaning(*code)));
            return Err(OutboxError::new(
                ErrorKind::Kafka,
                format!(
                    "Kafka did not create topics: {}. Their events would be refused, and wait in the outbox. Correct what is \
                     named and try again; topics that are not named here were created",
                    refused.collect::<Vec<_>>().join("; ")
                ),
            ));
        }
        let all = admin.until(described, |found| {
            names.iter().all(|name| found.get(*name).is_some_and(|found| found.has_leaders))
        });
        told(&brokers, all.await, || format!("the topics {} were created", names.join(", ")))
    }

    /// Gives topics that have fewer partitions by the plan as many as are wanted.
    ///
    /// **It breaks the order of keys.** A key belongs to a partition by their number: after this,
    /// most keys belong to another one. Their new events may be handled before earlier ones that
    /// consumers have not come to yet, and a compacted topic keeps an old value of a key beside its
    /// new one. It is safe where the order of keys does not matter, or after the relays were paused
    /// and all consumer groups have handled all events of the topic.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses.
    pub async fn add_partitions(&self, plan: &EventTopicsPlan) -> Result<(), OutboxError> {
        let fewer: Vec<(&str, u32)> = plan
            .differences()
            .filter_map(|(topic, difference)| match difference {
                TopicDifference::FewerPartitions { wanted, .. } => Some((&*topic.name, *wanted)),
                _ => None,
            })
            .collect();
        if fewer.is_empty() {
            return Ok(());
        }
        let (admin, brokers) = self.for_changes()?;
        for (topic, wanted) in &fewer {
            let answer = admin.add_partitions(topic, *wanted as usize).await;
            if let Some(code) = answer.map_err(|error| unanswered(&brokers, error))? {
                return Err(OutboxError::new(
                    ErrorKind::Kafka,
                    format!(
                        "Kafka gave the topic `{topic}` no partitions more: {code}{}. Its events are published to those that it \
                         has. Correct what is named and try again, or write the number that it has into the file",
                        meaning(code)
                    ),
                ));
            }
        }
        let all = admin.until(described, |found| {
            fewer.iter().all(|(topic, wanted)| {
                found.get(*topic).is_some_and(|of| of.partitions >= *wanted && of.has_leaders)
            })
        });
        told(&brokers, all.await, || {
            let topics: Vec<&str> = fewer.iter().map(|(topic, _)| *topic).collect();
            format!("partitions were added to the topics {}", topics.join(", "))
        })
    }

    /// Sets the settings that differ by the plan, and keeps all others that the topics have. One
    /// that the brokers do not know is left out.
    ///
    /// A request replaces all settings that are a topic's own. They are read directly before it,
    /// and written together with those that are wanted: what somebody else sets in between is lost,
    /// so this should not run beside another program that changes settings of the same topics.
    ///
    /// # Errors
    /// If Kafka does not answer, does not tell which settings a topic has, or has other ones
    /// afterwards. Settings of other topics may have been set.
    pub async fn set(&self, plan: &EventTopicsPlan) -> Result<(), OutboxError> {
        let mut wanted: BTreeMap<&str, Settings> = BTreeMap::new();
        for (topic, difference) in plan.differences() {
            // One that the brokers do not know would be refused, and with it the others.
            if let TopicDifference::Setting { name, has: Some(_), wanted: value } = difference {
                wanted.entry(&topic.name).or_default().insert(name.clone(), value.clone());
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let (admin, brokers) = self.for_changes()?;
        for (topic, wanted) in wanted {
            set(&admin, &brokers, topic, wanted).await?;
        }
        Ok(())
    }

    /// A client for changes.
    fn for_changes(&self) -> Result<(Admin, Brokers), OutboxError> {
        let (admin, brokers) = self.admin()?;
        if admin.has_tokens() {
            return Err(OutboxError::config(
                "topics are neither created nor changed where Kafka is used with OAUTHBEARER: the client for it gets no token. \
                 Nothing was changed. Use another login for this, or kafka-topics.sh and kafka-configs.sh",
            ));
        }
        Ok((admin, brokers))
    }
}

/// That brokers do not report in time what they said they did.
fn told(
    brokers: &Brokers,
    is_so: Result<bool, KafkaError>,
    what: impl FnOnce() -> String,
) -> Result<(), OutboxError> {
    if is_so.map_err(|error| unanswered(brokers, error))? {
        return Ok(());
    }
    Err(OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "Kafka said that {}, and does not report a leader for each of their partitions: they take no events yet, or this \
             user may not describe them. Look at the brokers, then ask for the differences again",
            what()
        ),
    ))
}

/// Sets these settings of a topic, beside those that it has.
async fn set(
    admin: &Admin,
    brokers: &Brokers,
    topic: &str,
    wanted: Settings,
) -> Result<(), OutboxError> {
    let unanswered = |error| unanswered(brokers, error);
    let Some(mut settings) = own(admin, topic).await.map_err(unanswered)? else {
        return Err(OutboxError::new(
            ErrorKind::Kafka,
            format!(
                "Kafka does not tell all settings that were made for the topic `{topic}`. None was changed, since that would lose \
                 those that are not told. It takes the right to DescribeConfigs; or set them with kafka-configs.sh --alter \
                 --add-config"
            ),
        ));
    };
    settings.extend(wanted);
    admin.replace_settings(topic, &settings).await.map_err(unanswered)?;
    let patience = Patience::new();
    loop {
        let now = own(admin, topic).await.map_err(unanswered)?.unwrap_or_default();
        let others = others(&settings, &now);
        if others.is_empty() {
            return Ok(());
        }
        if !patience.waited().await {
            return Err(OutboxError::new(
                ErrorKind::Kafka,
                format!(
                    "Kafka took the request to set settings of the topic `{topic}`, and has other values now: {}. Either it refused \
                     them, for a name or value that it does not know, for a policy, or since this user has no right to \
                     AlterConfigs; or somebody else has set them at the same time. The topic keeps events by the values that it \
                     has. Correct what is wrong and try again",
                    others.join(", ")
                ),
            ));
        }
    }
}

/// A request whose answer did not come may have been obeyed.
fn unanswered(brokers: &Brokers, error: KafkaError) -> OutboxError {
    const MEANING: &str = "Whether the change that was under way is made is not known; asking for it again does no harm";
    no_answer(brokers, MEANING, error)
}

/// The settings that are a topic's own. `None`: they are not all known.
async fn own(admin: &Admin, topic: &str) -> Result<Option<Settings>, KafkaError> {
    let mut settings = admin.own_settings(&[topic]).await?;
    Ok(settings.remove(topic).and_then(|TopicSettings { own, .. }| own))
}

/// The settings that are otherwise than they were written.
fn others(written: &Settings, now: &Settings) -> Vec<String> {
    let others = written.iter().filter_map(|(name, written)| match now.get(name) {
        Some(now) if are_alike(now, written) => None,
        Some(now) => Some(format!("`{name}` is {now}, not {written}")),
        None => Some(format!("`{name}` is not set to {written}")),
    });
    others.collect()
}

/// What a refusal means, behind its code.
fn meaning(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            " (this user needs the right to Create, or to Alter where the topic exists)"
        }
        Code::InvalidConfig => " (Kafka does not know one of the settings, or takes no such value)",
        Code::InvalidReplicationFactor => " (are there as many brokers as replicas are wanted?)",
        Code::PolicyViolation => " (a policy of the cluster forbids it)",
        _ => "",
    }
}
