//! Reading a group's progress: the last committed record of its partition.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::topic::ProgressTopic;
use crate::kafka::{Brokers, Client, Properties, reading};

/// Time-out of a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest time for all of it.
const WITHIN: Duration = Duration::from_secs(30);
/// Pause before something is asked again that is not so yet.
const PAUSE: Duration = Duration::from_millis(20);
/// Number of offsets before the end that are read first. Of a wave, there are two: progress and the
/// marker of its transaction. It grows tenfold until a record is found.
const TAIL: i64 = 200;

/// Returns the last committed progress, `None` if there is none. It blocks.
///
/// Everything that the group's producers had open must be ended before: otherwise the end may be
/// that of an open transaction.
pub(super) fn read(
    properties: &Properties,
    brokers: &Brokers,
    topic: &ProgressTopic,
) -> Result<Option<Vec<u8>>, KafkaError> {
    let reader = Reader::connect(properties, brokers, topic)?;
    let (first, end) = reader.bounds()?;
    let mut tail = TAIL;
    loop {
        let from = end.saturating_sub(tail).max(first);
        let last = reader.last_since(from)?;
        if last.is_some() || from == first {
            return Ok(last);
        }
        tail = tail.saturating_mul(10);
    }
}

struct Reader<'t> {
    /// Reads what is committed. Its end of a partition is the first open transaction.
    committed: Client<BaseConsumer<Brokers>>,
    /// Knows the end of everything.
    all: Client<BaseConsumer<Brokers>>,
    topic: &'t ProgressTopic,
    begun: Instant,
}

impl<'t> Reader<'t> {
    fn connect(
        properties: &Properties,
        brokers: &Brokers,
        topic: &'t ProgressTopic,
    ) -> Result<Self, KafkaError> {
        let mut config = reading::config(properties, "outbox");
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
        let committed = Client::new(reading::client(&config, brokers)?);
        config.set("isolation.level", "read_uncommitted");
        let all = Client::new(reading::client(&config, brokers)?);
        Ok(Self { committed, all, topic, begun: Instant::now() })
    }

    /// The first offset and the end, once nothing is open before the end. A topic that was just
    /// created has no leader for a moment.
    fn bounds(&self) -> Result<(i64, i64), KafkaError> {
        let ProgressTopic { name, partition, .. } = self.topic;
        let ask = |client: &BaseConsumer<Brokers>| {
            self.patiently(|| client.fetch_watermarks(name, *partition, ANSWER_WITHIN))
        };
        let (_, end) = ask(&self.all)?;
        loop {
            let (first, committed) = ask(&self.committed)?;
            if committed >= end {
                return Ok((first, committed));
            }
            self.pause(KafkaError::OffsetFetch(Code::OperationTimedOut))?;
        }
    }

    /// The last record from an offset on, read to the end.
    fn last_since(&self, offset: i64) -> Result<Option<Vec<u8>>, KafkaError> {
        let ProgressTopic { name, partition, .. } = self.topic;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(name, *partition, Offset::Offset(offset))?;
        self.committed.assign(&from)?;
        let mut last = None;
        loop {
            match self.committed.poll(PAUSE) {
                Some(Ok(message)) => last = message.payload().map(<[u8]>::to_vec).or(last),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
                Some(Err(error)) if is_forbidden(&error) => return Err(error),
                Some(Err(error)) => self.pause(error)?,
                None => {
                    self.ensure_time(|| KafkaError::MessageConsumption(Code::OperationTimedOut))?
                }
            }
        }
    }

    /// Asks again while waiting may help.
    fn patiently<T>(&self, ask: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
        loop {
            match ask() {
                Err(error)
                    if error.rdkafka_error_code() != Some(Code::TopicAuthorizationFailed) =>
                {
                    self.pause(error)?;
                }
                answer => return answer,
            }
        }
    }

    fn pause(&self, error: KafkaError) -> Result<(), KafkaError> {
        thread::sleep(PAUSE);
        self.ensure_time(|| error)
    }

    fn ensure_time(&self, error: impl FnOnce() -> KafkaError) -> Result<(), KafkaError> {
        if self.begun.elapsed() < WITHIN { Ok(()) } else { Err(error()) }
    }
}

/// Whether waiting does not help.
fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed)
}
