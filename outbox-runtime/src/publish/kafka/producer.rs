//! A librdkafka producer and the delivery reports of the batch that it is sending.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use tokio::sync::Notify;

use super::config::ProducerConfig;
use super::errors;
use super::headers::kafka_headers;
use crate::error::OutboxError;
use crate::publish::DeliveryReport;
use crate::record::{LANES, StoredEvent};

/// How many sends go by before other tasks of the thread get their turn.
const SENDS_PER_YIELD: usize = 256;

pub(super) struct Producer {
    producer: ThreadedProducer<Context>,
    batch: Arc<Batch>,
}

impl Producer {
    pub(super) fn start(config: &ProducerConfig) -> Result<Self, OutboxError> {
        let batch = Arc::<Batch>::default();
        let context = Context {
            batch: Arc::clone(&batch),
            brokers: config.brokers().to_owned(),
            away: AtomicBool::new(false),
        };
        let producer = ThreadedProducer::from_config_and_context(&config.client, context)
            .map_err(errors::no_producer)?;
        Ok(Self { producer, batch })
    }

    /// After a fatal error nothing more can be sent: librdkafka would have had to leave a gap.
    pub(super) fn is_fatal(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    pub(super) async fn publish(&self, events: &[&StoredEvent], source: &str) -> Vec<DeliveryReport> {
        let first_slot = self.batch.begin(events.len());
        let abandoned = PurgeOnDrop(self);
        let mut failed_lanes = [false; LANES];
        for (i, event) in events.iter().enumerate() {
            if i % SENDS_PER_YIELD == SENDS_PER_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            let slot = first_slot.wrapping_add(i);
            if failed_lanes[event.lane.index()] {
                self.batch.report(slot, DeliveryReport::NotSent);
            } else if let Err(error) = self.send(event, slot, source).await {
                failed_lanes[event.lane.index()] = true;
                self.batch.report(slot, DeliveryReport::Failed(errors::not_delivered(&event.record, error)));
            }
        }
        let outcomes = self.batch.finished().await;
        std::mem::forget(abandoned);
        outcomes
            .into_iter()
            .zip(events)
            .map(|(outcome, event)| match outcome {
                Some(Ok(report)) => report,
                Some(Err(error)) => DeliveryReport::Failed(errors::not_delivered(&event.record, error)),
                None => DeliveryReport::NotSent,
            })
            .collect()
    }

    /// Queues one event, waiting while librdkafka's queue is full.
    async fn send(&self, event: &StoredEvent, slot: usize, source: &str) -> Result<(), KafkaError> {
        let record = &event.record;
        let mut message: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&record.topic, slot)
            .payload(record.payload.as_slice())
            .headers(kafka_headers(record, source));
        message.key = record.key.as_deref();
        message.timestamp = record
            .occurred_at
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok());
        loop {
            let delivered = self.batch.changed.notified();
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    message = returned;
                    // A delivery makes room. The time-out is for one that happened just before we looked.
                    let _ = tokio::time::timeout(Duration::from_millis(50), delivered).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

/// What is queued when a batch is given up is not sent any more.
struct PurgeOnDrop<'a>(&'a Producer);

impl Drop for PurgeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.batch.begin(0);
        self.0.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

type Outcome = Option<Result<DeliveryReport, KafkaError>>;

/// The batch being sent. Its events are known to librdkafka by consecutive numbers, its slots, which no other batch
/// of this producer has: a late report for an earlier batch falls outside, and is passed over.
#[derive(Default)]
struct Batch {
    state: Mutex<BatchState>,
    changed: Notify,
}

#[derive(Default)]
struct BatchState {
    first_slot: usize,
    outcomes: Vec<Outcome>,
    missing: usize,
}

impl Batch {
    fn state(&self) -> MutexGuard<'_, BatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, events: usize) -> usize {
        let mut state = self.state();
        state.first_slot = state.first_slot.wrapping_add(state.outcomes.len());
        state.outcomes = (0..events).map(|_| None).collect();
        state.missing = events;
        state.first_slot
    }

    fn report(&self, slot: usize, report: DeliveryReport) {
        self.set(slot, Ok(report));
    }

    fn set(&self, slot: usize, outcome: Result<DeliveryReport, KafkaError>) {
        let mut state = self.state();
        let place = slot.wrapping_sub(state.first_slot);
        if let Some(empty @ None) = state.outcomes.get_mut(place) {
            *empty = Some(outcome);
            state.missing -= 1;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until every event of the batch has its report.
    async fn finished(&self) -> Vec<Outcome> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if state.missing == 0 {
                    let outcomes = std::mem::take(&mut state.outcomes);
                    state.first_slot = state.first_slot.wrapping_add(outcomes.len());
                    return outcomes;
                }
            }
            changed.await;
        }
    }
}

/// librdkafka's callbacks.
struct Context {
    batch: Arc<Batch>,
    brokers: String,
    /// Whether the brokers were last said to be away: one line per change, not per attempt.
    away: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        brokers = self.brokers,
                        reason,
                        "no Kafka broker answers: events stay in the outbox, and are published when one does. \
                         Is the address right?"
                    );
                }
            }
            Some(RDKafkaErrorCode::Authentication) => {
                tracing::error!(
                    brokers = self.brokers,
                    reason,
                    "Kafka refuses the credentials: events stay in the outbox, and the relay keeps trying"
                );
            }
            _ => tracing::debug!(target: "librdkafka", %error, reason),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivery: &DeliveryResult<'_>, slot: usize) {
        let outcome = match delivery {
            Ok(_) => {
                if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(brokers = self.brokers, "Kafka answers again");
                }
                Ok(DeliveryReport::Delivered)
            }
            Err((error, _)) => Err(error.clone()),
        };
        self.batch.set(slot, outcome);
    }
}
