//! The settings of a consumer, and what is checked of them before anything is started.

use std::time::Duration;

use outbox_event::{Decode, DomainEvent};

use super::settings::Settings;
use super::topics::Plan;
use super::{Consumer, config};
use crate::consume::attempt::Group;
use crate::consume::erased::{AnyHandler, EventOf, Handler};
use crate::consume::group_name::group_name;
use crate::consume::handler::EventHandler;
use crate::consume::policy::{Settled, Undecodable, UnknownEvents};
use crate::consume::route::Routes;
use crate::durations::{LONGEST_KEEPING, LONGEST_WAIT, within};
use crate::error::OutboxError;
use crate::kafka::{KafkaConfig, TopicPrefix};
use crate::observe::{Heartbeat, Meter};
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;
use crate::trace::Relation;

/// A main loop that turns less often is stuck: it waits for nothing but what happens next.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// The settings of a [`Consumer`].
pub struct ConsumerBuilder<DB: OutboxDatabase> {
    outbox: Outbox<DB>,
    kafka: KafkaConfig,
    group: Option<String>,
    topic_prefix: String,
    handlers: Vec<Box<dyn AnyHandler<DB>>>,
    settings: Settings,
}

impl<DB: OutboxDatabase> Consumer<DB> {
    /// The settings of a consumer that keeps its inbox in the tables of `outbox`. `kafka` may be
    /// `"host:port,host:port"`.
    pub fn builder(outbox: Outbox<DB>, kafka: impl Into<KafkaConfig>) -> ConsumerBuilder<DB> {
        ConsumerBuilder::new(outbox, kafka.into())
    }
}

impl<DB: OutboxDatabase> ConsumerBuilder<DB> {
    fn new(outbox: Outbox<DB>, kafka: KafkaConfig) -> Self {
        let (group, topic_prefix, handlers, settings) = Default::default();
        Self { outbox, kafka, group, topic_prefix, handlers, settings }
    }

    /// The consumer group. Default: the one that the handlers name themselves; this one replaces
    /// it. Kafka shares the partitions out among the consumers of a group, the inbox remembers by
    /// it, and it is part of the names of the topics for retries and dead letters.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// What the names of this deployment's topics begin with on the brokers: those of its events,
    /// as its publisher sets it ([`KafkaPublisherBuilder::topic_prefix`]), and those of its retries
    /// and dead letters. Default: empty. Code names topics without it, see
    /// [`EventContext::topic`](crate::consume::EventContext::topic).
    ///
    /// Deployments with different prefixes do not see each other's events. Each needs tables of its
    /// own, and should have a [`group`](Self::group) of its own: Kafka makes members of one group
    /// wait for each other whenever one joins or leaves, whatever their topics.
    ///
    /// [`KafkaPublisherBuilder::topic_prefix`]: crate::publish::kafka::KafkaPublisherBuilder::topic_prefix
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// Adds a handler. It gets the events of its type's names and versions; the topics of all
    /// handlers are subscribed to. Events of other names on these topics are skipped, see
    /// [`unknown_events`](Self::unknown_events). To change its options for this consumer, add
    /// `reserve().with_options(…)`: see [`EventHandler::with_options`].
    #[must_use]
    pub fn handler<H>(mut self, handler: H) -> Self
    where
        H: EventHandler<DB>,
        <EventOf<H, DB> as DomainEvent>::Codec: Decode<EventOf<H, DB>>,
    {
        self.handlers.push(Box::new(Handler::new(handler)));
        self
    }

    /// Number of events that are handled at the same time, each of another key and on a connection
    /// of its own: the pool should have as many. Default: 8; at least 1, at most a million.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers.clamp(1, 1_000_000);
        self
    }

    /// Most events of a partition in hand: being handled, waiting for their turn or for a retry.
    /// With more, the partition is paused. Default: 1,000; at least 1.
    #[must_use]
    pub fn max_in_flight(mut self, events: usize) -> Self {
        self.settings.max_in_flight = events.max(1);
        self
    }

    /// Most bytes of messages in hand, of all partitions together. Half of it is for the partitions
    /// that come first, and half is shared evenly; a partition that has used up its share is
    /// paused. One message of each partition can always be in hand, whatever its size. Default: 64
    /// MiB.
    ///
    /// Besides, librdkafka holds what it fetches ahead: 16 MiB (`queued.max.messages.kbytes`), and
    /// an answer of each broker, of up to 16 MiB (`fetch.max.bytes`). What a handler makes of its
    /// event comes on top, [`concurrency`](Self::concurrency) times.
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.settings.max_bytes_in_flight = bytes;
        self
    }

    /// Longest time that a shutdown waits for running handlers. Default: 10 s; at most 30 days.
    /// What was not committed by then is rolled back, and comes again.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = within(timeout, Duration::ZERO, LONGEST_WAIT);
        self
    }

    /// What becomes of messages that cannot be decoded. Default: they become dead letters.
    #[must_use]
    pub fn undecodable(mut self, undecodable: Undecodable) -> Self {
        self.settings.undecodable = undecodable;
        self
    }

    /// What becomes of events whose name no handler takes. Default: they are skipped, and the first
    /// of each name is logged as a warning.
    #[must_use]
    pub fn unknown_events(mut self, unknown: UnknownEvents) -> Self {
        self.settings.unknown_events = unknown;
        self
    }

    /// Whether to create the topics for retries and dead letters that are missing: with as many
    /// partitions as their topic, the broker's own replication factor, room for all that their
    /// topic takes and our headers, and a retention that is longer than the delays. Default: yes.
    /// If not, and they are missing, [`run`](Consumer::run) ends with an error that names them.
    #[must_use]
    pub fn create_topics(mut self, create: bool) -> Self {
        self.settings.create_topics = create;
        self
    }

    /// What the span that emitted an event is to the span `process {topic}` of its first delivery,
    /// if the outbox has a [`propagation`](crate::OutboxBuilder::propagation). Default: its parent,
    /// so that one trace shows a request and all that its events lead to. With
    /// [`Relation::Link`], each handling is a trace of its own. That of a later delivery is linked
    /// in any case: see [`trace`](crate::trace).
    #[must_use]
    pub fn first_delivery(mut self, relation: Relation) -> Self {
        self.settings.first_delivery = relation;
        self
    }

    /// How long handled ids are kept. Default: 15 days; at least an hour, at most 100 years. Must
    /// exceed the longest time after which a message can come again: `retention.ms` + `segment.ms`
    /// (with Kafka's defaults, 14 days on a quiet topic), and any replay. An event that comes again
    /// later is handled again. It is never less than twice the delays of a handler's retry topics
    /// together.
    #[must_use]
    pub fn inbox_retention(mut self, retention: Duration) -> Self {
        self.settings.inbox_retention =
            within(retention, Duration::from_secs(60 * 60), LONGEST_KEEPING);
        self
    }

    /// The consumer. It does not connect yet.
    ///
    /// # Errors
    /// If there is no group, no handler or no broker; if two handlers take the same event, name
    /// different groups, or disagree on the order of a topic's keys; if an option of a handler
    /// makes no sense; if Kafka would not accept the name of a topic; if librdkafka does not know a
    /// property or its value, or if a property would break a guarantee: the error says which.
    pub fn build(self) -> Result<Consumer<DB>, OutboxError> {
        let named = self.handlers.iter().map(|handler| handler.options().group);
        let name = group_name(self.group.as_deref(), named)?;
        let prefix = TopicPrefix::new(&self.topic_prefix)?;
        let properties = config::with_defaults(&self.kafka);
        let client = config::checked(&properties, &name)?;
        let routes = Routes::new(self.handlers)?;
        let plan = Plan::new(&routes, &name, &prefix)?;
        config::try_out(&client, &properties)?;
        let first_delivery = self.settings.first_delivery;
        let group = Group { outbox: self.outbox, name: name.into(), routes, first_delivery };
        let meter = group.meter();
        register(&group, &meter);
        Ok(Consumer {
            group,
            plan,
            kafka: self.kafka,
            properties,
            prefix,
            client,
            settings: self.settings,
            heartbeat: Heartbeat::new(LONGEST_TURN, meter),
        })
    }
}

/// Has a consumer appear in the metrics with zeros.
pub(super) fn register<DB: OutboxDatabase>(group: &Group<DB>, meter: &Meter) {
    meter.register_consumer(group.routes.events(), &Settled::ALL.map(Settled::as_str));
}

impl<DB: OutboxDatabase> std::fmt::Debug for ConsumerBuilder<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("topic_prefix", &self.topic_prefix)
            .field("kafka", &self.kafka)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
