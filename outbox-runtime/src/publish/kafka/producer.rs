//! A librdkafka producer, which sends events and reports what became of them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, Message as _};

use super::order::{Addressed, Established};
use super::reports::{Ack, Reports};
use super::stalls::{ANSWER_WITHIN, Replicas, Stalls, replicas};
use super::statistics::Statistics;
use super::transactions::Told;
use super::waiting::Progress;
use crate::kafka::{Brokers, LONGEST_NAME, aside};
use crate::observe::{publisher_broker_up, target};
use crate::publish::headers::message_headers;
use crate::record::EventRecord;

/// What becomes of later events of a key when one of them is refused.
#[derive(Clone)]
pub(super) enum Kind {
    /// The producer ends. While a broker does not know it yet, one event of a key is sent at a
    /// time: see [`order`](super::order).
    Gapless,
    /// Its transaction is aborted, with all that has overtaken the event.
    Transactional(Arc<Told>),
}

/// librdkafka's client.
pub(super) type Client = ThreadedProducer<Context>;

pub(super) struct Producer {
    /// The client; taken when this is dropped.
    client: Option<Client>,
    kind: Kind,
    pub(super) reports: Arc<Reports>,
    pub(super) established: Established,
    pub(super) progress: Arc<Progress>,
    pub(super) stalls: Arc<Stalls>,
    /// Whether it was given up: librdkafka cannot purge the events of one topic alone, or of one
    /// call. Who queues an event holds it, so that none is queued behind one that is purged.
    abandoned: RwLock<bool>,
    looking: AtomicBool,
}

/// While this lives, no other check for stalled topics runs.
struct Looking(Arc<Producer>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Relaxed);
    }
}

impl Producer {
    pub(super) fn start(
        config: &ClientConfig,
        brokers: Brokers,
        stalls: Arc<Stalls>,
        kind: Kind,
    ) -> Result<Self, KafkaError> {
        let established = match kind {
            Kind::Gapless => Established::default(),
            Kind::Transactional(_) => Established::not_needed(),
        };
        let (reports, progress) = (Arc::<Reports>::default(), Arc::<Progress>::default());
        let context = Context {
            reports: Arc::clone(&reports),
            progress: Arc::clone(&progress),
            brokers,
            kind: kind.clone(),
        };
        let client = ThreadedProducer::from_config_and_context(config, context)?;
        Ok(Self {
            client: Some(client),
            kind,
            reports,
            established,
            progress,
            stalls,
            abandoned: RwLock::default(),
            looking: AtomicBool::new(false),
        })
    }

    /// Whether nothing more can be sent: after a fatal error, librdkafka would have to leave a gap.
    pub(super) fn is_over(&self) -> bool {
        self.is_abandoned() || self.fatal_error().is_some()
    }

    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client.as_ref().and_then(|client| client.client().fatal_error())
    }

    fn is_abandoned(&self) -> bool {
        *self.abandoned.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, for calls about transactions.
    pub(super) fn client(&self) -> Option<Client> {
        self.client.clone()
    }

    /// Why librdkafka threw away an event for a topic that had no failure of its own. `None`: it is
    /// not this topic's fault.
    pub(super) fn cause_of_purge(&self, topic: &str) -> Option<RDKafkaErrorCode> {
        match &self.kind {
            Kind::Gapless => self.fatal_error().map(|(code, _)| code),
            // It is fatal if another process has taken over: no event's fault.
            Kind::Transactional(told) => told.refusal(topic),
        }
    }

    /// Whether nothing of the open transaction can be committed any more.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&self.kind, Kind::Transactional(told) if told.has_failed())
    }

    /// Lets a producer whose transaction was aborted be used again. Returns whether a topic has
    /// taken nothing.
    pub(super) fn resume(&self) -> bool {
        std::mem::take(&mut *self.abandoned.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_transactional(&self) -> bool {
        matches!(self.kind, Kind::Transactional(_))
    }

    /// The replicas of a topic's partitions; none if brokers do not answer.
    pub(super) async fn replicas(&self, topic: &str) -> BTreeMap<i32, Replicas> {
        let (client, name) = (self.client.clone(), topic.to_owned());
        let asked = aside("outbox-kafka-stalls", move || {
            let answer = client?.client().fetch_metadata(Some(&name), ANSWER_WITHIN).ok()?;
            Some(replicas(&answer))
        });
        asked.await.ok().flatten().unwrap_or_default()
    }

    /// Queues one event, and waits while librdkafka's queue is full. The record has the time of
    /// sending: brokers delete old records by it, and refuse records of the future.
    pub(super) async fn send(
        self: &Arc<Self>,
        event: &Addressed<'_>,
        slot: usize,
        source: &str,
    ) -> Result<(), KafkaError> {
        let Addressed { record, topic, .. } = event;
        if topic.len() > LONGEST_NAME {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTopic));
        }
        let headers = kafka_headers(record, source);
        let mut message: Message<'_> = BaseRecord::with_opaque_to(topic, slot).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.payload.as_deref();
        message.partition = record.partition;
        self.enqueue(message).await
    }

    pub(super) async fn enqueue(
        self: &Arc<Self>,
        mut message: Message<'_>,
    ) -> Result<(), KafkaError> {
        let Some(client) = &self.client else { return Err(KafkaError::Canceled) };
        // Whether the queue was empty before this attempt: an event that it does not take then is
        // too large for it. To ask takes locks of librdkafka, so it is asked after a refusal only.
        let mut empty = false;
        loop {
            let room = self.reports.room.notified();
            let sent = {
                let abandoned = self.abandoned.read().unwrap_or_else(PoisonError::into_inner);
                if *abandoned {
                    return Err(KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue));
                }
                client.send(message)
            };
            match sent {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned))
                    if !empty =>
                {
                    message = returned;
                    // The queue may be full of events of one topic, while all calls wait here for
                    // room.
                    self.look_for_stalls();
                    // A delivery makes room. The time-out covers one that happened just before this
                    // wait began.
                    let _ = tokio::time::timeout(Duration::from_millis(50), room).await;
                    empty = client.in_flight_count() == 0;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Gives up all that has no report yet, of all calls.
    ///
    /// The events that are purged leave a gap in the numbers of their partition. If none of it is
    /// in flight, librdkafka takes the broker's refusal of what comes after the gap for a
    /// consequence of another refusal: it numbers the rest anew, and a later event overtakes those
    /// that were purged, whatever `enable.gapless.guarantee` says. So nothing comes after the gap.
    pub(super) fn abandon(&self) {
        *self.abandoned.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.purge();
    }

    /// Gives up a call that is dropped.
    pub(super) fn give_up(&self) {
        match &self.kind {
            Kind::Gapless => self.abandon(),
            // What is purged fails, and is aborted with all of its transaction.
            Kind::Transactional(_) => self.purge(),
        }
    }

    /// Purges what has no report yet. Nothing may be queued after it, unless a transaction that is
    /// aborted takes it along.
    pub(super) fn purge(&self) {
        let Some(client) = &self.client else { return };
        let queued = PurgeConfig::default().queue();
        // A transaction is aborted when all that is in flight has a report.
        let waits = self.is_transactional() && client.client().fatal_error().is_none();
        client.purge(if waits { queued } else { queued.inflight() });
    }

    /// Finds topics that take nothing although brokers answer. They are logged and, in the end,
    /// refused, so that they do not hold up the others.
    pub(super) fn look_for_stalls(self: &Arc<Self>) {
        let now = Instant::now();
        let topics = self.progress.stalled(now);
        let Some(client) = self.client.clone().filter(|_| !topics.is_empty()) else { return };
        if self.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let looking = Looking(Arc::clone(self));
        // Not on a thread of the runtime, whose end would wait for the brokers' answers.
        drop(aside("outbox-kafka-stalls", move || {
            let producer = &looking.0;
            let ask = |topic: &String| {
                let answer = client.client().fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
                Some((topic.clone(), answer))
            };
            let answers = topics.iter().map(ask).collect::<Option<BTreeMap<_, _>>>();
            if producer.progress.judge(answers.as_ref(), &producer.stalls, Instant::now()) {
                producer.abandon();
            }
        }));
    }
}

impl Drop for Producer {
    /// Closing a client joins a thread and talks to brokers, which must not block a thread of the
    /// runtime.
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            std::thread::spawn(move || drop(client));
        }
    }
}

/// A record for librdkafka, with its slot.
pub(super) type Message<'m> = BaseRecord<'m, [u8], [u8], usize>;

/// librdkafka's callbacks.
pub(super) struct Context {
    reports: Arc<Reports>,
    progress: Arc<Progress>,
    brokers: Brokers,
    kind: Kind,
}

impl ClientContext for Context {
    /// As of [`Brokers`].
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Kind::Transactional(told) = &self.kind {
            let had_failed = told.has_failed();
            told.take_in(facility, message);
            if told.has_failed() && !had_failed {
                self.reports.wake();
            }
            // These are logged for us, and are many.
            if matches!(level, RDKafkaLogLevel::Debug) {
                return;
            }
        }
        self.brokers.logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.brokers.failed(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.brokers.token()
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics<'_>>(statistics) {
            Ok(statistics) => {
                publisher_broker_up(statistics.is_connected());
                self.progress.take_in(&statistics, Instant::now());
            }
            Err(error) => {
                tracing::debug!(target: target::PUBLISHER, %error, "the statistics of librdkafka were not understood");
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivery: &DeliveryResult<'_>, slot: usize) {
        let outcome = match delivery {
            Ok(message) => {
                self.brokers.answered();
                Ok(Ack { partition: message.partition(), at: Instant::now() })
            }
            Err((error, message)) => {
                self.progress.not_taken(message.topic(), message.partition());
                Err(error.clone())
            }
        };
        let failed = outcome.is_err();
        self.reports.set(slot, outcome);
        if let Kind::Transactional(told) = &self.kind
            && failed
            && !told.has_failed()
        {
            told.fail();
            self.reports.wake();
        }
    }
}

fn kafka_headers(record: &EventRecord, source: &str) -> OwnedHeaders {
    let mut headers = Some(OwnedHeaders::new_with_capacity(12));
    message_headers(record, source, |key, value| {
        let header = Header { key, value: Some(value) };
        headers = headers.take().map(|headers| headers.insert(header));
    });
    headers.unwrap_or_default()
}
