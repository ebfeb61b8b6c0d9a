//! Dead letters: listed, replayed to their own group, or discarded.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::config;
use super::forward::Forwarder;
use super::records::owned;
use super::topics::{dead_letter_topic, replay_topic};
use crate::consume::forward::{ERROR, ERROR_CLASS, LAST_FAILURE, PAYLOAD_LEFT_OUT, headers};
use crate::consume::message::{History, Message};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, aside};
use crate::record::{CE_ID, CE_TYPE, CE_VERSION};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Header of a message on the dead-letter topic that says what became of an earlier one.
const RESOLVED: &str = "outbox-resolved";
const RESOLVED_OFFSET: &str = "outbox-resolved-offset";

/// The dead letters of a topic and a consumer group.
///
/// They are on the topic `<topic>.<group>.dlt`, with payload, key and headers as they were, and
/// these headers of ours: `outbox-original-topic`, `-partition`, `-offset` and `-timestamp`,
/// `outbox-group`, `outbox-attempts`, `outbox-error-class` (`transient`, `permanent`,
/// `undecodable`), `outbox-error`, `outbox-first-failure` and `outbox-last-failure`; times are
/// milliseconds since 1970. One that is replayed or discarded stays on the topic, followed in its
/// partition by a message without a payload that says so (`outbox-resolved`).
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::consume::DeadLetters;
///
/// let dead_letters = DeadLetters::builder("localhost:9092")
///     .topic("order-events")
///     .group("inventory")
///     .build()?;
/// for letter in dead_letters.list().await? {
///     println!("{}: {}", letter.error_class, letter.error);
///     dead_letters.replay(&letter).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters {
    properties: Properties,
    topic: String,
    group: String,
    forwarder: Arc<OnceLock<Forwarder>>,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its partition on the topic of the dead letters.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The event's id, if it has one.
    pub event_id: Option<Uuid>,
    /// The event's name, if it has one.
    pub name: Option<String>,
    /// The version of its payload, if it is known.
    pub version: Option<u32>,
    /// The Kafka key.
    pub key: Option<Vec<u8>>,
    /// The payload, as it came.
    pub payload: Option<Vec<u8>>,
    /// Size of the payload in bytes, if it was left out because it was too large for the
    /// dead-letter topic. The payload is still at the place it came from, until Kafka deletes it
    /// there. `None`: it was not left out.
    pub payload_left_out: Option<u64>,
    /// All headers: its own, and ours.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The topic that it came from.
    pub original_topic: String,
    /// The partition that it came from.
    pub original_partition: i32,
    /// Its offset there.
    pub original_offset: i64,
    /// Number of times that it was tried.
    pub attempts: u32,
    /// `transient`, `permanent` or `undecodable`.
    pub error_class: String,
    /// Error of the last attempt.
    pub error: String,
    /// Time of its first failure.
    pub first_failure: Option<SystemTime>,
    /// Time of its last failure.
    pub last_failure: Option<SystemTime>,
}

/// Whose dead letters: those of a [`group`](Self::group), from a [`topic`](Self::topic).
#[derive(Debug)]
pub struct DeadLettersBuilder {
    kafka: KafkaConfig,
    topic: String,
    group: String,
}

impl DeadLettersBuilder {
    /// The topic of the events themselves. Required.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// The consumer group that gave them up. Required.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// The dead letters. It does not connect yet.
    ///
    /// # Errors
    /// If the topic, the group or the brokers are missing, or if librdkafka does not know a property
    /// that says how to reach the brokers, or its value.
    pub fn build(self) -> Result<DeadLetters, OutboxError> {
        let Self { kafka, topic, group } = self;
        if topic.trim().is_empty() || group.trim().is_empty() {
            return Err(OutboxError::config(
                "dead letters are those of a topic and of a consumer group: name both, with `.topic(…)` and `.group(…)`",
            ));
        }
        let properties = kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        config::try_out(config::connection(&properties).set("group.id", &group), &properties)?;
        Ok(DeadLetters { properties, topic, group, forwarder: Arc::default() })
    }
}

impl DeadLetters {
    /// Which dead letters. `kafka` may be `"host:port,host:port"`; of its properties, those count
    /// that say how to reach the brokers.
    pub fn builder(kafka: impl Into<KafkaConfig>) -> DeadLettersBuilder {
        DeadLettersBuilder { kafka: kafka.into(), topic: String::new(), group: String::new() }
    }

    /// All dead letters that were neither replayed nor discarded, the oldest first in each
    /// partition. Reads the whole topic.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, OutboxError> {
        let (properties, group) = (self.properties.clone(), self.group.clone());
        let topic = dead_letter_topic(&self.topic, &self.group);
        let read = aside("outbox-kafka-dlt", move || read(&properties, &topic, &group)).await;
        let messages = read
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|error| self.failed("read", error))?;
        let resolved: HashSet<(i32, i64)> = messages
            .iter()
            .filter_map(|message| Some((message.partition, message.parsed(RESOLVED_OFFSET)?)))
            .collect();
        let open = messages.into_iter().filter(|message| {
            message.header(RESOLVED).is_none()
                && !resolved.contains(&(message.partition, message.offset))
        });
        Ok(open.map(DeadLetter::from).collect())
    }

    /// Has its group, and no other, handle it again: it is sent to `<topic>.<group>.retry.0`, which
    /// the group's consumers read. It gets as many attempts as a new event, and is handled once: if
    /// the inbox knows it, nothing is changed. Several of one key are handled in the order in which
    /// they are replayed; they have no order with the key's events on the topic itself.
    ///
    /// # Errors
    /// If its payload was left out, or if Kafka does not answer or refuses. In the latter case it
    /// may have been replayed, and still be listed.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<(), OutboxError> {
        if let Some(bytes) = letter.payload_left_out {
            return Err(OutboxError::config(format!(
                "this dead letter cannot be replayed: its payload ({bytes} bytes) was too large for the topic of the dead letters, and \
                 is not there. Nothing was done. It is on `{}`, partition {}, offset {}, until Kafka deletes it there: publish it again \
                 from the outbox (`Outbox::replay`), or by hand, and discard this",
                letter.original_topic, letter.original_partition, letter.original_offset
            )));
        }
        let message = letter.message();
        let history =
            History { attempts: 0, retry: 0, first_failure: None, due: None, ..message.resumed() };
        let forwarder = self.forwarder()?;
        let to = replay_topic(&self.topic, &self.group);
        let sent = forwarder
            .send_to(&to, None, &message, &headers(&self.group, &history, None, None))
            .await;
        sent.map_err(|error| self.failed("replay", error))?;
        self.resolve(forwarder, letter, "replayed").await
    }

    /// Discards it for good: it is no longer listed.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. It is then still listed.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<(), OutboxError> {
        self.resolve(self.forwarder()?, letter, "discarded").await
    }

    /// The producer, shared by all letters.
    fn forwarder(&self) -> Result<&Forwarder, OutboxError> {
        if let Some(forwarder) = self.forwarder.get() {
            return Ok(forwarder);
        }
        let forwarder = Forwarder::new(&self.properties)?;
        Ok(self.forwarder.get_or_init(|| forwarder))
    }

    async fn resolve(
        &self,
        forwarder: &Forwarder,
        letter: &DeadLetter,
        how: &str,
    ) -> Result<(), OutboxError> {
        let mark = Message { key: letter.key.clone(), ..Message::default() };
        let ours = [(RESOLVED, how.to_owned()), (RESOLVED_OFFSET, letter.offset.to_string())];
        let topic = dead_letter_topic(&self.topic, &self.group);
        let sent = forwarder.send_to(&topic, Some(letter.partition), &mark, &ours).await;
        sent.map_err(|error| self.failed("mark", error))
    }

    fn failed(&self, what: &str, error: KafkaError) -> OutboxError {
        let topic = dead_letter_topic(&self.topic, &self.group);
        OutboxError::new(
            ErrorKind::Kafka,
            format!(
                "cannot {what} the dead letters on `{topic}`: nothing of them is lost. Does a broker answer?"
            ),
        )
        .with_source(error)
    }
}

/// Everything on the topic, up to its current end. Nothing, if the topic does not exist.
fn read(properties: &Properties, topic: &str, group: &str) -> Result<Vec<Message>, KafkaError> {
    let mut config = config::connection(properties);
    // librdkafka requires a group, and this user has a right to this one. Nothing is committed, and
    // no group is joined.
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let brokers = Brokers::new(properties.brokers(), "the dead letters cannot be read");
    let consumer: BaseConsumer<Brokers> = config.create_with_context(brokers)?;
    // All topics: asking for one topic may create it.
    let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Vec::new());
    };
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in found.partitions() {
        let (low, high) = watermarks(&consumer, topic, partition.id())?;
        if high > low {
            assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
            ends.insert(partition.id(), high);
        }
    }
    consumer.assign(&assignment)?;
    let mut messages = Vec::new();
    let mut last = Instant::now();
    while !ends.is_empty() {
        let message = match consumer.poll(ANSWER_WITHIN) {
            Some(Ok(message)) => owned(&message),
            // For example, one of several brokers is away.
            Some(Err(error)) if last.elapsed() > ANSWER_WITHIN => return Err(error),
            Some(Err(_)) => continue,
            None => {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
        };
        last = Instant::now();
        if ends.get(&message.partition).is_some_and(|end| message.offset + 1 >= *end) {
            ends.remove(&message.partition);
        }
        messages.push(message);
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    Ok(messages)
}

/// The first and the end offset of a partition. A new partition has no leader for a moment.
fn watermarks(
    consumer: &BaseConsumer<Brokers>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), KafkaError> {
    use RDKafkaErrorCode as Code;
    let begun = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN) {
            Err(error)
                if begun.elapsed() < ANSWER_WITHIN
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(
                            Code::NotLeaderForPartition
                                | Code::LeaderNotAvailable
                                | Code::UnknownTopicOrPartition
                        )
                    ) =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

impl From<Message> for DeadLetter {
    fn from(message: Message) -> Self {
        let history = message.resumed();
        let millis =
            |name| message.parsed(name).map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        Self {
            event_id: message.parsed(CE_ID),
            name: message.header(CE_TYPE).map(str::to_owned),
            version: message.parsed(CE_VERSION),
            original_topic: history.topic,
            original_partition: history.partition,
            original_offset: history.offset,
            attempts: history.attempts,
            payload_left_out: message.parsed(PAYLOAD_LEFT_OUT),
            error_class: message.header(ERROR_CLASS).unwrap_or_default().to_owned(),
            error: message.header(ERROR).unwrap_or_default().to_owned(),
            first_failure: history.first_failure,
            last_failure: millis(LAST_FAILURE),
            partition: message.partition,
            offset: message.offset,
            key: message.key,
            payload: message.payload,
            headers: message.headers,
        }
    }
}

impl DeadLetter {
    fn message(&self) -> Message {
        Message {
            partition: self.partition,
            offset: self.offset,
            key: self.key.clone(),
            headers: self.headers.clone(),
            payload: self.payload.clone(),
            ..Message::default()
        }
    }
}
