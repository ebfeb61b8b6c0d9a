//! Looking at messages as they arrive on their topics.

mod reader;

use std::sync::Arc;
use std::time::SystemTime;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use self::reader::Reader;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, KafkaConfig, TopicPrefix, aside};

/// What is held of messages that were read and not asked for yet: in kibibytes, and one for each.
const HELD: usize = 16_384;
/// Largest payload that is handed over, in bytes.
const PAYLOAD_BYTES: usize = 1 << 20;

/// Messages as they arrive on their topics, for those who look. It joins no group and commits
/// nothing: the right to read the topics is enough.
///
/// From when [`TailedItem::Following`] names a topic, each message that arrives on it is shown once,
/// those of a partition in their order. Not shown are those that [`TailedItem::NotShown`] counts,
/// since they arrived faster than they were asked for, and what Kafka deletes before it is read. While
/// no broker answers, it waits.
///
/// ```no_run
/// # async fn example() -> Result<(), outbox::OutboxError> {
/// use outbox::consume::{TailedItem, TopicTail};
///
/// let mut tail = TopicTail::builder("localhost:9092").topic("orders").start()?;
/// while let TailedItem::Message(message) = tail.next().await? {
///     println!("{}:{}", message.partition, message.offset);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TopicTail {
    items: mpsc::UnboundedReceiver<Sent>,
    room: Arc<Semaphore>,
    brokers: Brokers,
}

/// Which messages: those of one or several [`topic`](Self::topic)s.
#[derive(Debug, Clone)]
#[must_use = "nothing is read before `start`"]
pub struct TopicTailBuilder {
    kafka: KafkaConfig,
    topic_prefix: String,
    wanted: Wanted,
}

#[derive(Debug, Clone, Default)]
struct Wanted {
    /// As events declare them.
    topics: Vec<String>,
    key: Option<Vec<u8>>,
    name: Option<String>,
    since: Option<SystemTime>,
    payloads: bool,
}

/// What a [`TopicTail`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TailedItem {
    /// A message.
    Message(Box<TailedMessage>),
    /// So many messages were not shown, because they arrived faster than they were asked for.
    NotShown(u64),
    /// From now on, this topic is followed.
    Following(String),
    /// This topic does not exist yet, or may not be seen. It is waited for.
    Missing(String),
}

/// A message on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailedMessage {
    /// Topic as events declare it, without the deployment's prefix.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset in that partition.
    pub offset: i64,
    /// Its timestamp: the time of its event. `None`: it has none.
    pub timestamp: Option<SystemTime>,
    /// Its key. `None`: it has none.
    pub key: Option<Vec<u8>>,
    /// Name of its event. `None`: no outbox wrote it.
    pub name: Option<String>,
    /// Version of its event.
    pub version: Option<u32>,
    /// Id of its event.
    pub id: Option<Uuid>,
    /// Bytes of its payload. `None`: it is a tombstone.
    pub payload_bytes: Option<u64>,
    /// Its payload, if payloads were asked for and it has at most a mebibyte.
    pub payload: Option<Vec<u8>>,
}

/// What the thread that reads hands over. The permits are for the memory that it takes.
type Sent = (Result<TailedItem, KafkaError>, Option<OwnedSemaphorePermit>);

impl TopicTailBuilder {
    /// A topic, as events declare it. Required; several are allowed.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.wanted.topics.push(topic.into());
        self
    }

    /// What the names of the deployment's topics begin with on the brokers. Default: nothing.
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// Only messages with this key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.wanted.key = Some(key.into());
        self
    }

    /// Only messages of events with this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.wanted.name = Some(name.into());
        self
    }

    /// First what is on the topics already, from the first message of each partition with this time
    /// or a later one. Default: only what arrives.
    pub fn since(mut self, since: SystemTime) -> Self {
        self.wanted.since = Some(since);
        self
    }

    /// With payloads of at most a mebibyte. Default: without.
    pub fn payloads(mut self) -> Self {
        self.wanted.payloads = true;
        self
    }

    /// Begins to read, on a thread of its own, until it is dropped.
    ///
    /// # Errors
    /// If no topic was named, or a setting is wrong.
    pub fn start(self) -> Result<TopicTail, OutboxError> {
        if self.wanted.topics.is_empty() {
            return Err(OutboxError::config(
                "no topic was named to be followed. Nothing was started. Name one by `topic`",
            ));
        }
        let prefix = TopicPrefix::new(&self.topic_prefix)?;
        let properties = self.kafka.set_by_user().clone();
        properties.client(|_, _| None)?;
        let brokers =
            Brokers::new(&properties, "nothing new on the topics is shown until one does");
        let (sender, items) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(HELD));
        let out = Out { items: sender, room: Arc::clone(&room), not_shown: 0 };
        let heard = brokers.clone();
        drop(aside("outbox-kafka-tail", move || {
            let mut out = out;
            let read = Reader::connect(&properties, heard, prefix, self.wanted)
                .and_then(|mut reader| reader.read(&mut out));
            if let Err(error) = read {
                let _ = out.items.send((Err(error), None));
            }
        }));
        Ok(TopicTail { items, room, brokers })
    }
}

impl TopicTail {
    /// On this cluster. `kafka` may be `"host:port,host:port"`; of its properties, those count that
    /// say how to reach the brokers.
    pub fn builder(kafka: impl Into<KafkaConfig>) -> TopicTailBuilder {
        let (topic_prefix, wanted) = Default::default();
        TopicTailBuilder { kafka: kafka.into(), topic_prefix, wanted }
    }

    /// The next message, or what else is to be told. It waits for as long as there is none. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    /// If the brokers refuse this user. Then there is nothing more.
    pub async fn next(&mut self) -> Result<TailedItem, OutboxError> {
        let sent = self.items.recv().await;
        let (item, _) = sent.unwrap_or((Err(KafkaError::Canceled), None));
        item.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: KafkaError) -> OutboxError {
        let forbidden =
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        let why = self.brokers.refusal().unwrap_or_else(|| match forbidden {
            true => {
                "This user may not read a topic: `kafka-acls.sh --add --operation Read --topic …`"
                    .to_owned()
            }
            false => "Is the address right, and may this user read the topics?".to_owned(),
        });
        let message = format!("the topics cannot be followed any more. Nothing was changed. {why}");
        OutboxError::new(ErrorKind::Kafka, message).with_source(error)
    }
}

impl Drop for TopicTail {
    /// Ends a thread that waits for room.
    fn drop(&mut self) {
        self.room.close();
    }
}

/// Where the thread puts what it reads.
struct Out {
    items: mpsc::UnboundedSender<Sent>,
    room: Arc<Semaphore>,
    not_shown: u64,
}

/// Nobody asks any more.
struct Unwanted;

impl Out {
    fn tell(&self, item: TailedItem) -> Result<(), Unwanted> {
        self.items.send((Ok(item), None)).map_err(|_| Unwanted)
    }

    /// Hands over a message. `waits`: for room, if there is none; otherwise it is counted.
    fn message(&mut self, message: TailedMessage, waits: bool) -> Result<(), Unwanted> {
        let room = Arc::clone(&self.room);
        let permits = message.permits();
        let permit = match room.clone().try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            Err(_) if room.is_closed() => return Err(Unwanted),
            Err(_) if waits => self.waited_for(permits)?,
            Err(_) => {
                self.not_shown += 1;
                return Ok(());
            }
        };
        self.told_what_was_not_shown()?;
        let item = TailedItem::Message(Box::new(message));
        self.items.send((Ok(item), Some(permit))).map_err(|_| Unwanted)
    }

    fn told_what_was_not_shown(&mut self) -> Result<(), Unwanted> {
        match std::mem::take(&mut self.not_shown) {
            0 if self.room.is_closed() => Err(Unwanted),
            0 => Ok(()),
            number => self.tell(TailedItem::NotShown(number)),
        }
    }

    fn waited_for(&self, permits: u32) -> Result<OwnedSemaphorePermit, Unwanted> {
        let room = Arc::clone(&self.room).acquire_many_owned(permits);
        // This thread is of no runtime, and the one that asks may end before it.
        let waits = tokio::runtime::Builder::new_current_thread().build().map_err(|_| Unwanted)?;
        waits.block_on(room).map_err(|_| Unwanted)
    }
}

impl TailedMessage {
    fn permits(&self) -> u32 {
        let bytes =
            self.payload.as_ref().map_or(0, Vec::len) + self.key.as_ref().map_or(0, Vec::len);
        // A message may be larger than all the room: then it takes all.
        u32::try_from((1 + bytes / 1024).min(HELD)).unwrap_or(1)
    }
}
