//! The topics of a group: those with its events, and for each the retry topics and the dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::consume::message::{History, Message};
use crate::consume::route::Routes;
use crate::error::{ErrorKind, OutboxError};
use crate::store::OutboxDatabase;

/// Kafka's limit for the name of a topic.
const LONGEST_NAME: usize = 249;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A message at its topic's limit, and our headers.
const MAX_MESSAGE_BYTES: &str = "2097152";

/// The topic in which an event of `topic` waits for the `n`th retry: from 1; at 0 are those that are replayed.
pub(super) fn retry_topic(topic: &str, group: &str, n: usize) -> String {
    format!("{topic}.{group}.retry.{n}")
}

pub(super) fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlt")
}

/// All topics that a consumer has to do with.
#[derive(Debug)]
pub(super) struct Plan {
    group: String,
    own: BTreeSet<&'static str>,
    /// Retry topic → the topic it is of.
    retries: HashMap<String, &'static str>,
}

impl Plan {
    pub(super) fn new<DB: OutboxDatabase>(routes: &Routes<DB>, group: &str) -> Result<Self, OutboxError> {
        let own = routes.topics();
        let mut retries = HashMap::new();
        for topic in &own {
            let rungs =
                routes.options_of(topic).filter_map(|options| Some(options.ladder?.delays.len())).max();
            for rung in 0..=rungs.unwrap_or(0) {
                retries.insert(retry_topic(topic, group, rung), *topic);
            }
        }
        let plan = Self { group: group.to_owned(), own, retries };
        for name in plan.retries.keys().cloned().chain(plan.dead_letters().map(|(_, name)| name)) {
            let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
            if !legal || name.len() > LONGEST_NAME {
                return Err(OutboxError::config(format!(
                    "`{name}` would be the name of a topic for retries or dead letters, and Kafka refuses it: the group may have \
                     letters, digits, `.`, `_` and `-`, and the whole {LONGEST_NAME} characters. Choose another group"
                )));
            }
        }
        Ok(plan)
    }

    pub(super) fn subscribed(&self) -> Vec<&str> {
        self.own.iter().copied().chain(self.retries.keys().map(String::as_str)).collect()
    }

    fn dead_letters(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.own.iter().map(|topic| (*topic, dead_letter_topic(topic, &self.group)))
    }

    /// What is known of a message.
    pub(super) fn history(&self, message: &Message) -> History {
        match self.retries.get(&message.topic) {
            // By the topic's own name, whatever the header says: others may write to it too.
            Some(own) => History { topic: (*own).to_owned(), ..message.resumed() },
            None => message.fresh(),
        }
    }

    /// Creates what is missing of the topics for retries and dead letters, or says what is.
    pub(super) async fn ensure(&mut self, connection: &ClientConfig, create: bool) -> Result<(), Unprepared> {
        let admin: AdminClient<DefaultClientContext> = connection.create().map_err(|error| {
            let refused = "librdkafka refused the settings; nothing was started";
            Unprepared::ForGood(OutboxError::config(refused).with_source(error))
        })?;
        let admin = std::sync::Arc::new(admin);
        let asked = std::sync::Arc::clone(&admin);
        let partitions: BTreeMap<String, i32> = tokio::task::spawn_blocking(move || {
            let metadata = asked.inner().fetch_metadata(None, ANSWER_WITHIN)?;
            Ok(metadata
                .topics()
                .iter()
                .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
                .collect())
        })
        .await
        .unwrap_or_else(|_| Err(KafkaError::Canceled))
        .map_err(Unprepared::NoAnswer)?;
        // Those of a longer ladder, before a change: what is in them must come out.
        for topic in &self.own {
            let prefix = format!("{topic}.{}.retry.", self.group);
            let longer = partitions.keys().filter(|name| {
                name.strip_prefix(&prefix).is_some_and(|number| number.parse::<usize>().is_ok())
            });
            for name in longer {
                self.retries.insert(name.clone(), *topic);
            }
        }
        for topic in self.own.iter().filter(|topic| !partitions.contains_key(**topic)) {
            tracing::warn!(topic, "the topic does not exist (yet): the consumer waits for it");
        }
        let wanted =
            self.retries.iter().map(|(name, topic)| (*topic, name.clone())).chain(self.dead_letters());
        let missing: Vec<(String, i32)> = wanted
            .filter(|(_, name)| !partitions.contains_key(name))
            .map(|(topic, name)| (name, partitions.get(topic).copied().unwrap_or(-1)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if !create {
            return Err(Unprepared::ForGood(absent(
                &names,
                "they are not to be created (`create_topics(false)`)",
            )));
        }
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|(name, partitions)| {
                let topic = NewTopic::new(name, *partitions, TopicReplication::Fixed(-1))
                    .set("max.message.bytes", MAX_MESSAGE_BYTES)
                    .set("cleanup.policy", "delete");
                // Dead letters stay until somebody decides on them.
                if name.ends_with(".dlt") { topic.set("retention.ms", "-1") } else { topic }
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
        let results = admin.create_topics(&new, &options).await.map_err(Unprepared::NoAnswer)?;
        let refused: Vec<_> = results
            .into_iter()
            .filter_map(Result::err)
            .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
            .collect();
        if let Some((_, code)) = refused.first() {
            let why =
                refused.iter().map(|(name, code)| format!("{name}: {code}")).collect::<Vec<_>>().join("; ");
            return Err(if refused.iter().any(|(_, code)| is_for_good(*code)) {
                Unprepared::ForGood(absent(&names, &format!("Kafka refused to create them ({why})")))
            } else {
                Unprepared::NoAnswer(KafkaError::AdminOp(*code))
            });
        }
        tracing::info!(topics = ?names, "topics for retries and dead letters created");
        Ok(())
    }
}

/// Why a consumer cannot start.
pub(super) enum Unprepared {
    NoAnswer(KafkaError),
    ForGood(OutboxError),
}

/// What waiting cannot mend.
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

fn absent(names: &[&str], why: &str) -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "topics for retries and dead letters are missing, and {why}: {}. Nothing was consumed. Create them \
             (`kafka-topics.sh --create --topic NAME`), with as many partitions as their topic",
            names.join(", ")
        ),
    )
}
