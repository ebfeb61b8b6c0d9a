//! How far the consumer groups of a cluster are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, aside, reading};

/// Time-out of one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time for which the oldest messages of a group are waited for, all together.
const OLDEST_WITHIN: Duration = Duration::from_secs(5);
/// Only the first message of each partition is wanted.
const FETCHING: [(&str, &str); 4] = [
    ("queued.max.messages.kbytes", "1024"),
    ("queued.min.messages", "1"),
    ("fetch.message.max.bytes", "65536"),
    ("fetch.max.bytes", "1048576"),
];

/// How far a consumer group is on a topic of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupLag {
    /// The consumer group.
    pub group: String,
    /// The topic of the events, by its name on the brokers.
    pub topic: String,
    /// Number of members that the group has now. `None`: this user may not ask for it.
    pub members: Option<u32>,
    /// Number of messages behind the group's offsets. Offsets of transactions count as messages.
    pub lag: u64,
    /// Time of the oldest message behind them. `None`: there is none, or no broker returned it in
    /// time.
    pub oldest: Option<SystemTime>,
    /// The same number for the group's retry topics, together: events that wait for their next
    /// attempt, and those that are due.
    pub in_retry_topics: u64,
}

/// The consumer groups of outboxes on a Kafka cluster.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::consume::ConsumerGroups;
///
/// for group in ConsumerGroups::new("localhost:9092").group("inventory").lag().await? {
///     println!("{} on {}: {} behind", group.group, group.topic, group.lag);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerGroups {
    kafka: KafkaConfig,
    group: Option<String>,
    topic: Option<String>,
    prefix: String,
}

impl ConsumerGroups {
    /// All groups that have a dead-letter topic, `<topic>.<group>.dlt`, of topics with any prefix.
    /// `kafka` may be `"host:port,host:port"`.
    pub fn new(kafka: impl Into<KafkaConfig>) -> Self {
        Self { kafka: kafka.into(), group: None, topic: None, prefix: String::new() }
    }

    /// Only this group.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only this topic of events, by its name on the brokers.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only topics of events that begin with this on the brokers: on a cluster that deployments
    /// share, those of one. Each group that is left out saves its requests.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How far they are, by group and topic. It joins no group and commits nothing.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses to say how far a group is.
    pub async fn lag(&self) -> Result<Vec<GroupLag>, OutboxError> {
        let properties = self.kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        let asked = self.clone();
        let brokers = Brokers::new(&properties, "the lag of consumers is not known");
        let heard = brokers.clone();
        let lag = aside("outbox-kafka-lag", move || asked.measure(&properties, &brokers));
        lag.await.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| {
            let why = heard.refusal().unwrap_or_else(|| {
                "Does a broker answer, and may this user describe the groups and their topics?"
                    .to_owned()
            });
            OutboxError::new(
                ErrorKind::Kafka,
                format!("cannot say how far the consumer groups are. Nothing was changed. {why}"),
            )
            .with_source(error)
        })
    }

    fn measure(
        &self,
        properties: &Properties,
        brokers: &Brokers,
    ) -> Result<Vec<GroupLag>, KafkaError> {
        let any = client(properties, brokers, "outbox")?;
        let cluster = Cluster::ask(&any, brokers)?;
        let Cluster { partitions, members } = &cluster;
        let mut lags = Vec::new();
        for (group, mut topics) in cluster.groups() {
            topics.retain(|topic, _| {
                topic.starts_with(&self.prefix)
                    && self.topic.as_ref().is_none_or(|only| only == topic)
            });
            if topics.is_empty() || self.group.as_ref().is_some_and(|only| *only != group) {
                continue;
            }
            let client = client(properties, brokers, &group)?;
            for (topic, retry_topics) in topics {
                let own = behind(&client, &topic, partitions)?;
                let mut in_retry_topics = 0;
                for retry in retry_topics {
                    in_retry_topics += behind_in_all(&behind(&client, &retry, partitions)?);
                }
                lags.push(GroupLag {
                    members: members.get(&group).copied(),
                    lag: behind_in_all(&own),
                    oldest: oldest(&client, &topic, &own)?,
                    in_retry_topics,
                    group: group.clone(),
                    topic,
                });
            }
        }
        Ok(lags)
    }
}

/// What the brokers say of topics and groups.
pub(super) struct Cluster {
    /// All topics, with their numbers of partitions.
    partitions: BTreeMap<String, i32>,
    /// The groups, with their numbers of members. Empty without the right to see them: their names
    /// then come from the topics alone.
    members: BTreeMap<String, u32>,
}

impl Cluster {
    pub(super) fn ask(
        client: &BaseConsumer<Brokers>,
        brokers: &Brokers,
    ) -> Result<Self, KafkaError> {
        let partitions = partitions(client, brokers)?;
        let known = client.fetch_group_list(None, ANSWER_WITHIN).ok();
        let known = known.as_ref().map(|list| list.groups()).unwrap_or_default();
        let members =
            known.iter().map(|of| (of.name().to_owned(), of.members().len() as u32)).collect();
        Ok(Self { partitions, members })
    }

    /// The groups that have a dead-letter topic, and their topics.
    pub(super) fn groups(&self) -> Groups {
        groups(&self.partitions, &self.members)
    }

    /// First offset and end of each partition of a topic.
    pub(super) fn bounds(
        &self,
        client: &BaseConsumer<Brokers>,
        topic: &str,
    ) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
        let (first, ends) = bounds(client, topic, &self.partitions)?;
        let first = |partition| first.get(partition).copied().unwrap_or_default();
        Ok(ends.iter().map(|(partition, end)| (*partition, (first(partition), *end))).collect())
    }
}

pub(super) fn client(
    properties: &Properties,
    brokers: &Brokers,
    group: &str,
) -> Result<BaseConsumer<Brokers>, KafkaError> {
    let mut config = reading::config(properties, group);
    FETCHING.iter().for_each(|(name, value)| _ = config.set(*name, *value));
    reading::client(&config, brokers)
}

/// All topics, with their numbers of partitions.
fn partitions(
    client: &BaseConsumer<Brokers>,
    brokers: &Brokers,
) -> Result<BTreeMap<String, i32>, KafkaError> {
    let ask = |within| client.fetch_metadata(None, within);
    let metadata = brokers.metadata(ask, || Brokers::listen(client))?;
    let topics = metadata.topics().iter();
    Ok(topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect())
}

/// The topics of each group, and the retry topics of each.
pub(super) type Groups = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Finds them by their dead-letter topics. `members`: the groups that the cluster has.
fn groups(topics: &BTreeMap<String, i32>, members: &BTreeMap<String, u32>) -> Groups {
    let mut groups = Groups::new();
    for stem in topics.keys().filter_map(|name| name.strip_suffix(".dlt")) {
        let Some((topic, group)) = split(stem, topics, members) else { continue };
        let retries = format!("{stem}.retry.");
        let retry_topics = topics.range(retries.clone()..).map(|(name, _)| name);
        let retry_topics = retry_topics.take_while(|name| name.starts_with(&retries));
        let of_group = groups.entry(group.to_owned()).or_default();
        of_group.insert(topic.to_owned(), retry_topics.cloned().collect());
    }
    groups
}

/// The topic and the group of `<topic>.<group>`. Both may have dots: a group that the cluster has
/// is preferred, then the longest topic.
fn split<'s>(
    stem: &'s str,
    topics: &BTreeMap<String, i32>,
    members: &BTreeMap<String, u32>,
) -> Option<(&'s str, &'s str)> {
    let dots = stem.match_indices('.');
    let parts = dots.map(|(at, _)| (&stem[..at], &stem[at + 1..]));
    let of_topics = parts.filter(|(topic, group)| topics.contains_key(*topic) && !group.is_empty());
    of_topics.max_by_key(|(topic, group)| (members.contains_key(*group), topic.len()))
}

/// By partition with messages behind the group's offset: that offset, and their number.
type Behind = BTreeMap<i32, (i64, u64)>;

fn behind_in_all(behind: &Behind) -> u64 {
    behind.values().map(|(_, count)| count).sum()
}

fn behind(
    client: &BaseConsumer<Brokers>,
    topic: &str,
    topics: &BTreeMap<String, i32>,
) -> Result<Behind, KafkaError> {
    let (first, ends) = bounds(client, topic, topics)?;
    let asked = at(topic, topics, Offset::Invalid)?;
    let committed = offsets(&client.committed_offsets(asked, ANSWER_WITHIN)?);
    let behind = ends.iter().map(|(partition, end)| {
        let first = first.get(partition).copied().unwrap_or_default();
        // A group without an offset begins with the first message.
        let next = committed.get(partition).copied().unwrap_or(first).max(first);
        (*partition, (next, u64::try_from(end - next).unwrap_or_default()))
    });
    Ok(behind.filter(|(_, (_, count))| *count > 0).collect())
}

/// By partition.
type Offsets = BTreeMap<i32, i64>;

/// The first offsets of a topic, and its ends.
fn bounds(
    client: &BaseConsumer<Brokers>,
    topic: &str,
    topics: &BTreeMap<String, i32>,
) -> Result<(Offsets, Offsets), KafkaError> {
    let ask = |offset| client.offsets_for_times(at(topic, topics, offset)?, ANSWER_WITHIN);
    Ok((offsets(&ask(Offset::Beginning)?), offsets(&ask(Offset::End)?)))
}

/// Each partition of a topic, with this offset.
fn at(
    topic: &str,
    topics: &BTreeMap<String, i32>,
    offset: Offset,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in 0..topics.get(topic).copied().unwrap_or_default() {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

fn offsets(list: &TopicPartitionList) -> Offsets {
    let elements = list.elements();
    let known = elements.iter().filter_map(|of| match of.offset() {
        Offset::Offset(offset) if of.error().is_ok() => Some((of.partition(), offset)),
        _ => None,
    });
    known.collect()
}

/// Time of the oldest of the messages behind the group's offsets.
fn oldest(
    client: &BaseConsumer<Brokers>,
    topic: &str,
    behind: &Behind,
) -> Result<Option<SystemTime>, KafkaError> {
    if behind.is_empty() {
        return Ok(None);
    }
    let mut assignment = TopicPartitionList::new();
    for (partition, (next, _)) in behind {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    client.assign(&assignment)?;
    let (begun, mut oldest) = (Instant::now(), None);
    let mut awaited: BTreeSet<i32> = behind.keys().copied().collect();
    while !awaited.is_empty() {
        let left = OLDEST_WITHIN.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        if let Some(Ok(message)) = client.poll(left)
            && awaited.remove(&message.partition())
        {
            let millis = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
            let time = millis.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
            oldest = [oldest, time].into_iter().flatten().min();
        }
    }
    client.unassign()?;
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_dead_letter_topics_also_with_dots_in_their_names() {
        let topics = [
            "orders",
            "orders.inventory.dlt",
            "orders.inventory.retry.0",
            "orders.inventory.retry.10s",
            "orders.inventory-2.dlt",
            "shop.orders",
            "shop.orders.mail.dlt",
            "shop",
            "shop.eu.orders.dlt",
            "nothing.dlt",
            "orders.dlt",
            "orders..dlt",
        ];
        let topics = topics.map(|name| (name.to_owned(), 1)).into();
        let found = |members: &[&'static str]| {
            let members = members.iter().map(|group| ((*group).to_owned(), 1)).collect();
            let groups = groups(&topics, &members);
            let flat = groups.into_iter().flat_map(|(group, topics)| {
                topics
                    .into_iter()
                    .map(move |(topic, retries)| (group.clone(), topic, retries.len()))
            });
            flat.collect::<Vec<_>>()
        };
        let of = |group: &str, topic: &str, retries| (group.to_owned(), topic.to_owned(), retries);
        assert_eq!(
            found(&[]),
            [
                of("eu.orders", "shop", 0),
                of("inventory", "orders", 2),
                of("inventory-2", "orders", 0),
                of("mail", "shop.orders", 0),
            ]
        );
        let known = found(&["orders.mail"]);
        assert!(known.contains(&of("orders.mail", "shop", 0)), "the cluster has it: {known:?}");
    }
}
