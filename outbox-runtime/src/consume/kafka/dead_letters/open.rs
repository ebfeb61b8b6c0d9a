//! How many dead letters are open, of all groups of a deployment: a gauge for exporters.

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;

use super::{DeadLetterFilter, DeadLetters};
use crate::consume::kafka::lag;
use crate::consume::kafka::topics::dead_letter_topic;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, aside};
use crate::observe;

/// Counts the dead letters that were neither replayed nor discarded, and sets
/// `outbox_dead_letters_open`.
///
/// Whether a dead letter is open is said after it on its topic, so a topic is read as a whole when
/// it is first counted, and again when something was added to it or deleted from it. A topic on
/// which nothing happens costs two requests.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// let mut open = outbox::consume::OpenDeadLetters::new("localhost:9092");
/// loop {
///     for of in open.count().await? {
///         println!("{} on {}: {}", of.group, of.topic, of.open);
///     }
///     tokio::time::sleep(std::time::Duration::from_secs(60)).await;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct OpenDeadLetters {
    kafka: KafkaConfig,
    topic_prefix: String,
    counted: BTreeMap<Whose, Counted>,
}

/// The open dead letters of a group and a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOfGroup {
    /// The consumer group.
    pub group: String,
    /// The topic, as its events declare it.
    pub topic: String,
    /// How many there are.
    pub open: u64,
}

/// Group, and topic by its name on the brokers.
type Whose = (String, String);
/// First offset and end of each partition.
type Bounds = BTreeMap<i32, (i64, i64)>;

#[derive(Debug)]
struct Counted {
    /// As they were before the topic was read.
    bounds: Bounds,
    open: u64,
}

impl OpenDeadLetters {
    /// Of all groups on this cluster that have a dead-letter topic. `kafka` may be
    /// `"host:port,host:port"`.
    pub fn new(kafka: impl Into<KafkaConfig>) -> Self {
        Self { kafka: kafka.into(), topic_prefix: String::new(), counted: BTreeMap::new() }
    }

    /// The topic prefix of the deployment: topics without it are left out. Default: empty.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// Counts them, by group and topic. May be dropped at any time: done again, it continues with
    /// the topics that were not counted yet.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses. The topics that could be read are counted.
    pub async fn count(&mut self) -> Result<Vec<OpenOfGroup>, OutboxError> {
        let found = self.found().await?;
        let gone = self.counted.keys().filter(|whose| !found.contains_key(*whose)).cloned();
        for whose in gone.collect::<Vec<_>>() {
            self.counted.remove(&whose);
            self.set(&whose, 0);
        }
        let mut failed = None;
        for (whose, bounds) in found {
            if self.counted.get(&whose).is_some_and(|counted| counted.bounds == bounds) {
                continue;
            }
            match self.read(&whose, &bounds).await {
                Ok(open) => {
                    self.set(&whose, open);
                    self.counted.insert(whose, Counted { bounds, open });
                }
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or_else(|| Ok(self.all()), Err)
    }

    fn all(&self) -> Vec<OpenOfGroup> {
        let counted = self.counted.iter();
        let of_group = |((group, topic), counted): (&Whose, &Counted)| OpenOfGroup {
            group: group.clone(),
            topic: self.declared(topic).to_owned(),
            open: counted.open,
        };
        counted.map(of_group).collect()
    }

    fn declared<'t>(&self, topic: &'t str) -> &'t str {
        topic.strip_prefix(&self.topic_prefix).unwrap_or(topic)
    }

    fn set(&self, (group, topic): &Whose, open: u64) {
        observe::dead_letters_open(group, self.declared(topic), open);
    }

    /// One reading of the topic, unless nothing was ever written to it.
    async fn read(&self, (group, topic): &Whose, bounds: &Bounds) -> Result<u64, OutboxError> {
        if bounds.values().all(|(first, end)| first == end) {
            return Ok(0);
        }
        let letters = DeadLetters::builder(self.kafka.clone()).topic(topic).group(group).build()?;
        Ok(letters.select(DeadLetterFilter::all()).await?.len())
    }

    async fn found(&self) -> Result<BTreeMap<Whose, Bounds>, OutboxError> {
        let properties = self.kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        let brokers = Brokers::new(&properties, "dead letters cannot be counted");
        let (heard, prefix) = (brokers.clone(), self.topic_prefix.clone());
        let found = aside("outbox-kafka-open", move || find(&properties, &brokers, &prefix)).await;
        found.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| {
            let why = heard.refusal().unwrap_or_else(|| {
                "Does a broker answer, and may this user describe the topics `….dlt`?".to_owned()
            });
            OutboxError::new(
                ErrorKind::Kafka,
                format!("cannot count the dead letters. Nothing was changed. {why}"),
            )
            .with_source(error)
        })
    }
}

fn find(
    properties: &Properties,
    brokers: &Brokers,
    prefix: &str,
) -> Result<BTreeMap<Whose, Bounds>, KafkaError> {
    let client = lag::client(properties, brokers, "outbox")?;
    let cluster = lag::Cluster::ask(&client, brokers)?;
    let mut found = BTreeMap::new();
    for (group, topics) in cluster.groups() {
        for topic in topics.into_keys().filter(|topic| topic.starts_with(prefix)) {
            let bounds = cluster.bounds(&client, &dead_letter_topic(&topic, &group))?;
            found.insert((group.clone(), topic), bounds);
        }
    }
    Ok(found)
}
