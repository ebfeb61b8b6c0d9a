//! The consumer side: handlers that run in a database transaction, once per event and group.

mod config;
mod deliver;
mod failure;
mod handler;
mod run;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use rdkafka::ClientConfig;

pub use handler::{EventContext, EventHandler, HandlerFn, handler_fn};

use crate::codec::Decode;
use crate::error::OutboxError;
use crate::event::DomainEvent;
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;
use handler::{AnyHandler, Handler};

/// An idempotent consumer: of each event, its handler's changes are made once per group.
///
/// For each event it begins a transaction, notes the event's id in the inbox, runs the handler, commits, and only
/// then stores the Kafka offset. An event that comes again — delivery is at least once — is found in the inbox and
/// skipped. What a handler emits on its `tx` is part of the same transaction: consume, change and produce succeed or
/// fail as one. What a handler does *outside* of `tx` (an e-mail, a call to another service) is done again when the
/// event comes again.
///
/// **Order.** Events of one partition, and so of one key, are handled one after the other, in order. A handler that
/// fails is retried until it succeeds, and its partition waits; an event that cannot be decoded stops the consumer
/// with an error. Neither is ever skipped.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] mod example {
/// # use outbox_runtime::{DomainEvent, Outbox, OutboxTx, OutboxError, EventDescriptor, Json};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct OrderCreated { sku: String }
/// # impl DomainEvent for OrderCreated {
/// #     type Codec = Json;
/// #     const DESCRIPTORS: &'static [EventDescriptor] = &[];
/// #     fn descriptor(&self) -> &'static EventDescriptor { &Self::DESCRIPTORS[0] }
/// #     fn key(&self) -> Option<Vec<u8>> { None }
/// # }
/// use outbox_runtime::consume::{Consumer, EventContext, handler_fn};
///
/// async fn reserve(
///     tx: &mut OutboxTx<'_, sqlx::Sqlite>,
///     event: OrderCreated,
///     _: &EventContext,
/// ) -> Result<(), sqlx::Error> {
///     sqlx::query("update stock set reserved = reserved + 1 where sku = $1").bind(event.sku).execute(tx).await?;
///     Ok(())
/// }
///
/// # async fn example(outbox: Outbox<sqlx::Sqlite>) -> Result<(), OutboxError> {
/// let consumed = Consumer::new(outbox, "localhost:9092", "inventory")
///     .handler(handler_fn(reserve))
///     .run(async { _ = tokio::signal::ctrl_c().await })
///     .await?;
/// println!("{} events handled, {} came again", consumed.handled, consumed.duplicates);
/// # Ok(())
/// # }
/// # }
/// ```
pub struct Consumer<DB: OutboxDatabase> {
    outbox: Outbox<DB>,
    group: String,
    properties: BTreeMap<String, String>,
    handlers: Vec<Box<dyn AnyHandler<DB>>>,
}

impl<DB: OutboxDatabase> Consumer<DB> {
    /// A consumer in the group `group`, which keeps its inbox in the tables of `outbox`.
    pub fn new(outbox: Outbox<DB>, bootstrap_servers: impl Into<String>, group: impl Into<String>) -> Self {
        let group = group.into();
        let properties = config::defaults(bootstrap_servers.into(), &group);
        Self { outbox, group, properties, handlers: Vec::new() }
    }

    /// Adds a handler. It gets the events of its type's names and versions; the topics of all handlers are
    /// subscribed to. Events of other names on these topics are passed over.
    #[must_use]
    pub fn handler<H>(mut self, handler: H) -> Self
    where
        H: EventHandler<DB>,
        <H::Event as DomainEvent>::Codec: Decode<H::Event>,
    {
        self.handlers.push(Box::new(Handler(handler)));
        self
    }

    /// Any property of librdkafka, in its own names. Ours are `auto.offset.reset=earliest`,
    /// `isolation.level=read_committed`, `topic.metadata.refresh.interval.ms=10000`, `partition.assignment.strategy=cooperative-sticky` and `client.id=outbox`.
    /// [`run`](Self::run) refuses those on which a guarantee rests: `enable.auto.offset.store`,
    /// `enable.auto.commit` and `group.id`.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Consumes until `shutdown` resolves, and says how much; the event in hand is finished first. While the broker or the database is
    /// away, it waits and goes on by itself.
    ///
    /// # Errors
    /// If the settings are wrong, if two handlers take the same event, if the inbox's table is missing, or if an
    /// event cannot be decoded: the error says which and where. Its offset is not stored, so nothing is skipped.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Consumed, OutboxError> {
        let config: ClientConfig = config::checked(&self.properties, &self.group)?;
        let routes = deliver::Routes::new(self.handlers)?;
        let group = Arc::from(self.group);
        run::run(self.outbox, group, config, routes, shutdown).await
    }
}

/// What a consumer did from its start to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumed {
    /// Events whose handler's changes were committed.
    pub handled: u64,
    /// Events that the inbox knew: skipped.
    pub duplicates: u64,
    /// Events of names that no handler takes.
    pub passed_over: u64,
}

impl<DB: OutboxDatabase> std::fmt::Debug for Consumer<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("group", &self.group).finish_non_exhaustive()
    }
}
