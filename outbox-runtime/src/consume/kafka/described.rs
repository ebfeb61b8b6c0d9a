//! What a cluster says of itself and of some topics, for an operator.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};

use super::cluster::Topics;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Admin, Brokers, Client, KafkaConfig, Properties, aside, connection};

/// What a Kafka cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Number of brokers that are up.
    pub brokers: usize,
    /// All topics that this user may describe, by name.
    pub topics: BTreeMap<String, TopicDescription>,
    ids: BTreeSet<i32>,
}

/// What a Kafka cluster says of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Number of partitions.
    pub partitions: usize,
    /// Smallest number of replicas that a partition has.
    pub replicas: usize,
    /// Smallest number of replicas of a partition that are in sync.
    pub in_sync: usize,
    /// Number of partitions without a leader: nothing can be written to them.
    pub leaderless: usize,
    /// Whether this user may describe it. Without that, the numbers above say nothing.
    pub may_describe: bool,
    /// Its settings by name, if they were asked for and this user may read them.
    pub settings: BTreeMap<String, String>,
}

impl ClusterDescription {
    /// Asks the brokers: for all topics, and for the settings of those that `wanted` says. It
    /// changes nothing.
    ///
    /// # Errors
    /// If the configuration is refused, or no broker answers within 10 s.
    pub async fn ask(
        kafka: impl Into<KafkaConfig>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, OutboxError> {
        let kafka = kafka.into();
        let properties = kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        let brokers = Brokers::new(&properties, "the state of the cluster is not known");
        let mut described = metadata(&properties, &brokers).await?;
        let names: Vec<&str> =
            described.topics.keys().map(String::as_str).filter(|topic| wanted(topic)).collect();
        let settings = Topics::new(&properties, brokers.clone())?.settings(&names).await;
        // They are useful, not required: without them less is known.
        for (topic, settings) in settings.unwrap_or_default() {
            if let Some(topic) = described.topics.get_mut(&topic) {
                topic.settings = settings.into_iter().collect();
            }
        }
        Ok(described)
    }
}

impl ClusterDescription {
    /// Asks the brokers for their own settings: the first sixteen of them. Those that do not
    /// answer, or whose settings this user may not read, are left out. It changes nothing.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub async fn broker_settings(
        &self,
        kafka: impl Into<KafkaConfig>,
    ) -> Result<BTreeMap<i32, BTreeMap<String, String>>, OutboxError> {
        const MOST: usize = 16;
        let properties = kafka.into().set_by_user().clone();
        properties.client(|_, _| None)?;
        let brokers = Brokers::new(&properties, "the settings of the brokers are not known");
        let admin = Admin::new(&properties, brokers)?;
        let mut settings = BTreeMap::new();
        // librdkafka takes one in a request.
        for id in self.ids.iter().take(MOST) {
            if let Some(of_broker) = admin.settings_of_broker(*id).await {
                settings.insert(*id, of_broker.into_iter().collect());
            }
        }
        Ok(settings)
    }
}

async fn metadata(
    properties: &Properties,
    brokers: &Brokers,
) -> Result<ClusterDescription, OutboxError> {
    let client: ThreadedProducer<Brokers> = connection(properties)
        .create_with_context(brokers.clone())
        .map_err(|error| properties.no_client(error))?;
    let (client, heard) = (Client::new(client), brokers.clone());
    let asked = aside("outbox-kafka-cluster", move || {
        let ask = |within| client.client().fetch_metadata(None, within);
        let metadata = heard.metadata(ask, || ())?;
        let ids: BTreeSet<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        Ok(ClusterDescription {
            brokers: ids.len(),
            ids,
            topics: metadata.topics().iter().map(topic).collect(),
        })
    });
    asked.await.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| {
        let why = brokers
            .refusal()
            .unwrap_or_else(|| "Is one of the brokers up, and are the addresses right?".to_owned());
        OutboxError::new(
            ErrorKind::Kafka,
            format!("no broker said what topics there are. Nothing was changed. {why}"),
        )
        .with_source(error)
    })
}

fn topic(topic: &rdkafka::metadata::MetadataTopic) -> (String, TopicDescription) {
    let partitions = topic.partitions();
    let smallest = |count: fn(&rdkafka::metadata::MetadataPartition) -> usize| {
        partitions.iter().map(count).min().unwrap_or(0)
    };
    let denied = topic.error().map(RDKafkaErrorCode::from)
        == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
    let description = TopicDescription {
        partitions: partitions.len(),
        replicas: smallest(|partition| partition.replicas().len()),
        in_sync: smallest(|partition| partition.isr().len()),
        leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        may_describe: !denied,
        settings: BTreeMap::new(),
    };
    (topic.name().to_owned(), description)
}
