//! The topics of a group: those with its events, and the retry and dead-letter topics of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::config;
use super::topic_settings::{Fault, Kind, Source, faults, of_new, spelled};
use crate::consume::message::{History, Message};
use crate::consume::route::Routes;
use crate::durations::LONGEST_WAIT;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, Client, Properties, aside};
use crate::observe::target;
use crate::store::OutboxDatabase;

/// Kafka's limit for the name of a topic.
const LONGEST_NAME: usize = 249;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time-out of a request for the settings of topics. They are useful but not required: the request
/// is made twice at most.
const SETTINGS_WITHIN: Duration = Duration::from_secs(3);

/// The topic in which an event of `topic` waits for `delay`. Each delay has its own topic, so that
/// the events in a topic become due in the order in which they arrive.
pub(super) fn retry_topic(topic: &str, group: &str, delay: Duration) -> String {
    format!("{topic}.{group}.retry.{}", spelled(delay))
}

/// The topic for dead letters that are replayed.
pub(super) fn replay_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.retry.0")
}

pub(super) fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlt")
}

/// All topics of a consumer.
#[derive(Debug)]
pub(super) struct Plan {
    group: String,
    own: BTreeSet<&'static str>,
    /// Topics for retries and dead letters, by name, with their source and purpose.
    ours: BTreeMap<String, (&'static str, Kind)>,
    /// Retry topics of delays that handlers had before a change, by name, with their source: what
    /// is in them is still handled.
    former: HashMap<String, &'static str>,
    brokers: Option<Brokers>,
    /// Sources that do not exist yet.
    missing: Vec<&'static str>,
}

type Admin = Arc<Client<AdminClient<Brokers>>>;
/// Topic → its settings.
type Found = HashMap<String, ConfigResource>;

impl Plan {
    pub(super) fn new<DB: OutboxDatabase>(
        routes: &Routes<DB>,
        group: &str,
    ) -> Result<Self, OutboxError> {
        let own = routes.topics();
        let mut ours = BTreeMap::new();
        for topic in &own {
            ours.insert(replay_topic(topic, group), (*topic, Kind::Replays));
            ours.insert(dead_letter_topic(topic, group), (*topic, Kind::DeadLetters));
            for delay in routes
                .options_of(topic)
                .filter_map(|options| options.schedule)
                .flat_map(|of| of.delays())
            {
                ours.insert(retry_topic(topic, group, delay), (*topic, Kind::Retry(delay)));
            }
        }
        for name in ours.keys() {
            let legal =
                name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
            if !legal || name.len() > LONGEST_NAME {
                return Err(OutboxError::config(format!(
                    "`{name}` would be the name of a topic for retries or dead letters, and Kafka refuses it: the group may have \
                     letters, digits, `.`, `_` and `-`, and the whole {LONGEST_NAME} characters. Choose another group"
                )));
            }
        }
        Ok(Self {
            group: group.to_owned(),
            own,
            ours,
            former: HashMap::new(),
            brokers: None,
            missing: Vec::new(),
        })
    }

    pub(super) fn subscribed(&self) -> Vec<&str> {
        let retries = self.ours.iter().filter(|(_, (_, kind))| *kind != Kind::DeadLetters);
        let retries = retries.map(|(name, _)| name.as_str());
        self.own
            .iter()
            .copied()
            .chain(retries)
            .chain(self.former.keys().map(String::as_str))
            .collect()
    }

    /// Sources that did not exist when topics were last listed.
    pub(super) fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// The history of a message.
    pub(super) fn history(&self, message: &Message) -> History {
        let of = self.ours.get(&message.topic).map(|(topic, kind)| (*topic, kind.delay()));
        match of.or_else(|| Some((*self.former.get(&message.topic)?, LONGEST_WAIT))) {
            // The source comes from the topic's name, not from the header: others may write to the
            // topic too. The sender's clock may be wrong, but from now on the event waits no longer
            // than its topic's delay.
            Some((own, longest)) => {
                let resumed = message.resumed();
                let due = resumed.due.map(|due| due.min(SystemTime::now() + longest));
                History { topic: own.to_owned(), due, ..resumed }
            }
            None => message.fresh(),
        }
    }

    /// The longest delay of a retry topic.
    pub(super) fn longest_delay(&self) -> Duration {
        self.ours.values().map(|(_, kind)| kind.delay()).max().unwrap_or_default()
    }

    /// Creates missing topics for retries and dead letters, or names them in an error, and checks
    /// the settings of those that exist.
    pub(super) async fn ensure(
        &mut self,
        properties: &Properties,
        create: bool,
    ) -> Result<(), Unprepared> {
        let brokers = self
            .brokers
            .get_or_insert_with(|| Brokers::new(properties.brokers(), "the consumer waits"));
        let admin = config::connection(properties).create_with_context(brokers.clone());
        let admin = admin.map_err(|error| Unprepared::ForGood(properties.no_client(error)))?;
        let admin = Arc::new(Client::new(admin));
        let partitions = partitions(&admin).await.map_err(Unprepared::NoAnswer)?;
        self.notice(&partitions);
        let asked = self.own.iter().copied().chain(self.ours.keys().map(String::as_str));
        let asked = asked.filter(|name| partitions.contains_key(*name)).collect::<Vec<_>>();
        let found = settings(&admin, &asked).await.map_err(Unprepared::NoAnswer)?;
        self.check(&found)?;
        let missing = self.ours.iter().filter(|(name, _)| !partitions.contains_key(*name));
        let names: Vec<&str> = missing.clone().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        if !create {
            let why = "they are not to be created (`create_topics(false)`)";
            return Err(Unprepared::ForGood(absent(&names, why)));
        }
        let wanted: Vec<_> = missing
            .map(|(name, (topic, kind))| {
                (name, partitions.get(*topic), of_new(*kind, source(&found, topic)))
            })
            .collect();
        let new = wanted.iter().map(|(name, partitions, settings)| {
            let new =
                NewTopic::new(name, partitions.copied().unwrap_or(-1), TopicReplication::Fixed(-1));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        });
        create_topics(&admin, &names, &new.collect::<Vec<_>>()).await
    }

    /// Records which sources exist, and which retry topics of former delays.
    fn notice(&mut self, partitions: &BTreeMap<String, i32>) {
        for topic in &self.own {
            let prefix = format!("{topic}.{}.retry.", self.group);
            let is_former = |name: &&String| {
                name.strip_prefix(&prefix).is_some_and(|delay| {
                    delay.starts_with(|c: char| c.is_ascii_digit())
                        && delay.chars().all(|c| c.is_ascii_alphanumeric())
                })
            };
            for name in
                partitions.keys().filter(is_former).filter(|name| !self.ours.contains_key(*name))
            {
                self.former.insert(name.clone(), *topic);
            }
        }
        let missing = self.own.iter().copied().filter(|topic| !partitions.contains_key(*topic));
        let missing: Vec<&str> = missing.collect();
        for topic in missing.iter().filter(|topic| !self.missing.contains(topic)) {
            tracing::warn!(
                target: target::CONSUMER,
                group = self.group,
                topic,
                "the topic does not exist (yet): the consumer waits for it, and looks every second. Is its name right?"
            );
        }
        self.missing = missing;
    }

    fn check(&self, found: &Found) -> Result<(), Unprepared> {
        let mut losing = Vec::new();
        for (name, (topic, kind)) in &self.ours {
            let Some(settings) = found.get(name) else { continue };
            for fault in
                faults(*kind, source(found, topic), |name| settings.get(name)?.value.as_deref())
            {
                match fault {
                    Fault::Loses(why) => losing.push(format!("`{name}`: {why}")),
                    Fault::Narrow(why) => {
                        tracing::warn!(target: target::CONSUMER, topic = name, "{why} (`kafka-configs.sh --alter`)")
                    }
                }
            }
        }
        if losing.is_empty() {
            return Ok(());
        }
        Err(Unprepared::ForGood(OutboxError::config(format!(
            "topics for retries and dead letters would lose events: {}. Nothing was consumed. Change them (`kafka-configs.sh --alter \
             --entity-type topics --entity-name NAME --add-config …`)",
            losing.join("; ")
        ))))
    }
}

/// All topics, with their numbers of partitions.
async fn partitions(admin: &Admin) -> Result<BTreeMap<String, i32>, KafkaError> {
    let admin = Arc::clone(admin);
    let asked = aside("outbox-kafka-topics", move || {
        let metadata = admin.inner().fetch_metadata(None, ANSWER_WITHIN)?;
        let topics = metadata.topics().iter();
        Ok(topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect())
    });
    asked.await.unwrap_or(Err(KafkaError::Canceled))
}

/// The settings of topics. Those that may not be read are left out.
async fn settings(admin: &Admin, topics: &[&str]) -> Result<Found, KafkaError> {
    if topics.is_empty() {
        return Ok(Found::new());
    }
    let asked: Vec<_> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(SETTINGS_WITHIN));
    let mut described = admin.describe_configs(&asked, &options).await;
    if described.as_ref().is_err_and(is_timeout) {
        described = admin.describe_configs(&asked, &options).await;
    }
    let described = match described {
        Ok(described) => described,
        // Brokers have just answered: one that is silent now does not know the request, like
        // librdkafka's own.
        Err(error) if is_no_answer(&error) && !is_timeout(&error) => return Err(error),
        Err(error) => vec![Err(code_of(&error).unwrap_or(RDKafkaErrorCode::Unknown))],
    };
    let mut found = Found::new();
    for described in described {
        match described {
            Ok(resource) => {
                if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                    found.insert(name.clone(), resource);
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
    Ok(found)
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

fn source(found: &Found, topic: &str) -> Source {
    let value = |name| found.get(topic)?.get(name)?.value.as_deref();
    Source {
        max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
        retention_ms: value("retention.ms").and_then(|value| value.parse().ok()),
    }
}

async fn create_topics(
    admin: &Admin,
    names: &[&str],
    new: &[NewTopic<'_>],
) -> Result<(), Unprepared> {
    let options = AdminOptions::new()
        .operation_timeout(Some(ANSWER_WITHIN))
        .request_timeout(Some(ANSWER_WITHIN));
    let results = admin.create_topics(new, &options).await.map_err(Unprepared::NoAnswer)?;
    let refused: Vec<_> = results
        .into_iter()
        .filter_map(Result::err)
        .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
        .collect();
    if let Some((_, code)) = refused.first() {
        let why = refused
            .iter()
            .map(|(name, code)| format!("{name}: {code}"))
            .collect::<Vec<_>>()
            .join("; ");
        return Err(if refused.iter().any(|(_, code)| is_for_good(*code)) {
            Unprepared::ForGood(absent(names, &format!("Kafka refused to create them ({why})")))
        } else {
            Unprepared::NoAnswer(KafkaError::AdminOp(*code))
        });
    }
    tracing::info!(target: target::CONSUMER, topics = ?names, "topics for retries and dead letters created");
    Ok(())
}

/// Why a consumer cannot start.
pub(super) enum Unprepared {
    NoAnswer(KafkaError),
    ForGood(OutboxError),
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

fn absent(names: &[&str], why: &str) -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "topics for retries and dead letters are missing, and {why}: {}. Nothing was consumed. Create them \
             (`kafka-topics.sh --create --topic NAME`), with as many partitions as their topic, and a `max.message.bytes` of 65536 \
             more",
            names.join(", ")
        ),
    )
}
