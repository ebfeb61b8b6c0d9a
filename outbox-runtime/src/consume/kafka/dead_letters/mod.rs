//! Dead letters: found, read, replayed to their own group, or discarded.

mod bulk;
mod filter;
mod letter;
mod open;
mod progress;
mod read;
mod selection;
mod stream;

use std::sync::{Arc, OnceLock};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use bulk::{BulkOptions, Resolved};
pub use filter::DeadLetterFilter;
pub use letter::{DeadLetter, DeadLetterId, NotADeadLetterId};
pub use open::{OpenDeadLetters, OpenOfGroup};
pub use progress::Progress;
pub use selection::Selection;
pub use stream::DeadLetterStream;

use bulk::Bulk;
use letter::{RESOLVED, RESOLVED_OFFSET};
use read::{Reader, Stopper};

use super::config;
use super::forward::{Forwarder, is_too_large};
use super::topics::{dead_letter_topic, legal, replay_topic};
use crate::consume::forward::headers;
use crate::consume::message::{History, Message};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, Properties, TopicPrefix, aside, connection};

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
/// A million of them are no different from ten: they are found by one reading of their topic, which
/// keeps a bit for each, and read, replayed or discarded while a few megabytes of them are in
/// memory.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::consume::{BulkOptions, DeadLetterFilter, DeadLetters};
///
/// let dead_letters = DeadLetters::builder("localhost:9092")
///     .topic("order-events")
///     .group("inventory")
///     .build()?;
/// let filter = DeadLetterFilter::all().class("transient").error("*warehouse is closed*");
/// let found = dead_letters.select(filter).await?;
///
/// let mut letters = dead_letters.read(&found);
/// while let Some(letter) = letters.next().await? {
///     println!("{}: {}", letter.id(), letter.error);
/// }
/// let replayed = dead_letters.replay_selected(&found, BulkOptions::new()).await?;
/// println!("{} of {} replayed", replayed.done, found.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters {
    properties: Arc<Properties>,
    /// As the last reader has heard of them.
    brokers: Brokers,
    /// Topic of the events, by its name on the brokers.
    topic: Arc<str>,
    group: Arc<str>,
    producers: Arc<Producers>,
}

/// Each is made when it is first needed.
#[derive(Debug, Default)]
struct Producers {
    /// One message in a request.
    single: OnceLock<Forwarder>,
    /// Many messages in a request.
    bulk: OnceLock<Forwarder>,
}

/// What is done to a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Replay,
    Discard,
}

impl Action {
    /// What was done, as on the topic and in texts.
    fn done(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Discard => "discarded",
        }
    }
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
        let topic: Arc<str> = TopicPrefix::new(&topic_prefix)?.on_brokers(&topic).into();
        for name in [dead_letter_topic(&topic, &group), replay_topic(&topic, &group)] {
            legal(&name, "a topic for retries or dead letters")?;
        }
        let properties = kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        config::try_out(connection(&properties).set("group.id", &group), &properties)?;
        Ok(DeadLetters {
            brokers: Brokers::new(&properties, "the dead letters cannot be read"),
            properties: Arc::new(properties),
            topic,
            group: group.into(),
            producers: Arc::default(),
        })
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

    /// Finds those that were neither replayed nor discarded, and that the filter means. Reads the
    /// whole topic once: whether a dead letter is open is said after it. What is given up after
    /// this has begun is not found. Empty if there is no such topic.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn select(&self, filter: DeadLetterFilter) -> Result<Selection, OutboxError> {
        self.select_with(filter, &Progress::new()).await
    }

    /// Finds dead letters as [`select`](Self::select) does. `progress` counts the messages that
    /// were read.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub async fn select_with(
        &self,
        filter: DeadLetterFilter,
        progress: &Progress,
    ) -> Result<Selection, OutboxError> {
        let (properties, group) = (Arc::clone(&self.properties), Arc::clone(&self.group));
        let (topic, progress) = (self.dead_letter_topic(), progress.clone());
        let stopper = Stopper::default();
        let (brokers, stopped) = (self.brokers.clone(), stopper.flag());
        let selected = aside("outbox-kafka-dlt", move || {
            let reader = Reader::connect(&properties, brokers, (topic, &group), stopped)?;
            reader.select(&filter, &progress)
        });
        let selected = selected.await.unwrap_or(Err(KafkaError::Canceled));
        selected.map_err(|error| self.failed("read", error))
    }

    /// Reads these dead letters one after the other, also those that were replayed or discarded
    /// since they were found.
    #[must_use]
    pub fn read(&self, selection: &Selection) -> DeadLetterStream {
        DeadLetterStream::new(self, selection.clone())
    }

    /// The first `limit` of those that were neither replayed nor discarded, by partition and
    /// offset. All of them are in memory: for many, [`select`](Self::select) and
    /// [`read`](Self::read) them.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn list(&self, limit: u32) -> Result<Vec<DeadLetter>, OutboxError> {
        let found = self.select(DeadLetterFilter::all()).await?;
        self.read_all(&found.first(limit.into())).await
    }

    /// The dead letters at these places, by partition and offset, also those that were replayed or
    /// discarded. Where there is none, it is left out.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn get(
        &self,
        ids: impl IntoIterator<Item = DeadLetterId>,
    ) -> Result<Vec<DeadLetter>, OutboxError> {
        self.read_all(&ids.into_iter().collect()).await
    }

    async fn read_all(&self, selection: &Selection) -> Result<Vec<DeadLetter>, OutboxError> {
        let (mut stream, mut letters) = (self.read(selection), Vec::new());
        while let Some(letter) = stream.next().await? {
            letters.push(letter);
        }
        Ok(letters)
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
        self.resolve(self.single()?, letter.clone(), Action::Replay).await
    }

    /// Discards it for good: it is no longer listed.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. It is then still listed.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<(), OutboxError> {
        self.resolve(self.single()?, letter.clone(), Action::Discard).await
    }

    /// [Replays](Self::replay) these dead letters, those of one key one after the other. Those
    /// whose payload was left out are passed over.
    ///
    /// It may end at any time, also by a crash of the process. Each is marked on its topic once it
    /// was replayed, so that [`select`](Self::select) finds those that are left: done again, it
    /// continues there. At most 1,000, which were replayed and not marked, are then replayed again,
    /// and handled once. A dead letter that fails again while this runs is not among these.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. What was replayed until then is marked.
    pub async fn replay_selected(
        &self,
        selection: &Selection,
        options: BulkOptions,
    ) -> Result<Resolved, OutboxError> {
        Bulk::new(self, Action::Replay, options).run(selection).await
    }

    /// [Discards](Self::discard) these dead letters for good. Done again after it has ended early,
    /// with what [`select`](Self::select) finds then, it continues.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. Those that were not discarded are still listed.
    pub async fn discard_selected(
        &self,
        selection: &Selection,
        options: BulkOptions,
    ) -> Result<Resolved, OutboxError> {
        Bulk::new(self, Action::Discard, options).run(selection).await
    }

    fn single(&self) -> Result<&Forwarder, OutboxError> {
        made(&self.producers.single, || Forwarder::new(&self.properties, TopicPrefix::default()))
    }

    fn bulk(&self) -> Result<&Forwarder, OutboxError> {
        made(&self.producers.bulk, || Forwarder::of_batches(&self.properties))
    }

    async fn resolve_one_of_many(
        &self,
        letter: DeadLetter,
        action: Action,
    ) -> Result<(), OutboxError> {
        self.resolve(self.bulk()?, letter, action).await
    }

    async fn resolve(
        &self,
        forwarder: &Forwarder,
        letter: DeadLetter,
        action: Action,
    ) -> Result<(), OutboxError> {
        let (partition, offset) = (letter.partition, letter.offset);
        let mark = Message { key: letter.key.clone(), ..Message::default() };
        if action == Action::Replay {
            self.send_again(forwarder, letter).await?;
        }
        let ours = [(RESOLVED, action.done().to_owned()), (RESOLVED_OFFSET, offset.to_string())];
        let topic = self.dead_letter_topic();
        let sent = self.send(forwarder, (&topic, Some(partition)), &mark, &ours).await?;
        sent.map_err(|error| self.failed("mark", error))
    }

    async fn send_again(
        &self,
        forwarder: &Forwarder,
        letter: DeadLetter,
    ) -> Result<(), OutboxError> {
        let message = letter.into_message();
        let history =
            History { attempts: 0, retry: 0, first_failure: None, due: None, ..message.resumed() };
        let ours = headers(&self.group, history.topic.clone(), &history, None, None);
        let sent = self.send(forwarder, (&self.replay_topic(), None), &message, &ours).await?;
        sent.map_err(|error| self.failed("replay", error))
    }

    /// Sends a message. One that is refused because it shares a batch with others, and the topic
    /// takes nothing so large, is sent alone.
    async fn send(
        &self,
        forwarder: &Forwarder,
        (topic, partition): (&str, Option<i32>),
        message: &Message,
        ours: &[(&str, String)],
    ) -> Result<Result<(), KafkaError>, OutboxError> {
        let mut sent = forwarder.send_to(topic, partition, message, ours).await;
        if sent.as_ref().is_err_and(is_too_large) {
            sent = self.single()?.send_to(topic, partition, message, ours).await;
        }
        Ok(sent.map(drop))
    }

    fn failed(&self, what: &str, error: KafkaError) -> OutboxError {
        let why = self.brokers.refusal().or_else(|| rights(&error).map(str::to_owned));
        let why = why.unwrap_or_else(|| "does a broker answer?".to_owned());
        let topic = self.dead_letter_topic();
        OutboxError::new(
            ErrorKind::Kafka,
            format!("cannot {what} the dead letters on `{topic}`: nothing of them is lost; {why}"),
        )
        .with_source(error)
    }
}

fn made(
    producer: &OnceLock<Forwarder>,
    make: impl FnOnce() -> Result<Forwarder, OutboxError>,
) -> Result<&Forwarder, OutboxError> {
    if let Some(made) = producer.get() {
        return Ok(made);
    }
    let new = make()?;
    Ok(producer.get_or_init(|| new))
}

/// What this user may not do.
fn rights(error: &KafkaError) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code()? {
        Code::TopicAuthorizationFailed => Some(
            "this user may not read or write a topic of theirs (`kafka-acls.sh --add …`: docs/guide/securing.md has the rights of an \
             operator)",
        ),
        Code::GroupAuthorizationFailed => Some(
            "this user may not use the group (`kafka-acls.sh --add --operation Read --group …`, see docs/guide/securing.md)",
        ),
        _ => None,
    }
}
