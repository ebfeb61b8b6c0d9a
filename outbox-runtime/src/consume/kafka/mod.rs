//! The consumer on Kafka.

mod budget;
mod client;
mod config;
mod dead_letters;
mod forward;
mod run;
mod topic_settings;
mod topics;

use std::future::Future;
use std::time::Duration;

pub use dead_letters::{DeadLetter, DeadLetters};

use super::attempt::Group;
use super::erased::{AnyHandler, EventOf, Handler};
use super::handler::EventHandler;
use super::policy::{Undecodable, UnknownEvents};
use super::route::Routes;
use super::worker::Consumed;
use crate::codec::Decode;
use crate::durations::{LONGEST_KEEPING, LONGEST_WAIT, within};
use crate::error::OutboxError;
use crate::event::DomainEvent;
use crate::kafka::Properties;
use crate::observe::target;
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;

/// An idempotent consumer: of each event, its handler's changes are made once per group.
///
/// For each event it begins a transaction, notes the event's id in the inbox, runs the handler,
/// commits, and only then stores the Kafka offset. An event that comes again — delivery is at least
/// once — is found in the inbox and skipped. What a handler emits on its `tx` is part of the same
/// transaction: consume, change and produce succeed or fail as one. What a handler does *outside*
/// of `tx` (an e-mail, a call to another service) is done again when the event comes again.
///
/// **Order.** Events of one key are handled one after the other, in order; different keys at the
/// same time, also of one partition. The offset of a partition moves up to the first event that is
/// not done. While too many events are in hand, the partition is paused, and the consumer stays in
/// its group, however slow its handlers are.
///
/// **Failure.** An event whose handler fails is tried again, with growing pauses (its key waits,
/// others go on); then, if the handler has [retry
/// topics](crate::consume::HandlerOptions::retry_topics), later; and in the end it becomes a dead
/// letter, on `<topic>.<group>.dlt`, from where [`DeadLetters`] replays it. A panic and a timeout
/// are failures like others (but with `panic = "abort"`, which ends the process). An event that
/// cannot be decoded, or is decoded as another one than its headers say, is a dead letter at once.
/// While the database or the brokers are away, the consumer waits: that costs no event its
/// attempts. Nothing is dropped: a dead letter that cannot be written stops its partition.
///
/// ```no_run
/// # mod example {
/// # use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "order-events")]
/// # struct OrderCreated { #[event(key)] sku: String }
/// use outbox::consume::{Consumer, EventContext, handler_fn};
///
/// async fn reserve(
///     tx: &mut OutboxTx<'_, sqlx::Sqlite>,
///     event: OrderCreated,
///     _: &EventContext,
/// ) -> Result<(), sqlx::Error> {
///     sqlx::query("update stock set reserved = reserved + 1 where sku = $1")
///         .bind(event.sku)
///         .execute(&mut *tx)
///         .await?;
///     Ok(())
/// }
///
/// # async fn example(outbox: Outbox<sqlx::Sqlite>) -> Result<(), OutboxError> {
/// let consumed = Consumer::new(outbox, "localhost:9092")
///     .group("inventory")
///     .handler(handler_fn(reserve))
///     .run(async { _ = tokio::signal::ctrl_c().await })
///     .await?;
/// println!("{} events handled", consumed.handled);
/// # Ok(())
/// # }
/// # }
/// ```
pub struct Consumer<DB: OutboxDatabase> {
    outbox: Outbox<DB>,
    group: Option<String>,
    properties: Properties,
    handlers: Vec<Box<dyn AnyHandler<DB>>>,
    settings: Settings,
}

#[derive(Debug, Clone)]
struct Settings {
    concurrency: usize,
    max_in_flight: usize,
    max_bytes_in_flight: usize,
    drain_timeout: Duration,
    undecodable: Undecodable,
    unknown_events: UnknownEvents,
    create_topics: bool,
    inbox_retention: Duration,
}

impl<DB: OutboxDatabase> Consumer<DB> {
    /// A consumer that keeps its inbox in the tables of `outbox`. Its group is that of its
    /// handlers, or [`group`](Self::group).
    pub fn new(outbox: Outbox<DB>, bootstrap_servers: impl Into<String>) -> Self {
        Self {
            outbox,
            group: None,
            properties: config::defaults(bootstrap_servers.into()),
            handlers: Vec::new(),
            settings: Settings {
                concurrency: 8,
                max_in_flight: 1_000,
                max_bytes_in_flight: 64 << 20,
                drain_timeout: Duration::from_secs(10),
                undecodable: Undecodable::DeadLetter,
                unknown_events: UnknownEvents::Skip,
                create_topics: true,
                inbox_retention: Duration::from_secs(15 * 24 * 60 * 60),
            },
        }
    }

    /// The consumer group, for handlers that do not name one. Kafka shares the partitions out among
    /// the consumers of a group, and the inbox remembers by it.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Adds a handler. It gets the events of its type's names and versions; the topics of all
    /// handlers are subscribed to. Events of other names on these topics are skipped, see
    /// [`unknown_events`](Self::unknown_events).
    #[must_use]
    pub fn handler<H>(mut self, handler: H) -> Self
    where
        H: EventHandler<DB>,
        <EventOf<H, DB> as DomainEvent>::Codec: Decode<EventOf<H, DB>>,
    {
        self.handlers.push(Box::new(Handler::new(handler)));
        self
    }

    /// Any property of librdkafka, in its own names. Ours are `auto.offset.reset=earliest`,
    /// `isolation.level=read_committed`, `topic.metadata.refresh.interval.ms=10000`,
    /// `allow.auto.create.topics=false`, `client.id=outbox`,
    /// - `partition.assignment.strategy=range`, so that every member has its part of each topic:
    ///   `cooperative-sticky` interrupts less when members come and go, but shares out the sum of
    ///   all partitions, those of the retry topics included;
    /// - `session.timeout.ms=10000`: for as long, the partitions of a process that was killed are
    ///   idle. Shorter than what suspends a process (a full garbage collection next door, a virtual
    ///   machine that moves) it makes members come and go. `group.instance.id` makes the membership
    ///   static.
    ///
    /// Those that say how to reach the brokers hold for the producer of retries and dead letters
    /// too. [`run`](Self::run) refuses those on which a guarantee rests, and says why:
    /// `enable.auto.offset.store`, `enable.auto.commit`, `auto.commit.interval.ms=0`, `group.id`,
    /// `auto.offset.reset=latest`, `isolation.level=read_uncommitted`, `check.crcs`,
    /// `offset.store.method`, `topic.blacklist`, `api.version.request`.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name, value);
        self
    }

    /// How many events are handled at the same time, each of another key and on a connection of its
    /// own: the pool should have as many. Default: 8.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers.max(1);
        self
    }

    /// How many events of a partition may be in hand: being handled, waiting for their turn or for
    /// a retry. With more, the partition is paused. Default: 1,000.
    #[must_use]
    pub fn max_in_flight(mut self, events: usize) -> Self {
        self.settings.max_in_flight = events.max(1);
        self
    }

    /// How many bytes of messages may be in hand, of all partitions together. Half of it is for the
    /// partition that comes first, and half is shared out evenly; a partition that has used up its
    /// share is paused. However large it is, one message of each partition can be in hand. Default:
    /// 64 MiB.
    ///
    /// Besides, librdkafka holds what it fetches ahead: 16 MiB (`queued.max.messages.kbytes`), and
    /// an answer of each broker, of up to 16 MiB (`fetch.max.bytes`). What a handler makes of its
    /// event comes on top, [`concurrency`](Self::concurrency) times.
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.settings.max_bytes_in_flight = bytes;
        self
    }

    /// How long a shutdown waits for the handlers that are running. Default: 10 s; at most 30 days.
    /// What was not committed by then is rolled back, and comes again.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = within(timeout, Duration::ZERO, LONGEST_WAIT);
        self
    }

    /// What becomes of messages that are not what they should be. Default: dead letters.
    #[must_use]
    pub fn undecodable(mut self, undecodable: Undecodable) -> Self {
        self.settings.undecodable = undecodable;
        self
    }

    /// What becomes of events whose name no handler takes. Default: they are skipped, with a
    /// warning for the first of each name.
    #[must_use]
    pub fn unknown_events(mut self, unknown: UnknownEvents) -> Self {
        self.settings.unknown_events = unknown;
        self
    }

    /// Whether to create the topics for retries and dead letters that are missing: with as many
    /// partitions as their topic, the broker's own replication factor, room for all that their
    /// topic takes and our headers, and a retention that is longer than the delays. Default: yes.
    /// If not, and they are missing, [`run`](Self::run) ends with an error that names them.
    #[must_use]
    pub fn create_topics(mut self, create: bool) -> Self {
        self.settings.create_topics = create;
        self
    }

    /// For how long the inbox remembers. Default: 15 days; at least an hour, at most 100 years.
    /// With Kafka's defaults a quiet topic keeps a message for up to twice 7 days (`retention.ms`,
    /// and `segment.ms` for the segment that is being written): what the inbox has forgotten cannot
    /// come again then. An event that does come again after this is handled again; where topics
    /// keep messages for longer, or are replayed from the beginning, so must this be. It is never
    /// less than twice the longest delay of a retry topic.
    #[must_use]
    pub fn inbox_retention(mut self, retention: Duration) -> Self {
        self.settings.inbox_retention =
            within(retention, Duration::from_secs(60 * 60), LONGEST_KEEPING);
        self
    }

    /// Consumes until `shutdown` resolves, and says how much; the events in hand are finished
    /// first, for as long as [`drain_timeout`](Self::drain_timeout). While the broker or the
    /// database is away, it waits and goes on by itself.
    ///
    /// # Errors
    /// If the settings are wrong, if two handlers take the same event or name different groups, if
    /// a topic for retries or dead letters is missing and cannot be created, or if the inbox's
    /// table is missing. Nothing is skipped.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Consumed, OutboxError> {
        let group = self.group_name().unwrap_or_default();
        let consumed = self.run_until(shutdown).await;
        // The result of a spawned task may be dropped unread.
        if let Err(error) = &consumed {
            tracing::error!(target: target::CONSUMER, group, %error, "the consumer ended: events stay on their topics until one runs again");
        }
        consumed
    }

    async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Consumed, OutboxError> {
        let group = self.group_name()?;
        let config = config::checked(&self.properties, &group)?;
        let routes = Routes::new(self.handlers)?;
        let plan = topics::Plan::new(&routes, &group)?;
        let group = Group { outbox: self.outbox, name: group.into(), routes };
        // On the heap, or whoever awaits it carries its size.
        Box::pin(run::run(group, plan, config, self.properties, self.settings, shutdown)).await
    }

    fn group_name(&self) -> Result<String, OutboxError> {
        let mut groups: Vec<&str> = self.group.as_deref().into_iter().collect();
        groups.extend(self.handlers.iter().filter_map(|handler| handler.options().group));
        groups.sort_unstable();
        groups.dedup();
        match &*groups {
            [group] if !group.trim().is_empty() => Ok((*group).to_owned()),
            [] | [_] => Err(OutboxError::config(
                "a consumer needs a group: what it has handled is remembered by group. Name it with `.group(…)` or on the \
                 handlers",
            )),
            groups => Err(OutboxError::config(format!(
                "a consumer has one group, and these are {}: make a consumer for each",
                groups.join(", ")
            ))),
        }
    }
}

impl<DB: OutboxDatabase> std::fmt::Debug for Consumer<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
