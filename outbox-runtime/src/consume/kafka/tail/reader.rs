//! The thread that reads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::{Out, PAYLOAD_BYTES, TailedItem, TailedMessage, Unwanted, Wanted};
use crate::consume::kafka::records::{owned, without_payload};
use crate::kafka::{Brokers, Properties, TopicPrefix, reading};
use crate::observe::target;
use crate::record::CE_ID;

/// Time-out of one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time in which a broker says that a topic may not be seen.
const FORBIDDEN_WITHIN: Duration = Duration::from_secs(2);
/// Longest time for which it does not notice that it is unwanted.
const POLL: Duration = Duration::from_millis(100);
/// Time after which it looks for new partitions, and for topics that were missing.
const LOOKED_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];

/// A topic by its name on the brokers, and a partition.
type TopicPartition = (String, i32);

pub(super) struct Reader {
    consumer: BaseConsumer<Brokers>,
    brokers: Brokers,
    wanted: Wanted,
    topics: Vec<Topic>,
    positions: BTreeMap<TopicPartition, Position>,
}

struct Topic {
    declared: String,
    on_brokers: String,
    /// Whether it was told that it is missing, or that it is followed.
    is_missing: bool,
    is_followed: bool,
}

/// How far a partition is read.
struct Position {
    next: i64,
    /// Its end when it was first seen. What is before was asked for, and waits for room.
    end: i64,
}

impl Reader {
    pub(super) fn connect(
        properties: &Properties,
        brokers: Brokers,
        prefix: TopicPrefix,
        wanted: Wanted,
    ) -> Result<Self, KafkaError> {
        let consumer = reading::client(&reading::config(properties, "outbox"), &brokers)?;
        let topic = |declared: &String| Topic {
            on_brokers: prefix.on_brokers(declared).into_owned(),
            declared: declared.clone(),
            is_missing: false,
            is_followed: false,
        };
        let topics = wanted.topics.iter().map(topic).collect();
        Ok(Self { consumer, brokers, wanted, topics, positions: BTreeMap::new() })
    }

    /// Reads until it is wanted no more. An error is one that waiting does not change.
    pub(super) fn read(&mut self, out: &mut Out) -> Result<(), KafkaError> {
        let mut look_again = Instant::now();
        loop {
            if Instant::now() >= look_again {
                let [known, missing] = LOOKED_AGAIN_AFTER;
                let Ok(all_are_there) = self.look_for_partitions(out)? else { return Ok(()) };
                look_again = Instant::now() + if all_are_there { known } else { missing };
            }
            if self.poll(out)?.is_err() {
                return Ok(());
            }
        }
    }

    /// `Err` inside: it is unwanted.
    fn poll(&mut self, out: &mut Out) -> Result<Result<(), Unwanted>, KafkaError> {
        let Self { consumer, brokers, wanted, topics, positions } = self;
        match consumer.poll(POLL) {
            None => Ok(out.told_what_was_not_shown()),
            Some(Ok(message)) => {
                brokers.answered();
                let place = (message.topic().to_owned(), message.partition());
                let mut waits = false;
                if let Some(position) = positions.get_mut(&place) {
                    waits = message.offset() < position.end;
                    position.next = message.offset() + 1;
                }
                let topic = topics.iter().find(|topic| topic.on_brokers == place.0);
                let topic = topic.map_or(&place.0, |topic| &topic.declared);
                Ok(match wanted.tailed(&message, topic) {
                    Some(message) => out.message(message, waits),
                    None => Ok(()),
                })
            }
            Some(Err(error)) => self.failed(error).map(Ok),
        }
    }

    /// Passes on an error that waiting does not change.
    fn failed(&self, error: KafkaError) -> Result<(), KafkaError> {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
            || self.brokers.refuses_for_good()
        {
            return Err(error);
        }
        tracing::debug!(target: target::KAFKA, %error, "a topic cannot be followed now: it is tried again");
        Ok(())
    }

    /// Follows topics and partitions that were not there before. Returns whether all topics are
    /// there.
    fn look_for_partitions(&mut self, out: &Out) -> Result<Result<bool, Unwanted>, KafkaError> {
        // All topics are asked for: asking for one may create it.
        let ask = |within| self.consumer.fetch_metadata(None, within);
        let listen = || Brokers::listen(&self.consumer);
        let metadata = match self.brokers.metadata(ask, listen) {
            Ok(metadata) => metadata,
            Err(error) => return self.failed(error).map(|()| Ok(false)),
        };
        let mut found = BTreeMap::new();
        for topic in 0..self.topics.len() {
            match self.new_positions(topic, &metadata) {
                Ok(positions) => found.extend(positions),
                Err(error) => return self.failed(error).map(|()| Ok(false)),
            }
        }
        if !found.is_empty() {
            self.positions.extend(found);
            if let Err(error) = self.assign() {
                return self.failed(error).map(|()| Ok(false));
            }
        }
        Ok(self.tell_what_is_followed(out))
    }

    fn tell_what_is_followed(&mut self, out: &Out) -> Result<bool, Unwanted> {
        let mut all_are_there = true;
        for topic in &mut self.topics {
            let is_there = self.positions.keys().any(|(name, _)| *name == topic.on_brokers);
            all_are_there &= is_there;
            if is_there && !topic.is_followed {
                topic.is_followed = true;
                out.tell(TailedItem::Following(topic.declared.clone()))?;
            } else if !is_there && !topic.is_missing {
                topic.is_missing = true;
                out.tell(TailedItem::Missing(topic.declared.clone()))?;
            }
        }
        Ok(all_are_there)
    }

    /// Where to begin in the partitions of a topic that are not followed yet.
    fn new_positions(
        &self,
        topic: usize,
        metadata: &Metadata,
    ) -> Result<Vec<(TopicPartition, Position)>, KafkaError> {
        let Topic { on_brokers, is_missing, is_followed, .. } = &self.topics[topic];
        let found = metadata.topics().iter().find(|found| found.name() == on_brokers);
        let partitions = found.into_iter().flat_map(|found| found.partitions());
        let new = partitions
            .map(|partition| (on_brokers.clone(), partition.id()))
            .filter(|place| !self.positions.contains_key(place));
        let mut positions = Vec::new();
        for place in new {
            let (low, end) = self.watermarks(&place)?;
            // All of what came after the topic was looked at is new.
            let next = match self.wanted.since {
                _ if *is_missing || *is_followed => low,
                Some(since) => self.first_since(&place, since)?.unwrap_or(end),
                None => end,
            };
            positions.push((place, Position { next, end }));
        }
        if found.is_none_or(|found| found.partitions().is_empty()) && !is_missing {
            self.ensure_not_forbidden(on_brokers)?;
        }
        Ok(positions)
    }

    fn watermarks(&self, (topic, partition): &TopicPartition) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(topic, *partition, ANSWER_WITHIN)
    }

    /// `None`: all are older.
    fn first_since(
        &self,
        (topic, partition): &TopicPartition,
        since: SystemTime,
    ) -> Result<Option<i64>, KafkaError> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let mut times = TopicPartitionList::new();
        times.add_partition_offset(topic, *partition, Offset::Offset(since))?;
        let found = self.consumer.offsets_for_times(times, ANSWER_WITHIN)?;
        Ok(found.elements().first().and_then(|found| match found.offset() {
            Offset::Offset(offset) if offset >= 0 => Some(offset),
            _ => None,
        }))
    }

    /// A topic that this user may not see is not listed.
    fn ensure_not_forbidden(&self, topic: &str) -> Result<(), KafkaError> {
        match self.consumer.fetch_watermarks(topic, 0, FORBIDDEN_WITHIN) {
            Err(error)
                if error.rdkafka_error_code()
                    == Some(RDKafkaErrorCode::TopicAuthorizationFailed) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Reads from the positions on. What was fetched ahead is fetched again.
    fn assign(&self) -> Result<(), KafkaError> {
        let mut all = TopicPartitionList::new();
        for ((topic, partition), position) in &self.positions {
            all.add_partition_offset(topic, *partition, Offset::Offset(position.next))?;
        }
        self.consumer.assign(&all)
    }
}

impl Wanted {
    /// The message as it is told, if it is wanted.
    fn tailed(&self, message: &BorrowedMessage<'_>, topic: &str) -> Option<TailedMessage> {
        if self.key.as_deref().is_some_and(|key| message.key() != Some(key)) {
            return None;
        }
        let mut read = without_payload(message);
        if read.is_enveloped() {
            read = owned(message);
        }
        let named = read.name();
        if let Some(wanted) = &self.name
            && named.is_none_or(|(name, _)| name != wanted)
        {
            return None;
        }
        let millis = read.timestamp.and_then(|millis| u64::try_from(millis).ok());
        let payload = message.payload();
        let shown = payload.filter(|payload| self.payloads && payload.len() <= PAYLOAD_BYTES);
        Some(TailedMessage {
            topic: topic.to_owned(),
            partition: read.partition,
            offset: read.offset,
            timestamp: millis
                .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))),
            name: named.map(|(name, _)| name.to_owned()),
            version: named.map(|(_, version)| version),
            id: read.parsed(CE_ID),
            payload_bytes: payload.map(|payload| payload.len() as u64),
            payload: shown.map(<[u8]>::to_vec),
            key: read.key,
        })
    }
}
