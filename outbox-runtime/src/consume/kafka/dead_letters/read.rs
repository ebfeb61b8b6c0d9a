//! Reading a topic of dead letters, up to its end as it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::letter::{DeadLetterId, RESOLVED, RESOLVED_OFFSET};
use crate::consume::kafka::config;
use crate::consume::kafka::records::{owned, without_payload};
use crate::consume::message::Message;
use crate::kafka::{Brokers, Properties};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Kilobytes that librdkafka fetches ahead.
const FETCHED_AHEAD: &str = "16384";

/// A consumer that is a member of no group and commits nothing.
pub(super) struct Reader {
    consumer: BaseConsumer<Brokers>,
    topic: String,
}

impl Reader {
    pub(super) fn connect(
        properties: &Properties,
        topic: String,
        group: &str,
    ) -> Result<Self, KafkaError> {
        let mut config = config::connection(properties);
        // librdkafka requires a group, and this user has a right to this one. Nothing is committed,
        // and no group is joined.
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", FETCHED_AHEAD);
        let brokers = Brokers::new(properties.brokers(), "the dead letters cannot be read");
        Ok(Self { consumer: config.create_with_context(brokers)?, topic })
    }

    /// The dead letters that were neither replayed nor discarded.
    pub(super) fn open(&self) -> Result<BTreeSet<DeadLetterId>, KafkaError> {
        let all = self.partitions()?.into_iter().map(|partition| (partition, 0..i64::MAX));
        let mut open = BTreeSet::new();
        self.read(all.collect(), |message| {
            let message = without_payload(message);
            let (partition, offset) = (message.partition, message.offset);
            match message.parsed(RESOLVED_OFFSET) {
                Some(offset) => _ = open.remove(&DeadLetterId { partition, offset }),
                None if message.header(RESOLVED).is_some() => {}
                None => _ = open.insert(DeadLetterId { partition, offset }),
            }
        })?;
        Ok(open)
    }

    /// The messages at these places, in their order on the topic. Those that are not there are left
    /// out.
    pub(super) fn get(&self, ids: &BTreeSet<DeadLetterId>) -> Result<Vec<Message>, KafkaError> {
        let existing = self.partitions()?;
        let mut parts = BTreeMap::<i32, Range<i64>>::new();
        for DeadLetterId { partition, offset } in ids {
            if existing.contains(partition) {
                parts.entry(*partition).or_insert(*offset..0).end = offset.saturating_add(1);
            }
        }
        let mut found = Vec::new();
        self.read(parts, |message| {
            let id = DeadLetterId { partition: message.partition(), offset: message.offset() };
            if ids.contains(&id) {
                found.push(owned(message));
            }
        })?;
        found.sort_by_key(|message: &Message| (message.partition, message.offset));
        Ok(found)
    }

    /// None if the topic does not exist. All topics are asked for: asking for one may create it.
    fn partitions(&self) -> Result<BTreeSet<i32>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, ANSWER_WITHIN)?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        let partitions = found.into_iter().flat_map(|found| found.partitions());
        Ok(partitions.map(|partition| partition.id()).collect())
    }

    /// Reads parts of partitions, up to their ends as they are when this begins.
    fn read(
        &self,
        parts: BTreeMap<i32, Range<i64>>,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), KafkaError> {
        let mut assignment = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for (partition, Range { start, end }) in parts {
            let (low, high) = self.watermarks(partition)?;
            let (start, end) = (start.max(low), end.min(high));
            if start < end {
                assignment.add_partition_offset(&self.topic, partition, Offset::Offset(start))?;
                ends.insert(partition, end);
            }
        }
        self.consumer.assign(&assignment)?;
        let mut last = Instant::now();
        while !ends.is_empty() {
            match self.consumer.poll(ANSWER_WITHIN) {
                Some(Ok(message)) => {
                    take(&message);
                    let next = message.offset() + 1;
                    if ends.get(&message.partition()).is_some_and(|end| next >= *end) {
                        ends.remove(&message.partition());
                    }
                }
                // The last records may be markers of transactions, which no consumer gets.
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ends.remove(&partition),
                // For example, one of several brokers is away.
                Some(Err(error)) if last.elapsed() > ANSWER_WITHIN => return Err(error),
                Some(Err(_)) => continue,
                None => {
                    return Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    ));
                }
            }
            last = Instant::now();
        }
        Ok(())
    }

    /// The first and the end offset of a partition. A new partition has no leader for a moment.
    fn watermarks(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        let begun = Instant::now();
        loop {
            let answer = self.consumer.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN);
            let has_no_leader = answer.as_ref().is_err_and(has_no_leader);
            if !has_no_leader || begun.elapsed() >= ANSWER_WITHIN {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn has_no_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownTopicOrPartition
        )
    )
}
