//! The consumer on Kafka.

mod budget;
mod builder;
mod client;
mod cluster;
mod config;
mod dead_letters;
mod described;
mod forward;
mod group_topics;
mod jobs;
mod lag;
mod locate;
mod main_loop;
mod records;
mod run;
mod settings;
mod startup;
mod tail;
mod temporary_topic;
mod topic_settings;
mod topics;

use std::future::Future;

pub use builder::ConsumerBuilder;
pub use dead_letters::{
    BulkOptions, DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterStream, DeadLetters,
    DeadLettersBuilder, NotADeadLetterId, OpenDeadLetters, OpenOfGroup, Progress, Resolved,
    Selection,
};
pub use described::{ClusterDescription, TopicDescription};
pub use group_topics::{GroupTopics, GroupTopicsBuilder, PlannedTopic, TopicFault, TopicPlan};
pub use lag::{ConsumerGroups, GroupLag};
pub use locate::{TopicPlace, TopicPlaces, TopicSearch};
pub use tail::{TailedItem, TailedMessage, TopicTail, TopicTailBuilder};
pub use temporary_topic::TemporaryTopic;

use rdkafka::ClientConfig;

use settings::Settings;
use topics::Plan;

use super::attempt::Group;
use super::worker::Consumed;
use crate::error::OutboxError;
use crate::kafka::{KafkaConfig, Properties, TopicPrefix};
use crate::observe::{Health, Heartbeat, target};
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
/// its group even if its handlers are slow.
///
/// **Failure.** An event whose handler fails is tried again, with growing pauses (its key waits,
/// others continue); then, if the handler has [retry
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
/// let consumer = Consumer::builder(outbox, "localhost:9092")
///     .group("inventory")
///     .handler(handler_fn(reserve))
///     .build()?;
/// let consumed =
///     consumer.run(async { _ = tokio::signal::ctrl_c().await }).await?;
/// println!("{} events handled", consumed.handled);
/// # Ok(())
/// # }
/// # }
/// ```
///
/// # Properties
/// Those of its [`KafkaConfig`], and these defaults for names that are not among them. A few are
/// refused, because a guarantee rests on them. Those that say how to reach the brokers hold for the
/// producer of retries and dead letters too.
///
/// | property | default |
/// |---|---|
/// | `client.id` | `outbox` |
/// | `group.id` | the consumer's group, refused otherwise |
/// | `enable.auto.offset.store` | `false`, refused otherwise |
/// | `enable.auto.commit` | `true`, refused otherwise |
/// | `auto.commit.interval.ms` | librdkafka's 5 s; `0` is refused |
/// | `auto.offset.reset` | `earliest`; `latest` is refused |
/// | `isolation.level` | `read_committed`, refused otherwise |
/// | `check.crcs`, `offset.store.method`, `topic.blacklist`, `api.version.request` | librdkafka's, refused otherwise |
/// | `partition.assignment.strategy` | `range`, so that every member has its part of each topic. `cooperative-sticky` interrupts less when members come and go, but shares out the sum of all partitions, those of the retry topics included |
/// | `session.timeout.ms` | `10000`: how long the partitions of a killed process are idle. Shorter than what suspends a process (a virtual machine that moves), it makes members come and go. `group.instance.id` makes the membership static |
/// | `topic.metadata.refresh.interval.ms` | `10000` |
/// | `allow.auto.create.topics` | `false` |
/// | `queued.min.messages` | `1000` |
/// | `queued.max.messages.kbytes` | `16384` |
/// | `fetch.queue.backoff.ms` | `10`: librdkafka's second is longer than fast handlers take for what is fetched ahead |
/// | `fetch.max.bytes` | `16777216` |
/// | `statistics.interval.ms` | `5000` with the feature `metrics`, of which `outbox_consumer_lag` is made |
pub struct Consumer<DB: OutboxDatabase> {
    group: Group<DB>,
    plan: Plan,
    kafka: KafkaConfig,
    /// What the user has set, and our defaults.
    properties: Properties,
    prefix: TopicPrefix,
    client: ClientConfig,
    settings: Settings,
    heartbeat: Heartbeat,
}

impl<DB: OutboxDatabase> Consumer<DB> {
    /// Whether it is ready, and whether it is live: for the probes of an orchestrator.
    #[must_use]
    pub fn health(&self) -> Health {
        self.heartbeat.health()
    }

    /// Consumes until `shutdown` resolves, and says how much; the events in hand are finished
    /// first, for as long as [`drain_timeout`](ConsumerBuilder::drain_timeout). While the broker or
    /// the database is away, it waits and continues by itself.
    ///
    /// # Errors
    /// If a topic for retries or dead letters is missing and cannot be created, if the inbox's
    /// table is missing, or if, at the start, the database refuses the login, TLS with it fails, or
    /// the brokers refuse the credentials or the certificate. Nothing is skipped.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Consumed, OutboxError> {
        let group = self.group.name.clone();
        // On the heap, so that the caller's future does not carry its size.
        let consumed = Box::pin(run::run(self, shutdown)).await;
        // The result of a spawned task may be dropped unread.
        if let Err(error) = &consumed {
            tracing::error!(target: target::CONSUMER, group = &*group, %error, "the consumer ended: events stay on their topics until one runs again");
        }
        consumed
    }
}

impl<DB: OutboxDatabase> std::fmt::Debug for Consumer<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group.name)
            .field("topic_prefix", &self.prefix)
            .field("kafka", &self.kafka)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
