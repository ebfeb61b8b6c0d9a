//! The topics for retries and dead letters of a group, for an operator: what is missing, what is
//! wrong, and their creation before the consumers start.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::cluster::{Cluster, Missing, Topics, Unprepared};
use super::topic_settings::{Kind, faults, of_new, spelled};
use super::topics::{dead_letter_topic, legal, replay_topic, retry_topic};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, TopicPrefix};

/// The topics for retries and dead letters of a consumer group, on one topic of events.
///
/// A consumer creates them when it starts. Where it may not, this says what it needs, and creates
/// it.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use std::time::Duration;
///
/// use outbox::consume::GroupTopics;
///
/// let topics = GroupTopics::builder("localhost:9092")
///     .topic("orders")
///     .group("inventory")
///     .retry_delay(Duration::from_secs(10))
///     .build()?;
/// let plan = topics.plan().await?;
/// for missing in &plan.missing {
///     println!("{} will be created", missing.name);
/// }
/// topics.create(&plan).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GroupTopics {
    properties: Properties,
    /// Topic of the events, by its name on the brokers.
    topic: String,
    group: String,
    ours: BTreeMap<String, Kind>,
}

/// Whose topics: those of a [`group`](Self::group), for a [`topic`](Self::topic).
#[derive(Debug)]
pub struct GroupTopicsBuilder {
    kafka: KafkaConfig,
    topic: String,
    topic_prefix: String,
    group: String,
    delays: Vec<Duration>,
}

impl GroupTopicsBuilder {
    /// The topic of the events, as they declare it. Required.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// The topic prefix of the deployment. Default: empty.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// The consumer group. Required.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// A delay of the group's retry topics, as its handlers list it. Default: none. Retry topics
    /// that exist are looked at in any case.
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.delays.push(delay);
        self
    }

    /// The topics. It does not connect yet.
    ///
    /// # Errors
    /// If the topic, the group or the brokers are missing, or if Kafka would not accept the name of
    /// a topic.
    pub fn build(self) -> Result<GroupTopics, OutboxError> {
        let Self { kafka, topic, topic_prefix, group, delays } = self;
        if topic.trim().is_empty() || group.trim().is_empty() {
            return Err(OutboxError::config(
                "topics for retries and dead letters are those of a topic and of a consumer group: name both, with `.topic(…)` and \
                 `.group(…)`",
            ));
        }
        let topic = TopicPrefix::new(&topic_prefix)?.on_brokers(&topic).into_owned();
        let mut ours = BTreeMap::from([
            (replay_topic(&topic, &group), Kind::Replays),
            (dead_letter_topic(&topic, &group), Kind::DeadLetters),
        ]);
        for delay in delays.into_iter().filter(|delay| !delay.is_zero()) {
            ours.insert(retry_topic(&topic, &group, delay), Kind::Retry(delay));
        }
        legal(&topic, "the topic of an event")?;
        ours.keys().try_for_each(|name| legal(name, "a topic for retries or dead letters"))?;
        let properties = kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        Ok(GroupTopics { properties, topic, group, ours })
    }
}

/// What a cluster has of a group's topics, and what it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPlan {
    /// The topic of the events, by its name on the brokers.
    pub source: String,
    /// Its number of partitions. `None`: it does not exist.
    pub source_partitions: Option<u32>,
    /// The topics that do not exist, as they are to be created.
    pub missing: Vec<PlannedTopic>,
    /// The topics that exist.
    pub existing: Vec<String>,
    /// Topics that exist, and whose settings this user may not read.
    pub unreadable: Vec<String>,
    /// Settings that are wrong.
    pub faults: Vec<TopicFault>,
}

/// A topic that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedTopic {
    /// Its name on the brokers.
    pub name: String,
    /// Its number of partitions. `None`: as many as the brokers give a topic.
    pub partitions: Option<u32>,
    /// Its settings, by name.
    pub settings: Vec<(&'static str, String)>,
}

/// A setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFault {
    /// The topic, by its name on the brokers.
    pub topic: String,
    /// Whether events are lost by it, so that a consumer does not start.
    pub loses: bool,
    /// The setting.
    pub setting: &'static str,
    /// Its value.
    pub has: String,
    /// The value that it should have.
    pub needs: String,
    /// What it does to events, and what to do.
    pub said: String,
}

impl GroupTopics {
    /// Which topics. `kafka` may be `"host:port,host:port"`; of its properties, those count that
    /// say how to reach the brokers.
    pub fn builder(kafka: impl Into<KafkaConfig>) -> GroupTopicsBuilder {
        let (topic, topic_prefix, group, delays) = Default::default();
        GroupTopicsBuilder { kafka: kafka.into(), topic, topic_prefix, group, delays }
    }

    /// What the cluster has, and what it should have.
    ///
    /// # Errors
    /// If Kafka does not answer.
    pub async fn plan(&self) -> Result<TopicPlan, OutboxError> {
        let on_brokers = self.on_brokers()?;
        let partitions = on_brokers.partitions().await.map_err(refused)?;
        let mut cluster = Cluster { partitions, ..Cluster::default() };
        let ours = self.ours_on(&cluster);
        let existing: Vec<&str> =
            ours.keys().map(String::as_str).filter(|name| cluster.has(name)).collect();
        let asked: Vec<&str> = existing
            .iter()
            .copied()
            .chain(cluster.has(&self.topic).then_some(&*self.topic))
            .collect();
        let settings = on_brokers.settings(&asked).await.map_err(no_answer)?;
        let unreadable = asked.iter().filter(|name| !settings.contains_key(**name));
        let unreadable = unreadable.map(|name| (*name).to_owned()).collect();
        let existing = existing.into_iter().map(str::to_owned).collect();
        cluster.settings = settings;
        Ok(TopicPlan {
            source: self.topic.clone(),
            source_partitions: self.source_partitions(&cluster),
            missing: self.missing(&cluster),
            existing,
            unreadable,
            faults: self.faults(&ours, &cluster),
        })
    }

    /// Creates the topics that the plan misses, with as many replicas as the brokers give a topic,
    /// and waits until the brokers have them. It changes none that exist.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn create(&self, plan: &TopicPlan) -> Result<(), OutboxError> {
        let missing = plan.missing.iter().map(|planned| Missing {
            name: &planned.name,
            partitions: planned.partitions.and_then(|count| i32::try_from(count).ok()),
            settings: planned.settings.clone(),
        });
        let missing: Vec<Missing<'_>> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        let on_brokers = self.on_brokers()?;
        on_brokers.create(&missing).await.map_err(refused)?;
        on_brokers.known(&missing).await.map_err(refused)
    }

    fn on_brokers(&self) -> Result<Topics, OutboxError> {
        let brokers = Brokers::new(&self.properties, "topics cannot be looked at");
        Topics::new(&self.properties, brokers)
    }

    /// The topics that there should be, and the retry topics of other delays that there are.
    fn ours_on(&self, cluster: &Cluster) -> BTreeMap<String, Kind> {
        let retries = format!("{}.{}.retry.", self.topic, self.group);
        let found = cluster.partitions.keys().filter_map(|name| {
            let delay = delay_of(name.strip_prefix(&retries)?)?;
            Some((name.clone(), Kind::Retry(delay)))
        });
        found.chain(self.ours.clone()).collect()
    }

    fn source_partitions(&self, cluster: &Cluster) -> Option<u32> {
        u32::try_from(*cluster.partitions.get(&self.topic)?).ok()
    }

    fn missing(&self, cluster: &Cluster) -> Vec<PlannedTopic> {
        let missing = self.ours.iter().filter(|(name, _)| !cluster.has(name));
        let planned = missing.map(|(name, kind)| PlannedTopic {
            name: name.clone(),
            partitions: self.source_partitions(cluster),
            settings: of_new(*kind, cluster.source(&self.topic)),
        });
        planned.collect()
    }

    fn faults(&self, ours: &BTreeMap<String, Kind>, cluster: &Cluster) -> Vec<TopicFault> {
        let source = cluster.source(&self.topic);
        let of_topic = |(name, kind): (&String, &Kind)| {
            let found = faults(*kind, source, |setting| cluster.setting(name, setting));
            let topic = name.clone();
            found.into_iter().map(move |fault| TopicFault {
                topic: topic.clone(),
                said: fault.to_string(),
                loses: fault.loses,
                setting: fault.setting,
                has: fault.has,
                needs: fault.needs,
            })
        };
        ours.iter().flat_map(of_topic).collect()
    }
}

fn refused(unprepared: Unprepared) -> OutboxError {
    match unprepared {
        Unprepared::NoAnswer(error) => no_answer(error),
        Unprepared::ForGood(error) => error,
    }
}

fn no_answer(error: KafkaError) -> OutboxError {
    OutboxError::new(
        ErrorKind::Kafka,
        "Kafka does not say which topics there are, or does not create them. Does a broker answer?",
    )
    .with_source(error)
}

/// The delay that a retry topic's name says, unless it is that for replays.
fn delay_of(text: &str) -> Option<Duration> {
    let mut delay = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) =
            after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let nanos: u64 = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let nanos = digits.parse::<u64>().ok()?.checked_mul(nanos)?;
        delay = delay.checked_add(Duration::from_nanos(nanos))?;
        rest = after;
    }
    (spelled(delay) == text).then_some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn topics() -> GroupTopics {
        let topics = GroupTopics::builder("localhost:9092").topic_prefix("e2e-").topic("orders");
        topics.group("shop").retry_delay(MINUTE).build().unwrap()
    }

    fn cluster(topics: &[(&str, &[(&str, &str)])]) -> Cluster {
        let mut cluster = Cluster::default();
        for (topic, settings) in topics {
            cluster.partitions.insert((*topic).to_owned(), 6);
            let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            cluster.settings.insert((*topic).to_owned(), settings.collect());
        }
        cluster
    }

    #[test]
    fn what_is_missing_is_planned_and_what_is_wrong_is_named_also_of_former_delays() {
        let topics = topics();
        let found = cluster(&[
            ("e2e-orders", &[("max.message.bytes", "2000000")]),
            ("e2e-orders.shop.dlt", &[("cleanup.policy", "compact")]),
            ("e2e-orders.shop.retry.1h", &[("retention.ms", "1000")]),
            ("e2e-orders.shop.retry.by-hand", &[("retention.ms", "1000")]),
            ("orders.shop.retry.1m", &[]),
        ]);
        let missing = topics.missing(&found);
        let names: Vec<&str> = missing.iter().map(|missing| &*missing.name).collect();
        assert_eq!(names, ["e2e-orders.shop.retry.0", "e2e-orders.shop.retry.1m"]);
        assert_eq!(missing[0].partitions, Some(6));
        assert!(missing[1].settings.contains(&("max.message.bytes", "2065536".to_owned())));
        let faults = topics.faults(&topics.ours_on(&found), &found);
        let wrong: Vec<_> =
            faults.iter().map(|fault| (&*fault.topic, fault.setting, fault.loses)).collect();
        assert_eq!(
            wrong,
            [
                ("e2e-orders.shop.dlt", "cleanup.policy", true),
                ("e2e-orders.shop.retry.1h", "retention.ms", true)
            ]
        );
    }

    #[test]
    fn a_delay_is_read_as_it_is_spelled() {
        for millis in [1, 999, 1_000, 90_000, 5_400_000, 86_400_000, 90_061_001] {
            let delay = Duration::from_millis(millis);
            assert_eq!(delay_of(&spelled(delay)), Some(delay));
        }
        for no_delay in ["0", "", "1", "s", "1x", "1s1h", "by-hand", "99999999999999d"] {
            assert_eq!(delay_of(no_delay), None, "{no_delay}");
        }
    }
}
