//! What a cluster says of its topics, and the creation of topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
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
        let mut settings = Settings::default();
        // Without a token, no broker would answer the client for administrators.
        if topics.is_empty() || self.has_tokens {
            return Ok(settings);
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
                Ok(resource) => {
                    if let OwnedResourceSpecifier::Topic(topic) = resource.specifier {
                        let entries = resource.entries.into_iter();
                        let set = entries.filter_map(|entry| Some((entry.name, entry.value?)));
                        settings.by_topic.insert(topic, set.collect());
                    }
                }
                Err(code) => settings.unread.push(code),
            }
        }
        Ok(settings)
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
