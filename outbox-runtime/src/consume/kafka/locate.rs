//! Where a published event is on its topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use uuid::Uuid;

use super::records::without_payload;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, TopicPrefix, aside, reading};
use crate::record::{CE_ID, EventRecord};

/// Time-out of one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time after which a search ends by default.
const SEARCH_WITHIN: Duration = Duration::from_secs(30);

/// A search for events on their topics. It joins no group and commits nothing.
///
/// ```no_run
/// # async fn example(
/// #     outbox: outbox::Outbox<sqlx::Sqlite>, id: uuid::Uuid,
/// # ) -> Result<(), outbox::OutboxError> {
/// use outbox::consume::TopicSearch;
///
/// let found = outbox.find_event(id).await?;
/// if let Some(event) = found.event {
///     for place in TopicSearch::new("localhost:9092").find(&event).await?.places {
///         println!("{}:{}", place.partition, place.offset);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TopicSearch {
    kafka: KafkaConfig,
    topic_prefix: String,
    within: Duration,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPlaces {
    /// The topic, by its name on the brokers.
    pub topic: String,
    /// The messages with the event's id, by partition and offset. A crash or a replay makes
    /// several. Empty: it was not published, or Kafka has deleted it.
    pub places: Vec<TopicPlace>,
    /// Number of messages that were read.
    pub searched: u64,
    /// Whether all messages were read that are as old as the event, or younger. `false`: the time
    /// was up.
    pub is_complete: bool,
}

/// A message of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPlace {
    /// Its partition.
    pub partition: i32,
    /// Its offset in that partition.
    pub offset: i64,
    /// Its timestamp. `None`: it has none.
    pub timestamp: Option<SystemTime>,
}

impl TopicSearch {
    /// On this cluster. `kafka` may be `"host:port,host:port"`; of its properties, those count that
    /// say how to reach the brokers.
    pub fn new(kafka: impl Into<KafkaConfig>) -> Self {
        Self { kafka: kafka.into(), topic_prefix: String::new(), within: SEARCH_WITHIN }
    }

    /// What the names of the deployment's topics begin with on the brokers. Default: nothing.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// Longest time that a search takes, apart from its first requests. Default: 30 s.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Searches the event's topic. A message has the time of its event, so only what is as old as
    /// the event or younger is read.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses, or would not accept the prefix.
    pub async fn find(&self, event: &EventRecord) -> Result<TopicPlaces, OutboxError> {
        let topic = TopicPrefix::new(&self.topic_prefix)?.on_brokers(&event.topic).into_owned();
        let properties = self.kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        let wanted = Wanted::of(event, topic.clone());
        let brokers = Brokers::new(&properties, "the topic cannot be searched");
        let (heard, within) = (brokers.clone(), self.within);
        let found = aside("outbox-kafka-find", move || wanted.find(&properties, &brokers, within));
        found.await.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| {
            let why = heard.refusal().unwrap_or_else(|| {
                "Does a broker answer, and may this user describe and read the topic?".to_owned()
            });
            OutboxError::new(
                ErrorKind::Kafka,
                format!("cannot search `{topic}` for the event. Nothing was changed. {why}"),
            )
            .with_source(error)
        })
    }
}

/// What is searched for.
struct Wanted {
    id: Uuid,
    topic: String,
    /// `None`: any.
    partition: Option<i32>,
    /// Milliseconds since 1970.
    since: i64,
}

impl Wanted {
    fn of(event: &EventRecord, topic: String) -> Self {
        let since = event.occurred_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Self { id: event.id, topic, partition: event.partition, since }
    }

    fn find(
        &self,
        properties: &Properties,
        brokers: &Brokers,
        within: Duration,
    ) -> Result<TopicPlaces, KafkaError> {
        let consumer = consumer(properties, brokers)?;
        self.search(&consumer, within).map_err(|error| brokers.heard_by(&consumer, error))
    }

    fn search(
        &self,
        consumer: &BaseConsumer<Brokers>,
        within: Duration,
    ) -> Result<TopicPlaces, KafkaError> {
        let mut ends = self.ends(consumer)?;
        let begins = self.begins(consumer, &mut ends)?;
        let mut found = TopicPlaces {
            topic: self.topic.clone(),
            places: Vec::new(),
            searched: 0,
            is_complete: true,
        };
        if !ends.is_empty() {
            consumer.assign(&begins)?;
            self.read(consumer, ends, Instant::now() + within, &mut found)?;
        }
        found.places.sort_by_key(|place| (place.partition, place.offset));
        Ok(found)
    }

    /// The end of each partition as it is now. All topics are asked for: asking for one may create
    /// it.
    fn ends(&self, consumer: &BaseConsumer<Brokers>) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let mut ends = BTreeMap::new();
        for partition in topic.into_iter().flat_map(|topic| topic.partitions()) {
            if self.partition.is_some_and(|wanted| wanted != partition.id()) {
                continue;
            }
            let (low, high) =
                consumer.fetch_watermarks(&self.topic, partition.id(), ANSWER_WITHIN)?;
            if low < high {
                ends.insert(partition.id(), high);
            }
        }
        Ok(ends)
    }

    /// The first messages that are not older than the event. A partition in which all are older is
    /// taken out of `ends`.
    fn begins(
        &self,
        consumer: &BaseConsumer<Brokers>,
        ends: &mut BTreeMap<i32, i64>,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut begins = TopicPartitionList::new();
        // librdkafka refuses a question about no partition.
        if ends.is_empty() {
            return Ok(begins);
        }
        let mut times = TopicPartitionList::new();
        for partition in ends.keys() {
            times.add_partition_offset(&self.topic, *partition, Offset::Offset(self.since))?;
        }
        for found in consumer.offsets_for_times(times, ANSWER_WITHIN)?.elements() {
            match found.offset() {
                Offset::Offset(offset) if offset >= 0 => {
                    begins.add_partition_offset(
                        &self.topic,
                        found.partition(),
                        Offset::Offset(offset),
                    )?;
                }
                _ => drop(ends.remove(&found.partition())),
            }
        }
        Ok(begins)
    }

    fn read(
        &self,
        consumer: &BaseConsumer<Brokers>,
        mut ends: BTreeMap<i32, i64>,
        until: Instant,
        found: &mut TopicPlaces,
    ) -> Result<(), KafkaError> {
        while !ends.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                found.is_complete = false;
                return Ok(());
            }
            let message = match consumer.poll(left.min(ANSWER_WITHIN)) {
                None => continue,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                    continue;
                }
                Some(Err(error)) => return Err(error),
            };
            found.searched += 1;
            let (partition, offset) = (message.partition(), message.offset());
            let read = without_payload(&message);
            if read.parsed(CE_ID) == Some(self.id) {
                let millis = read.timestamp.and_then(|millis| u64::try_from(millis).ok());
                let timestamp = millis.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
                found.places.push(TopicPlace { partition, offset, timestamp });
            }
            if ends.get(&partition).is_some_and(|end| offset + 1 >= *end) {
                ends.remove(&partition);
            }
        }
        Ok(())
    }
}

/// A consumer that is a member of no group and commits nothing.
fn consumer(
    properties: &Properties,
    brokers: &Brokers,
) -> Result<BaseConsumer<Brokers>, KafkaError> {
    let mut config = reading::config(properties, "outbox");
    reading::client(config.set("enable.partition.eof", "true"), brokers)
}
