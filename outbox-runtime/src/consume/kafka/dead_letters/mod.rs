//! Dead letters: listed, replayed to their own group, or discarded.

mod letter;
mod read;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use rdkafka::error::KafkaError;

pub use letter::{DeadLetter, DeadLetterId, NotADeadLetterId};

use letter::{RESOLVED, RESOLVED_OFFSET};
use read::Reader;

use super::config;
use super::forward::Forwarder;
use super::topics::{dead_letter_topic, legal, replay_topic};
use crate::consume::forward::headers;
use crate::consume::message::{History, Message};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{KafkaConfig, Properties, TopicPrefix, aside};

/// The dead letters of a topic and a consumer group.
///
/// They are on the topic `<topic>.<group>.dlt`, with payload, key and headers as they were, and
/// these headers of ours: `outbox-original-topic`, `-partition`, `-offset` and `-timestamp`,
/// `outbox-group`, `outbox-attempts`, `outbox-error-class` (`transient`, `permanent`,
/// `undecodable`), `outbox-error`, `outbox-first-failure` and `outbox-last-failure`; times are
/// milliseconds since 1970. The original topic has its name on the brokers, with the
/// [prefix](DeadLettersBuilder::topic_prefix) if there is one. One that is replayed or discarded
/// stays on the topic, followed in its partition by a message without a payload that says so
/// (`outbox-resolved`).
///
/// What a transaction of Kafka wrote there is listed once that is committed, and never if it is
/// aborted.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::consume::DeadLetters;
///
/// let dead_letters = DeadLetters::builder("localhost:9092")
///     .topic("order-events")
///     .group("inventory")
///     .build()?;
/// for letter in dead_letters.list(100).await? {
///     println!("{}: {}", letter.error_class, letter.error);
///     dead_letters.replay(&letter).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters {
    properties: Properties,
    /// Topic of the events, by its name on the brokers.
    topic: String,
    group: String,
    forwarder: Arc<OnceLock<Forwarder>>,
}

/// Whose dead letters: those of a [`group`](Self::group), from a [`topic`](Self::topic).
#[derive(Debug)]
pub struct DeadLettersBuilder {
    kafka: KafkaConfig,
    topic: String,
    topic_prefix: String,
    group: String,
}

impl DeadLettersBuilder {
    /// The topic of the events themselves, as they declare it. Required.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// The topic prefix of the deployment, as its
    /// [consumer](crate::consume::ConsumerBuilder::topic_prefix) sets it. Default: empty.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
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
    /// If the topic, the group or the brokers are missing, if Kafka would not accept the name of a
    /// topic, or if librdkafka does not know a property that says how to reach the brokers, or its
    /// value.
    pub fn build(self) -> Result<DeadLetters, OutboxError> {
        let Self { kafka, topic, topic_prefix, group } = self;
        if topic.trim().is_empty() || group.trim().is_empty() {
            return Err(OutboxError::config(
                "dead letters are those of a topic and of a consumer group: name both, with `.topic(…)` and `.group(…)`",
            ));
        }
        let topic = TopicPrefix::new(&topic_prefix)?.on_brokers(&topic).into_owned();
        for name in [dead_letter_topic(&topic, &group), replay_topic(&topic, &group)] {
            legal(&name, "a topic for retries or dead letters")?;
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
        let (topic, topic_prefix, group) = Default::default();
        DeadLettersBuilder { kafka: kafka.into(), topic, topic_prefix, group }
    }

    /// The topic that they are on, by its name on the brokers: `<prefix><topic>.<group>.dlt`.
    #[must_use]
    pub fn dead_letter_topic(&self) -> String {
        dead_letter_topic(&self.topic, &self.group)
    }

    /// The topic by which they are replayed, by its name on the brokers:
    /// `<prefix><topic>.<group>.retry.0`.
    #[must_use]
    pub fn replay_topic(&self) -> String {
        replay_topic(&self.topic, &self.group)
    }

    /// The first `limit` of those that were neither replayed nor discarded, by partition and
    /// offset. It holds the payloads of no others in memory.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub async fn list(&self, limit: u32) -> Result<Vec<DeadLetter>, OutboxError> {
        let ids = self.ids().await?;
        self.get(ids.into_iter().take(limit as usize)).await
    }

    /// Where all of those are that were neither replayed nor discarded, by partition and offset.
    /// Reads the whole topic, and keeps 16 bytes of each in memory. Empty if there is no such
    /// topic.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn ids(&self) -> Result<Vec<DeadLetterId>, OutboxError> {
        let open = self.read(|reader| reader.open()).await?;
        Ok(open.into_iter().collect())
    }

    /// The dead letters at these places, by partition and offset, also those that were replayed or
    /// discarded. Where there is none, it is left out.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub async fn get(
        &self,
        ids: impl IntoIterator<Item = DeadLetterId>,
    ) -> Result<Vec<DeadLetter>, OutboxError> {
        let ids: BTreeSet<DeadLetterId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let messages = self.read(move |reader| reader.get(&ids)).await?;
        let letters = messages.into_iter().filter(|message| message.header(RESOLVED).is_none());
        Ok(letters.map(DeadLetter::from).collect())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (properties, group) = (self.properties.clone(), self.group.clone());
        let topic = self.dead_letter_topic();
        let read =
            aside("outbox-kafka-dlt", move || read(&Reader::connect(&properties, topic, &group)?));
        let result = read.await.unwrap_or(Err(KafkaError::Canceled));
        result.map_err(|error| self.failed("read", error))
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
        let ours = headers(&self.group, history.topic.clone(), &history, None, None);
        let sent = forwarder.send_to(&self.replay_topic(), None, &message, &ours).await;
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
        let forwarder = Forwarder::new(&self.properties, TopicPrefix::default())?;
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
