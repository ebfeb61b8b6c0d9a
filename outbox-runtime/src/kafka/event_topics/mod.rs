//! The topics of events, as those who operate them want them: what a cluster has otherwise, and
//! what can be changed of that.

mod change;
mod difference;

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;

use super::{
    Admin, Brokers, KafkaConfig, LONGEST_NAME, Properties, TopicPrefix, TopicSettings,
    is_legal_topic,
};
use crate::error::{ErrorKind, OutboxError};

pub use difference::{EventTopic, EventTopicsPlan, TopicDifference};
use difference::{Found, differences};

/// Topics that events are published to, as they are wanted on the brokers.
///
/// Nothing is ever deleted, and the number of partitions never becomes smaller.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::kafka::{EventTopics, WantedTopic};
///
/// let orders = WantedTopic::default().partitions(12).setting("retention.ms", "604800000");
/// let topics = EventTopics::builder("localhost:9092").topic("orders", orders).build()?;
/// let plan = topics.plan().await?;
/// for topic in &plan.topics {
///     for difference in &topic.differences {
///         println!("{}: {difference}", topic.name);
///     }
/// }
/// topics.create(&plan).await?;
/// topics.set(&plan).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventTopics {
    properties: Properties,
    /// By their names on the brokers.
    wanted: BTreeMap<String, WantedTopic>,
}

/// What is wanted of a topic. By default, that it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedTopic {
    pub(crate) partitions: Option<u32>,
    pub(crate) replicas: Option<u16>,
    pub(crate) settings: BTreeMap<String, String>,
}

impl WantedTopic {
    /// Its number of partitions. Default: as many as the brokers give a topic; one that exists may
    /// have any number.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Its number of replicas. Default: as many as the brokers give a topic; one that exists may
    /// have any number.
    #[must_use]
    pub fn replicas(mut self, replicas: u16) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// A setting, by Kafka's name. Default: none; whatever else is set for a topic stays.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }
}

/// Which topics, and what is wanted of them.
#[derive(Debug)]
pub struct EventTopicsBuilder {
    kafka: KafkaConfig,
    topic_prefix: String,
    topics: BTreeMap<String, WantedTopic>,
}

impl EventTopicsBuilder {
    /// A topic, as its events declare it.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>, wanted: WantedTopic) -> Self {
        self.topics.insert(topic.into(), wanted);
        self
    }

    /// The topic prefix of the deployment. Default: empty.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// The topics. It does not connect yet.
    ///
    /// # Errors
    /// If the brokers are missing, or if Kafka would not accept the name of a topic.
    pub fn build(self) -> Result<EventTopics, OutboxError> {
        let prefix = TopicPrefix::new(&self.topic_prefix)?;
        let mut wanted = BTreeMap::new();
        for (topic, of_topic) in self.topics {
            let name = prefix.on_brokers(&topic).into_owned();
            if !is_legal_topic(&name) {
                return Err(OutboxError::config(format!(
                    "Kafka has no topic of the name `{}`: it may have letters, digits, `.`, `_` and `-`, and {LONGEST_NAME} \
                     characters with the topic prefix. Nothing was done. Correct the topic of the events, or the prefix",
                    name.escape_debug()
                )));
            }
            wanted.insert(name, of_topic);
        }
        let properties = self.kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        Ok(EventTopics { properties, wanted })
    }
}

impl EventTopics {
    /// Which topics. `kafka` may be `"host:port,host:port"`; of its properties, those count that
    /// say how to reach the brokers.
    pub fn builder(kafka: impl Into<KafkaConfig>) -> EventTopicsBuilder {
        let (topic_prefix, topics) = Default::default();
        EventTopicsBuilder { kafka: kafka.into(), topic_prefix, topics }
    }

    /// What the cluster has otherwise than it is wanted. It changes nothing, and asks for settings
    /// only of topics of which some are wanted.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses.
    pub async fn plan(&self) -> Result<EventTopicsPlan, OutboxError> {
        let (admin, brokers) = self.admin()?;
        let found = self.found(&admin).await;
        let found = found.map_err(|error| no_answer(&brokers, "Nothing was changed", error))?;
        let topics = self.wanted.iter().map(|(name, wanted)| {
            let of_topic = found.get(name);
            EventTopic {
                name: name.clone(),
                partitions: of_topic.map(|found| found.partitions),
                differences: differences(wanted, of_topic),
            }
        });
        Ok(EventTopicsPlan { topics: topics.collect() })
    }

    fn admin(&self) -> Result<(Admin, Brokers), OutboxError> {
        let brokers = Brokers::new(&self.properties, "topics cannot be looked at");
        Ok((Admin::new(&self.properties, brokers.clone())?, brokers))
    }

    /// What the cluster has of these topics, by name.
    async fn found(&self, admin: &Admin) -> Result<BTreeMap<String, Found>, KafkaError> {
        let mut found = admin.topics(described).await?;
        found.retain(|name, _| self.wanted.contains_key(name));
        let asked: Vec<&str> = found
            .keys()
            .map(String::as_str)
            .filter(|name| self.wanted.get(*name).is_some_and(|of| !of.settings.is_empty()))
            .collect();
        for (topic, TopicSettings { values, .. }) in admin.own_settings(&asked).await? {
            if let Some(found) = found.get_mut(&topic) {
                found.settings = Some(values);
            }
        }
        Ok(found)
    }
}

/// All topics that this user may describe.
fn described(metadata: &Metadata) -> BTreeMap<String, Found> {
    let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
    let found = topics.map(|topic| {
        let partitions = topic.partitions();
        let found = Found {
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            has_leaders: partitions.iter().all(|partition| partition.leader() >= 0),
            replicas: partitions.iter().map(|partition| partition.replicas().len()).collect(),
            settings: None,
        };
        (topic.name().to_owned(), found)
    });
    found.collect()
}

fn no_answer(brokers: &Brokers, meaning: &str, error: KafkaError) -> OutboxError {
    if let Some(refusal) = brokers.refusal().filter(|_| brokers.refuses_for_good()) {
        return OutboxError::new(ErrorKind::Kafka, format!("{refusal}. {meaning}"));
    }
    OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "Kafka did not answer what was asked about topics. {meaning}. Does a broker answer?"
        ),
    )
    .with_source(error)
}
