//! What a cluster says of its topics, and the creation of topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{Producer as _, ThreadedProducer};

use super::{Brokers, Client, Properties, aside, connection};
use crate::error::OutboxError;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time-out of a request for the settings of topics. They are useful but not required: the request
/// is made twice at most.
const SETTINGS_WITHIN: Duration = Duration::from_secs(3);
/// Longest time until all brokers know of a change that the controller has made.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks for such a change.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Settings of topics by their names.
pub(crate) type SettingsByTopic = HashMap<String, HashMap<String, String>>;

/// Asks about topics, and creates some.
pub(crate) struct Admin {
    admin: Client<AdminClient<Brokers>>,
    /// The client of rdkafka for administrators learns neither why brokers refuse it nor of a token
    /// for OAUTHBEARER. So what must be known is asked over this one.
    asking: Arc<Client<ThreadedProducer<Brokers>>>,
    brokers: Brokers,
    has_tokens: bool,
}

/// Settings as far as they could be read.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Topics whose settings may not be read are left out.
    pub(crate) by_topic: SettingsByTopic,
    /// Why some could not be read.
    pub(crate) unread: Vec<Code>,
}

/// The settings of a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    /// All that count, by name.
    pub(crate) values: BTreeMap<String, String>,
    /// Those that somebody has set for this topic. `None`: the broker does not tell all of them.
    pub(crate) own: Option<BTreeMap<String, String>>,
}

impl Admin {
    pub(crate) fn new(properties: &Properties, brokers: Brokers) -> Result<Self, OutboxError> {
        let config = connection(properties);
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

    /// Whether it uses OAUTHBEARER, with which it can neither create topics nor read settings.
    pub(crate) fn has_tokens(&self) -> bool {
        self.has_tokens
    }

    /// What the brokers say of all topics that this user may describe, as `read` takes it in. All
    /// are asked for: asking for one may create it.
    pub(crate) async fn topics<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (asking, brokers) = (Arc::clone(&self.asking), self.brokers.clone());
        let asked = aside("outbox-kafka-topics", move || {
            let ask = |within| asking.client().fetch_metadata(None, within);
            brokers.metadata(ask, || ()).map(|metadata| read(&metadata))
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// The settings of topics.
    pub(crate) async fn settings(&self, topics: &[&str]) -> Result<Settings, KafkaError> {
        let (described, unread) = self.described(topics).await?;
        let by_topic = described.into_iter().map(|(topic, entries)| {
            let set = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            (topic, set.collect())
        });
        Ok(Settings { by_topic: by_topic.collect(), unread })
    }

    /// The settings of topics, and which of them are their own. Those that may not be read are left
    /// out.
    pub(crate) async fn own_settings(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, TopicSettings>, KafkaError> {
        let (described, _) = self.described(topics).await?;
        Ok(described.into_iter().map(|(topic, entries)| (topic, own(entries))).collect())
    }

    async fn described(
        &self,
        topics: &[&str],
    ) -> Result<(Vec<(String, Vec<ConfigEntry>)>, Vec<Code>), KafkaError> {
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        // Without a token, no broker would answer the client for administrators.
        if topics.is_empty() || self.has_tokens {
            return Ok((read, unread));
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
            Err(error) => vec![Err(code_of(&error).unwrap_or(Code::Unknown))],
        };
        for described in described {
            match described {
                // rdkafka does not pass on why a topic could not be described: it has no settings
                // then. One that could be has all that Kafka knows.
                Ok(resource) if resource.entries.is_empty() => {
                    unread.push(Code::TopicAuthorizationFailed);
                }
                Ok(resource) => {
                    if let OwnedResourceSpecifier::Topic(topic) = resource.specifier {
                        read.push((topic, resource.entries));
                    }
                }
                Err(code) => unread.push(code),
            }
        }
        Ok((read, unread))
    }

    /// The settings of a broker. `None`: it does not answer, or this user may not read them.
    pub(crate) async fn settings_of_broker(&self, id: i32) -> Option<HashMap<String, String>> {
        if self.has_tokens {
            return None;
        }
        let options = AdminOptions::new().request_timeout(Some(SETTINGS_WITHIN));
        let asked = [ResourceSpecifier::Broker(id)];
        let described = self.admin.describe_configs(&asked, &options).await.ok()?;
        let resource = described.into_iter().next()?.ok()?;
        let entries = resource.entries.into_iter();
        Some(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// Creates topics, and returns those that Kafka refused, except because they exist already.
    pub(crate) async fn create(
        &self,
        new: &[NewTopic<'_>],
    ) -> Result<Vec<(String, Code)>, KafkaError> {
        let options = AdminOptions::new()
            .operation_timeout(Some(ANSWER_WITHIN))
            .request_timeout(Some(ANSWER_WITHIN));
        let results = self.admin.create_topics(new, &options).await?;
        let refused = results.into_iter().filter_map(Result::err);
        Ok(refused.filter(|(_, code)| *code != Code::TopicAlreadyExists).collect())
    }

    /// Gives a topic more partitions, and returns why Kafka refused it.
    pub(crate) async fn add_partitions(
        &self,
        topic: &str,
        partitions: usize,
    ) -> Result<Option<Code>, KafkaError> {
        let options = AdminOptions::new()
            .operation_timeout(Some(ANSWER_WITHIN))
            .request_timeout(Some(ANSWER_WITHIN));
        let new = NewPartitions::new(topic, partitions);
        let results = self.admin.create_partitions([&new], &options).await?;
        Ok(results.into_iter().find_map(|result| result.err().map(|(_, code)| code)))
    }

    /// Makes these **all** settings of a topic that are its own: others go back to what the brokers
    /// have for every topic. rdkafka 0.39 has no request that changes some and keeps the others
    /// (IncrementalAlterConfigs), and does not pass on that Kafka refused this one for a topic: who
    /// calls this has to look.
    pub(crate) async fn replace_settings(
        &self,
        topic: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), KafkaError> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let config = settings.iter().fold(config, |config, (name, value)| config.set(name, value));
        self.admin.alter_configs([&config], &options).await.map(|_| ())
    }

    /// Waits until topics, as the brokers know them, are as `is_so` says. `false`: they are not, for
    /// too long.
    pub(crate) async fn until<T: Send + 'static>(
        &self,
        read: fn(&Metadata) -> T,
        is_so: impl Fn(&T) -> bool,
    ) -> Result<bool, KafkaError> {
        let patience = Patience::new();
        loop {
            if is_so(&self.topics(read).await?) {
                return Ok(true);
            }
            if !patience.waited().await {
                return Ok(false);
            }
        }
    }
}

/// Waits for brokers to learn of a change, for a while.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Waits for a moment. `false`: it was long enough.
    pub(crate) async fn waited(&self) -> bool {
        if self.0.elapsed() >= KNOWN_WITHIN {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        true
    }
}

fn own(entries: Vec<ConfigEntry>) -> TopicSettings {
    let is_whole = entries.iter().all(|entry| match entry.source {
        // A broker before Kafka 1.1 does not say whose a setting is.
        ConfigSource::Unknown => false,
        // A secret one has no value.
        ConfigSource::DynamicTopic => entry.value.is_some(),
        _ => true,
    });
    let mut settings = TopicSettings { own: is_whole.then(BTreeMap::new), ..Default::default() };
    for ConfigEntry { name, value, source, .. } in entries {
        let Some(value) = value else { continue };
        if let (ConfigSource::DynamicTopic, Some(own)) = (source, &mut settings.own) {
            own.insert(name.clone(), value.clone());
        }
        settings.values.insert(name, value);
    }
    settings
}

/// rdkafka has no code for a request that failed as a whole.
fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

fn is_timeout(error: &KafkaError) -> bool {
    matches!(code_of(error), Some(Code::OperationTimedOut | Code::RequestTimedOut))
}

fn is_no_answer(error: &KafkaError) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: Option<&str>, source: ConfigSource) -> ConfigEntry {
        ConfigEntry {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            source,
            is_read_only: false,
            is_default: false,
            is_sensitive: value.is_none(),
        }
    }

    /// They would be lost: a topic's settings are replaced as a whole.
    #[test]
    fn settings_that_a_broker_does_not_tell_are_not_taken_for_none() {
        let set = || entry("retention.ms", Some("1"), ConfigSource::DynamicTopic);
        let of_brokers = || entry("segment.ms", Some("2"), ConfigSource::Default);
        let hidden = || entry("token", None, ConfigSource::DynamicTopic);
        let unknown = || entry("cleanup.policy", Some("delete"), ConfigSource::Unknown);
        let all = own(vec![set(), of_brokers()]);
        assert_eq!(all.own, Some([("retention.ms".to_owned(), "1".to_owned())].into()));
        assert_eq!(all.values.len(), 2);
        assert_eq!(own(vec![set(), hidden()]).own, None);
        assert_eq!(own(vec![set(), unknown()]).own, None);
    }
}
