//! Kafka: an idempotent producer that keeps the order, pipelines its sends, and waits for a broker
//! that is away.

mod builder;
mod config;
mod errors;
mod order;
mod producer;
mod reports;
mod sending;
mod stalls;
mod statistics;
mod transactions;
mod waiting;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[doc(no_inline)]
pub use crate::kafka::KafkaConfig;
pub use builder::KafkaPublisherBuilder;
pub use transactions::progress_topic;

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::OutboxError;
use crate::kafka::{Admin, Brokers, TopicPrefix};
use crate::observe::target;
use crate::publish::kafka::config::ProducerConfig;
use crate::publish::kafka::producer::{Kind, Producer};
use crate::publish::kafka::stalls::Stalls;
use crate::publish::spans::SendSpans;
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::record::StoredEvent;

/// Publishes to Kafka, by librdkafka.
///
/// Its producer is idempotent and gapless with `acks=all`: a delivered event is on all in-sync
/// replicas, once, and events of one key stay in order through retries and changes of leader.
/// Partitions are chosen as Java clients do (`murmur2_random`). Headers follow the CloudEvents
/// Kafka binding in binary mode. A record's time is the time of sending; the header `ce_time` says
/// when the event happened.
///
/// While no broker answers, it waits. A topic that takes nothing although brokers answer (too few
/// of its replicas are in sync, or a partition has no leader) is logged after 5 s, and refused
/// after 15 s: the relay parks its events, and those of other topics are published. One event of it
/// is tried every 10 s, until it takes one.
///
/// # Properties
/// Those of its [`KafkaConfig`], and these defaults for names that are not among them. A few are
/// refused, because a guarantee rests on them.
///
/// | property | default |
/// |---|---|
/// | `client.id` | `outbox` |
/// | `enable.idempotence`, `enable.gapless.guarantee` | `true`, refused otherwise |
/// | `acks` | `all`, refused otherwise |
/// | `message.timeout.ms` | `0` (never), refused otherwise |
/// | `transactional.id` | none, refused otherwise |
/// | `retries` | `2147483647` (librdkafka's), refused otherwise |
/// | `queuing.strategy`, `delivery.report.only.error` | librdkafka's, refused otherwise |
/// | `api.version.request`, `api.version.fallback.ms` | librdkafka's, refused otherwise |
/// | `statistics.interval.ms` | `1000` always: the publisher reads them, and shows them nowhere |
/// | `partitioner` | `murmur2_random`; `random` and `consistent_random`, which spreads events with an empty key, are refused |
/// | `compression.type` | `lz4`; not every client reads it: see below |
/// | `linger.ms` | `2` |
/// | `queue.buffering.max.messages` | `10000000`: the relays' memory is the bound |
/// | `request.timeout.ms` | `5000` |
/// | `topic.metadata.propagation.max.ms` | `5000` |
/// | `topic.metadata.refresh.interval.ms` | `10000` |
/// | `reconnect.backoff.max.ms` | `2000` |
///
/// # Compression
/// Every client reads `gzip` and `none`. The Java clients, librdkafka and franz-go read `lz4`, too.
/// kafkajs does not without a plugin, and fails at the first record; kafka-python needs a package
/// for it. For such readers set `property("compression.type", "gzip")`.
///
/// # Several relays
/// A clone shares the producers, and so their connections, threads and buffers: give one to the
/// relay of each outbox in a process, for example of each tenant. Each may have a source and a topic
/// prefix of its own:
///
/// ```no_run
/// # fn example(
/// #     shop: outbox::Outbox<sqlx::Postgres>, office: outbox::Outbox<sqlx::Postgres>,
/// # ) -> Result<(), outbox::OutboxError> {
/// use outbox::Relay;
/// use outbox::publish::kafka::KafkaPublisher;
///
/// let kafka = KafkaPublisher::new("localhost:9092")?;
/// let relay = Relay::new(shop, kafka.clone().with_source("/tenants/shop"));
/// let other = Relay::new(office, kafka.with_topic_prefix("office-")?);
/// # Ok(())
/// # }
/// ```
///
/// If the future of one relay's `run` is dropped before its end, the producer forgets all that it
/// has not sent, and another one takes its place. The other relays send theirs again, in order, and
/// some of it may arrive twice.
#[derive(Clone)]
pub struct KafkaPublisher {
    producers: Arc<Producers>,
    deployment: Deployment,
}

/// What a publisher adds to the events of its outbox.
#[derive(Clone)]
struct Deployment {
    /// The `ce_source` of the events.
    source: Arc<str>,
    prefix: TopicPrefix,
}

/// The producers, which any number of publishers share.
struct Producers {
    config: ProducerConfig,
    brokers: Brokers,
    /// The topics that take nothing.
    stalls: Arc<Stalls>,
    main: Slot,
    /// For events that are sent alone: one event in a request, so that a fatal error affects no
    /// other event.
    alone: Slot,
    /// Asks about topics. `None`: nothing was asked yet.
    admin: Mutex<Option<Arc<Admin>>>,
}

/// A producer that is replaced when it has ended: after a fatal error, by which librdkafka prevents
/// a gap in the order, or when a topic takes nothing.
#[derive(Default)]
struct Slot(Mutex<Current>);

#[derive(Default)]
struct Current {
    producer: Option<Arc<Producer>>,
    told: Option<Instant>,
}

impl Slot {
    fn get(
        &self,
        start: impl FnOnce() -> Result<Producer, OutboxError>,
    ) -> Result<Arc<Producer>, OutboxError> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &current.producer {
            Some(producer) if !producer.is_over() => Ok(Arc::clone(producer)),
            over => {
                let error = over.as_ref().and_then(|producer| producer.fatal_error());
                current.tell(error);
                let producer = Arc::new(start()?);
                current.producer = Some(Arc::clone(&producer));
                Ok(producer)
            }
        }
    }
}

impl Current {
    /// Logs why the producer ended, unless the refusal of an event caused it. It may end again at
    /// once.
    fn tell(&mut self, error: Option<(RDKafkaErrorCode, String)>) {
        let Some((code, reason)) = error else { return };
        let expected = code == RDKafkaErrorCode::GaplessGuarantee;
        if expected || self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            tracing::debug!(target: target::PUBLISHER, %code, reason, "a Kafka producer ended, and is replaced");
        } else {
            self.told = Some(Instant::now());
            tracing::warn!(target: target::PUBLISHER, %code, reason, "a Kafka producer ended, and is replaced: nothing is lost");
        }
    }
}

/// Setting of a topic: number of replicas that must be in sync for it to take an event.
const MIN_INSYNC: &str = "min.insync.replicas";

/// Shortest time between two log lines about ended producers.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl KafkaPublisher {
    /// This publisher with another [source](KafkaPublisherBuilder::source). It shares the producers
    /// of those that it was cloned from.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.deployment.source = source.into().into();
        self
    }

    /// This publisher with another [topic prefix](KafkaPublisherBuilder::topic_prefix). It shares
    /// the producers of those that it was cloned from.
    ///
    /// # Errors
    /// If no topic can begin with the prefix.
    pub fn with_topic_prefix(mut self, prefix: impl Into<String>) -> Result<Self, OutboxError> {
        self.deployment.prefix = TopicPrefix::new(&prefix.into())?;
        Ok(self)
    }
}

impl Producers {
    fn start(config: ProducerConfig) -> Result<Self, OutboxError> {
        let meaning = "events stay in the outbox, and the relay keeps trying";
        let brokers = Brokers::new(&config.properties, meaning);
        let (stalls, main, alone, admin) = Default::default();
        let producers = Self { config, brokers, stalls, main, alone, admin };
        // Errors that librdkafka finds in the settings are reported now.
        producers.main()?;
        Ok(producers)
    }

    fn main(&self) -> Result<Arc<Producer>, OutboxError> {
        self.main.get(|| self.new_producer(&self.config.client))
    }

    fn alone(&self) -> Result<Arc<Producer>, OutboxError> {
        self.alone.get(|| {
            let mut config = self.config.client.clone();
            config.set("batch.num.messages", "1").set("linger.ms", "0");
            self.new_producer(&config)
        })
    }

    /// Whether an event of a refused topic may be tried now.
    async fn may_try(&self, producer: &Producer, topic: &str) -> bool {
        if !self.stalls.may_try(topic, Instant::now()) {
            return false;
        }
        if !producer.is_transactional() {
            return true;
        }
        // A transaction with a partition that takes nothing ends only when that takes something
        // again. So brokers are asked whether it would, and it is not tried.
        let (found, least) = tokio::join!(producer.replicas(topic), self.least_in_sync(topic));
        self.stalls.has_recovered(topic, &found, least, Instant::now())
    }

    /// Number of replicas in sync that a topic asks for. `None`: this user may not know, or the
    /// brokers do not answer.
    async fn least_in_sync(&self, topic: &str) -> Option<usize> {
        let mut settings =
            self.admin().ok()?.settings(&[topic]).await.ok()?.by_topic.remove(topic)?;
        settings.remove(MIN_INSYNC)?.trim().parse().ok()
    }

    fn admin(&self) -> Result<Arc<Admin>, OutboxError> {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(admin) = &*admin {
            return Ok(Arc::clone(admin));
        }
        let new = Admin::new(&self.config.properties, self.brokers.clone())?;
        Ok(Arc::clone(admin.insert(Arc::new(new))))
    }

    fn new_producer(&self, config: &ClientConfig) -> Result<Producer, OutboxError> {
        Producer::start(config, self.brokers.clone(), Arc::clone(&self.stalls), Kind::Gapless)
            .map_err(|error| self.config.properties.no_client(error))
    }
}

impl Publisher for KafkaPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let producers = &self.producers;
        match batch.events {
            [_] if batch.alone => self.publish_by(producers.alone(), batch).await,
            _ => self.publish_by(producers.main(), batch).await,
        }
    }
}

impl KafkaPublisher {
    /// Publishes a batch by this producer, with its spans.
    async fn publish_by(
        &self,
        producer: Result<Arc<Producer>, OutboxError>,
        batch: Batch<'_>,
    ) -> Vec<DeliveryReport> {
        let prefix = &self.deployment.prefix;
        let spans = SendSpans::open(&batch, "kafka", |topic| prefix.on_brokers(topic));
        let reports = match batch.events {
            [event] if batch.alone => vec![self.publish_alone(producer, event).await],
            events => self.publish_together(producer, events).await,
        };
        spans.close(&reports, errors::error_type);
        reports
    }

    /// By its name on the brokers.
    fn topic_of<'e>(&self, event: &'e StoredEvent) -> Cow<'e, str> {
        self.deployment.prefix.on_brokers(&event.record.topic)
    }

    async fn publish_together(
        &self,
        producer: Result<Arc<Producer>, OutboxError>,
        events: &[StoredEvent],
    ) -> Vec<DeliveryReport> {
        let (stalls, now) = (&*self.producers.stalls, Instant::now());
        let refused = events.iter().enumerate().find_map(|(place, event)| {
            Some((place, errors::stalled(&self.topic_of(event), stalls, now)?))
        });
        let to_send = refused.as_ref().map_or(events, |(place, _)| &events[..*place]);
        let mut reports = Vec::with_capacity(events.len());
        if !to_send.is_empty() {
            match producer {
                Ok(producer) => reports = producer.publish(to_send, &self.deployment).await,
                Err(error) => reports.push(DeliveryReport::Refused(error)),
            }
        }
        if reports.len() == to_send.len() {
            reports.extend(refused.map(|(_, report)| report));
        }
        reports.resize_with(events.len(), || DeliveryReport::NotSent);
        reports
    }

    async fn publish_alone(
        &self,
        producer: Result<Arc<Producer>, OutboxError>,
        event: &StoredEvent,
    ) -> DeliveryReport {
        let (topic, stalls) = (self.topic_of(event), &self.producers.stalls);
        if let Some(refused) = errors::stalled(&topic, stalls, Instant::now())
            && let Ok(producer) = &producer
            && !self.producers.may_try(producer, &topic).await
        {
            return refused;
        }
        match producer {
            Ok(producer) => {
                let event = std::slice::from_ref(event);
                let mut reports = producer.publish(event, &self.deployment).await;
                reports.pop().unwrap_or(DeliveryReport::NotSent)
            }
            Err(error) => DeliveryReport::Refused(error),
        }
    }
}

impl std::fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("brokers", &self.producers.config.properties.brokers())
            .field("source", &self.deployment.source)
            .field("topic_prefix", &self.deployment.prefix)
            .finish_non_exhaustive()
    }
}
