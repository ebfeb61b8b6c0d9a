//! Reading a topic of dead letters, up to its end as it is when that begins.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::filter::{DeadLetterFilter, Glimpse};
use super::letter::DeadLetterId;
use super::progress::Progress;
use super::selection::{Offsets, Selection};
use crate::kafka::{Brokers, Properties, reading};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time in which a broker says that a topic may not be seen.
const FORBIDDEN_WITHIN: Duration = Duration::from_secs(2);
/// Messages that are read and thrown away rather than passed over: it takes a request to fetch from
/// another offset.
const PASSED_OVER_FROM: i64 = 5_000;

/// A consumer that is a member of no group and commits nothing.
pub(super) struct Reader {
    consumer: BaseConsumer<Brokers>,
    brokers: Brokers,
    topic: String,
    /// Whether its result is wanted no more.
    stopped: Arc<AtomicBool>,
}

/// Dropped, it has a reader end early, on whatever thread it is.
#[derive(Debug, Default)]
pub(super) struct Stopper(Arc<AtomicBool>);

impl Stopper {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Next<'m> {
    Message(BorrowedMessage<'m>),
    /// The end of a partition.
    End(i32),
}

impl Reader {
    pub(super) fn connect(
        properties: &Properties,
        brokers: Brokers,
        (topic, group): (String, &str),
        stopped: Arc<AtomicBool>,
    ) -> Result<Self, KafkaError> {
        // This user has a right to this group.
        let mut config = reading::config(properties, group);
        let consumer = reading::client(config.set("enable.partition.eof", "true"), &brokers)?;
        Ok(Self { consumer, brokers, topic, stopped })
    }

    /// The dead letters that were neither replayed nor discarded, of those that the filter means.
    /// Reads the whole topic once, all partitions at the same time.
    pub(super) fn select(
        &self,
        filter: &DeadLetterFilter,
        progress: &Progress,
    ) -> Result<Selection, KafkaError> {
        let mut ends = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for partition in self.partitions()? {
            let (low, high) = self.watermarks(partition)?;
            if low < high {
                assignment.add_partition_offset(&self.topic, partition, Offset::Offset(low))?;
                ends.insert(partition, high);
                progress.expect(high.abs_diff(low));
            }
        }
        self.consumer.assign(&assignment)?;
        let mut selection = Selection::default();
        while !ends.is_empty() {
            let message = match self.next()? {
                // The last records may be markers of transactions, which no consumer gets.
                Next::End(partition) => {
                    ends.remove(&partition);
                    continue;
                }
                Next::Message(message) => message,
            };
            let id = DeadLetterId { partition: message.partition(), offset: message.offset() };
            let Some(end) = ends.get(&id.partition).copied() else { continue };
            let seen = Glimpse::of(&message);
            if let Some(offset) = seen.resolves {
                selection.remove(DeadLetterId { offset, ..id });
            } else if !seen.is_mark && id.offset < end && filter.matches(id, &seen) {
                selection.insert(id);
            }
            progress.add(1);
            if id.offset + 1 >= end {
                ends.remove(&id.partition);
            }
        }
        progress.finish();
        Ok(selection)
    }

    /// Takes the messages at these places, by partition and offset, until it is told to stop. Those
    /// that are not there any more are left out.
    pub(super) fn read(
        &self,
        selection: &Selection,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), KafkaError> {
        let existing = self.partitions()?;
        for (partition, offsets) in selection.partitions().filter(|(of, _)| existing.contains(of)) {
            let (low, high) = self.watermarks(partition)?;
            let mut from = offsets.next(low);
            while let Some(offset) = from.filter(|offset| *offset < high) {
                let mut assignment = TopicPartitionList::new();
                let offset = Offset::Offset(offset);
                assignment.add_partition_offset(&self.topic, partition, offset)?;
                self.consumer.assign(&assignment)?;
                match self.read_on(partition, offsets, high, &mut take)? {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(next) => from = next,
                }
            }
        }
        Ok(())
    }

    /// Takes messages of the assigned partition. Returns the next wanted offset if it is far away.
    fn read_on(
        &self,
        partition: i32,
        offsets: &Offsets,
        high: i64,
        take: &mut impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Option<i64>>, KafkaError> {
        loop {
            let message = match self.next()? {
                Next::End(ended) if ended == partition => return Ok(ControlFlow::Continue(None)),
                Next::Message(message) if message.partition() == partition => message,
                // Of the partition before.
                Next::End(_) | Next::Message(_) => continue,
            };
            let offset = message.offset();
            if offsets.contains(offset) && take(&message).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            match offsets.next(offset + 1) {
                Some(next) if next < high && next < offset + PASSED_OVER_FROM => {}
                next => return Ok(ControlFlow::Continue(next)),
            }
        }
    }

    fn next(&self) -> Result<Next<'_>, KafkaError> {
        let begun = Instant::now();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(KafkaError::Canceled);
            }
            match self.consumer.poll(ANSWER_WITHIN) {
                Some(Ok(message)) => return Ok(Next::Message(message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Next::End(partition)),
                // Waiting does not change it.
                Some(Err(error)) if is_forbidden(&error) => return Err(error),
                // For example, one of several brokers is away.
                Some(Err(error)) if begun.elapsed() > ANSWER_WITHIN => return Err(error),
                Some(Err(_)) => {}
                // It has taken something else than a message.
                None if begun.elapsed() < ANSWER_WITHIN => {}
                None => {
                    return Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    ));
                }
            }
        }
    }

    /// None if the topic does not exist. All topics are asked for: asking for one may create it.
    ///
    /// # Errors
    /// If this user may not describe it: that is no topic without dead letters.
    fn partitions(&self) -> Result<BTreeSet<i32>, KafkaError> {
        let ask = |within| self.consumer.fetch_metadata(None, within);
        let listen = || Brokers::listen(&self.consumer);
        let metadata = self.brokers.metadata(ask, listen)?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        let partitions = found.into_iter().flat_map(|found| found.partitions());
        let partitions: BTreeSet<i32> = partitions.map(|partition| partition.id()).collect();
        if partitions.is_empty()
            && let Err(error) = self.consumer.fetch_watermarks(&self.topic, 0, FORBIDDEN_WITHIN)
            && is_forbidden(&error)
        {
            return Err(error);
        }
        Ok(partitions)
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

fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
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
