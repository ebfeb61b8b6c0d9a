//! What a Kafka cluster says of its topics, and the creation of those that are missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};

use super::config;
use super::topic_settings::Source;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, Client, Properties, aside};
use crate::observe::target;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time-out of a request for the settings of topics. They are useful but not required: the request
/// is made twice at most.
const SETTINGS_WITHIN: Duration = Duration::from_secs(3);

/// What the brokers have answered.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// All topics, with their numbers of partitions.
    pub(super) partitions: BTreeMap<String, i32>,
    /// Settings by topic and name. Topics whose settings may not be read are left out.
    pub(super) settings: HashMap<String, HashMap<String, String>>,
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

pub(super) struct Admin {
    admin: Client<AdminClient<Brokers>>,
    /// The client of rdkafka for administrators learns neither why brokers refuse it nor of a token
    /// for OAUTHBEARER. So what must be known is asked over this one.
    asking: Arc<Client<ThreadedProducer<Brokers>>>,
    brokers: Brokers,
    has_tokens: bool,
}

impl Admin {
    pub(super) fn new(properties: &Properties, brokers: Brokers) -> Result<Self, OutboxError> {
        let config = config::connection(properties);
        let refused = |error| properties.no_client(error);
        let admin = config.create_with_context(brokers.clone()).map_err(refused)?;
        let asking = config.create_with_context(brokers.clone()).map_err(refused)?;
        Ok(Self {
            admin: Client::new(admin),
            asking: Arc::new(Client::new(asking)),
            brokers,
            has_tokens: properties.tokens().is_some(),
        })
    }

    /// All topics that this user may describe, with their numbers of partitions.
    pub(super) async fn partitions(&self) -> Result<BTreeMap<String, i32>, Unprepared> {
        let (asking, brokers) = (Arc::clone(&self.asking), self.brokers.clone());
        let asked = aside("outbox-kafka-topics", move || {
            let ask = |within| asking.client().fetch_metadata(None, within);
            let metadata = brokers.metadata(ask, || ());
            let metadata = metadata.map_err(|error| unanswered(error, &brokers))?;
            let topics = metadata.topics().iter();
            Ok(topics
                .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
                .collect())
        });
        asked.await.unwrap_or(Err(Unprepared::NoAnswer(KafkaError::Canceled)))
    }

    /// The settings of topics. Those that may not be read are left out.
    pub(super) async fn settings(
        &self,
        topics: &[&str],
    ) -> Result<HashMap<String, HashMap<String, String>>, KafkaError> {
        // Without a token, no broker would answer the client for administrators.
        if topics.is_empty() || self.has_tokens {
            return Ok(HashMap::new());
        }
        let asked: Vec<_> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(SETTINGS_WITHIN));
        let mut described = self.admin.describe_configs(&asked, &options).await;
        if described.as_ref().is_err_and(is_timeout) {
            described = self.admin.describe_configs(&asked, &options).await;
        }
        let described = match described {
            Ok(described) => described,
            // Brokers have just answered: one that is silent now does not know the request, like
            // librdkafka's own.
            Err(error) if is_no_answer(&error) && !is_timeout(&error) => return Err(error),
            Err(error) => vec![Err(code_of(&error).unwrap_or(RDKafkaErrorCode::Unknown))],
        };
        let mut settings = HashMap::new();
        for described in described {
            match described {
                Ok(resource) => {
                    if let OwnedResourceSpecifier::Topic(topic) = resource.specifier {
                        let entries = resource.entries.into_iter();
                        let set = entries.filter_map(|entry| Some((entry.name, entry.value?)));
                        settings.insert(topic, set.collect());
                    }
                }
                Err(code) => tracing::info!(
                    target: target::CONSUMER,
                    %code,
                    "the settings of some topics cannot be read (it takes the right to DescribeConfigs, and a broker that \
                     knows the request): whether those for retries and dead letters have room for every event is not known"
                ),
            }
        }
        Ok(settings)
    }

    /// Creates topics, with as many replicas as the brokers give a topic.
    pub(super) async fn create(&self, missing: &[Missing<'_>]) -> Result<(), Unprepared> {
        if self.has_tokens {
            let why = "this program creates none where it uses OAUTHBEARER";
            return Err(Unprepared::ForGood(absent(missing, why)));
        }
        let new = missing.iter().map(|Missing { name, partitions, settings }| {
            let new = NewTopic::new(name, partitions.unwrap_or(-1), TopicReplication::Fixed(-1));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        });
        let options = AdminOptions::new()
            .operation_timeout(Some(ANSWER_WITHIN))
            .request_timeout(Some(ANSWER_WITHIN));
        let results = self.admin.create_topics(&new.collect::<Vec<_>>(), &options).await;
        let refused: Vec<_> = results
            .map_err(Unprepared::NoAnswer)?
            .into_iter()
            .filter_map(Result::err)
            .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
            .collect();
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

/// rdkafka has no code for a request that failed as a whole.
fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

fn is_timeout(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code_of(error), Some(Code::OperationTimedOut | Code::RequestTimedOut))
}

fn is_no_answer(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code_of(error),
        None | Some(
            Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::WaitingForCoordinator
        )
    )
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
