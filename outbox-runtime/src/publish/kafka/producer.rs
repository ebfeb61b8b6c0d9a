//! A librdkafka producer and the delivery reports of what it is sending.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use tokio::sync::Notify;

use super::errors;
use super::headers::kafka_headers;
use crate::kafka::{self, Brokers};
use crate::publish::DeliveryReport;
use crate::record::StoredEvent;

/// How many sends go by before other tasks of the thread get their turn.
const SENDS_PER_YIELD: usize = 256;
/// How often a publish that waits asks whether librdkafka has given up.
const FATAL_CHECK: Duration = Duration::from_secs(1);

pub(super) struct Producer {
    producer: ThreadedProducer<Context>,
    reports: Arc<Reports>,
}

impl Producer {
    pub(super) fn start(config: &ClientConfig, brokers: Brokers) -> Result<Self, KafkaError> {
        let reports = Arc::<Reports>::default();
        let context = Context { reports: Arc::clone(&reports), brokers };
        Ok(Self { producer: ThreadedProducer::from_config_and_context(config, context)?, reports })
    }

    /// After a fatal error nothing more can be sent: librdkafka would have had to leave a gap.
    pub(super) fn is_fatal(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    pub(super) async fn publish(&self, events: &[StoredEvent], source: &str) -> Vec<DeliveryReport> {
        let mut sending = Sending::begin(self, events.len());
        for (i, event) in events.iter().enumerate() {
            if i % SENDS_PER_YIELD == SENDS_PER_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            if let Err(error) = self.send(event, sending.slot(i), source).await {
                sending.reports.set(sending.slot(i), Err(error));
                sending.reports.not_sent(sending.first_slot, i + 1);
                break;
            }
        }
        sending
            .finished()
            .await
            .into_iter()
            .zip(events)
            .map(|(outcome, event)| match outcome {
                Some(Ok(())) => DeliveryReport::Delivered,
                Some(Err(error)) => errors::not_delivered(&event.record, error),
                None => DeliveryReport::NotSent,
            })
            .collect()
    }

    /// Queues one event, waiting while librdkafka's queue is full.
    async fn send(&self, event: &StoredEvent, slot: usize, source: &str) -> Result<(), KafkaError> {
        let record = &event.record;
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&record.topic, slot).headers(kafka_headers(record, source));
        message.key = record.key.as_deref();
        message.payload = record.payload.as_deref();
        message.partition = record.partition;
        message.timestamp = record
            .occurred_at
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok());
        loop {
            let room = self.reports.room.notified();
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    message = returned;
                    // A delivery makes room. The time-out is for one that happened just before we looked.
                    let _ = tokio::time::timeout(Duration::from_millis(50), room).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

/// One call of `publish`. Given up before its end, what is still queued is not sent any more.
struct Sending<'a> {
    producer: &'a Producer,
    reports: &'a Reports,
    first_slot: usize,
    changed: Arc<Notify>,
    finished: bool,
}

impl<'a> Sending<'a> {
    fn begin(producer: &'a Producer, events: usize) -> Self {
        let changed = Arc::<Notify>::default();
        let reports = &*producer.reports;
        let mut batches = reports.batches();
        let first_slot = batches.next_slot;
        batches.next_slot = first_slot.wrapping_add(events);
        let batch = Batch {
            outcomes: (0..events).map(|_| None).collect(),
            missing: events,
            changed: Arc::clone(&changed),
        };
        batches.open.insert(first_slot, batch);
        drop(batches);
        Self { producer, reports, first_slot, changed, finished: false }
    }

    fn slot(&self, i: usize) -> usize {
        self.first_slot.wrapping_add(i)
    }

    /// Waits until every event has its report.
    async fn finished(&mut self) -> Vec<Outcome> {
        loop {
            let changed = self.changed.notified();
            {
                let mut batches = self.reports.batches();
                if batches.open.get(&self.first_slot).is_none_or(|batch| batch.missing == 0) {
                    self.finished = true;
                    return batches
                        .open
                        .remove(&self.first_slot)
                        .map_or_else(Vec::new, |batch| batch.outcomes);
                }
            }
            // librdkafka purges its queue after a fatal error, but not what is in flight; of that, what the broker
            // refused out of order would wait for a retry for ever.
            if self.producer.is_fatal() {
                self.producer.purge();
            }
            let _ = tokio::time::timeout(FATAL_CHECK, changed).await;
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.reports.batches().open.remove(&self.first_slot);
            self.producer.purge();
        }
    }
}

/// What librdkafka reported of an event, or nothing yet.
type Outcome = Option<Result<(), KafkaError>>;

/// What is being sent. Events are known to librdkafka by numbers, their slots, which are handed out in blocks; a late
/// report for a block that was given up falls between those that are open, and is passed over.
#[derive(Default)]
struct Reports {
    batches: Mutex<Batches>,
    /// A message left librdkafka's queue.
    room: Notify,
}

#[derive(Default)]
struct Batches {
    next_slot: usize,
    /// By their first slots.
    open: BTreeMap<usize, Batch>,
}

struct Batch {
    outcomes: Vec<Outcome>,
    missing: usize,
    changed: Arc<Notify>,
}

impl Reports {
    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, slot: usize, outcome: Result<(), KafkaError>) {
        let mut batches = self.batches();
        if let Some((first_slot, batch)) = batches.open.range_mut(..=slot).next_back()
            && let Some(empty @ None) = batch.outcomes.get_mut(slot - first_slot)
        {
            let failed = outcome.is_err();
            *empty = Some(outcome);
            batch.missing -= 1;
            if failed || batch.missing == 0 {
                batch.changed.notify_one();
            }
        }
        drop(batches);
        self.room.notify_one();
    }

    /// Takes the events from the `i`th on out of what is waited for.
    fn not_sent(&self, first_slot: usize, i: usize) {
        if let Some(batch) = self.batches().open.get_mut(&first_slot) {
            batch.missing -= batch.outcomes.len() - i;
        }
    }
}

/// librdkafka's callbacks.
struct Context {
    reports: Arc<Reports>,
    brokers: Brokers,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.brokers.failed(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivery: &DeliveryResult<'_>, slot: usize) {
        let outcome = match delivery {
            Ok(_) => {
                self.brokers.answered();
                Ok(())
            }
            Err((error, _)) => Err(error.clone()),
        };
        self.reports.set(slot, outcome);
    }
}
