//! The handle of an outbox: transactions begin on it, and a service shares it with its relay.

mod admin;
pub(crate) mod core;
mod deadline;
mod events;
mod gauges;
#[cfg(feature = "postgres")]
mod handoff;
mod inbox;
mod migrating;
mod parked;
mod pausing;
mod tail;

use std::fmt;
use std::sync::Arc;

use sqlx::Pool;

use core::Core;
pub use core::DEFAULT_MAX_EVENT_BYTES;
pub use gauges::OutboxGauges;
pub(crate) use gauges::parked_topics;
#[cfg(feature = "postgres")]
pub use handoff::HandOff;
pub use tail::{EventTail, TailLook};

use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::names::Names;
use crate::store::tx_options::TxOptions;
use crate::trace::{Propagation, Tracing};
use crate::tx::{BeginTransaction, OutboxTx};

/// The handle of an outbox: a pool, where its tables are, and the doorbell of the relay. Cheap to
/// clone; share one per database among the services and the relay of a process.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use outbox::Outbox;
///
/// let pool = sqlx::SqlitePool::connect("sqlite://orders.db?mode=rwc").await?;
/// let outbox = Outbox::new(pool);
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
pub struct Outbox<DB: OutboxDatabase>(Arc<Core<DB>>);

impl<DB: OutboxDatabase> Outbox<DB> {
    /// An outbox in the tables `outbox_…` of the pool's database, with all settings at their
    /// defaults.
    pub fn new(pool: Pool<DB>) -> Self {
        let core =
            Core::new(pool, Names::default(), DEFAULT_MAX_EVENT_BYTES, Tracing::default(), true);
        core.meter.register_service();
        Self(Arc::new(core))
    }

    /// An outbox with other settings.
    pub fn builder(pool: Pool<DB>) -> OutboxBuilder<DB> {
        OutboxBuilder {
            pool,
            names: Names::default(),
            max_event_bytes: DEFAULT_MAX_EVENT_BYTES,
            tracing: Tracing::default(),
            notify: true,
            name: None,
        }
    }

    /// The pool that it was made with.
    #[must_use]
    pub fn pool(&self) -> &Pool<DB> {
        &self.0.pool
    }

    /// Begins a transaction. What is emitted on it becomes part of the outbox when it commits.
    ///
    /// This is what `#[transactional_outbox]` calls; it works alone as well:
    ///
    /// ```
    /// # async fn example<E: outbox::DomainEvent>(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>, order_created: E,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// let mut tx = outbox.begin().await?;
    /// sqlx::query("insert into orders (id) values (1)").execute(&mut tx).await?;
    /// tx.emit(order_created)?;
    /// tx.commit().await?; // dropped instead: rolled back, with its events
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If no connection is free in time, or the database refuses to begin. Dropping the future
    /// leaves the pool usable.
    pub async fn begin(&self) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.begin_with(TxOptions::new()).await
    }

    /// Begins a transaction with an isolation level or a name of its own.
    ///
    /// ```
    /// # async fn example(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// use outbox::tx::{Isolation, TxOptions};
    ///
    /// let serializable = TxOptions::new().isolation(Isolation::Serializable);
    /// let tx = outbox.begin_with(serializable).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`begin`](Self::begin). A conflict with a concurrent transaction, here or later, is an
    /// error of the kind [`ErrorKind::Conflict`](crate::ErrorKind::Conflict): begin again, and
    /// repeat everything.
    pub async fn begin_with(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        OutboxTx::begin(Arc::clone(&self.0), options).await
    }

    /// Joins a transaction that sqlx has open: in a savepoint of it, with the outbox's events.
    /// After [`OutboxTx::commit`] they are part of the sqlx transaction, and live or die with it.
    ///
    /// The outbox does not learn when that one commits: call [`ring`](Self::ring) after it, or let
    /// the relay find the events at its next poll.
    ///
    /// ```
    /// # async fn example<E: outbox::DomainEvent>(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>, order_created: E,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// let mut sqlx_tx = outbox.pool().begin().await?;
    /// sqlx::query("insert into orders (id) values (1)")
    ///     .execute(&mut *sqlx_tx)
    ///     .await?;
    ///
    /// let mut tx = outbox.attach(&mut sqlx_tx).await?;
    /// tx.emit(order_created)?;
    /// tx.commit().await?;
    ///
    /// sqlx_tx.commit().await?;
    /// outbox.ring();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the database refuses the savepoint.
    pub async fn attach<'c>(
        &self,
        transaction: &'c mut sqlx::Transaction<'_, DB>,
    ) -> Result<OutboxTx<'c, DB>, OutboxError> {
        OutboxTx::attach(Arc::clone(&self.0), transaction).await
    }

    /// Wakes the relays, here and in other processes. Transactions that the outbox commits itself
    /// ring already.
    pub fn ring(&self) {
        self.0.ring();
    }

    pub(crate) fn core(&self) -> &Core<DB> {
        &self.0
    }
}

impl<DB: OutboxDatabase> BeginTransaction for Outbox<DB> {
    type Database = DB;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, DB>, OutboxError> {
        self.begin_with(options).await
    }
}

impl<DB: OutboxDatabase> Clone for Outbox<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("names", &self.0.names).finish_non_exhaustive()
    }
}

/// The settings of an [`Outbox`].
#[derive(Debug)]
pub struct OutboxBuilder<DB: OutboxDatabase> {
    pool: Pool<DB>,
    names: Names,
    max_event_bytes: usize,
    tracing: Tracing,
    notify: bool,
    name: Option<String>,
}

impl<DB: OutboxDatabase> OutboxBuilder<DB> {
    /// Schema of the outbox's tables (Postgres). Default: none; the connection's `search_path`
    /// decides.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.names.schema = Some(schema.into());
        self
    }

    /// Prefix of the names of the outbox's tables. Default: `outbox_`. Two outboxes in one schema
    /// need different prefixes.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.prefix = prefix.into();
        self
    }

    /// Size of the largest event that `emit` accepts, in bytes of payload, key and headers.
    /// Default: [`DEFAULT_MAX_EVENT_BYTES`]. Raise it only together with `message.max.bytes` of the
    /// relay's publisher and `max.message.bytes` of the topics: an event that Kafka refuses is
    /// parked. At most 500,000,000 bytes: half of what librdkafka and Postgres can take at all.
    #[must_use]
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes.min(500_000_000);
        self
    }

    /// How the trace of the current span goes with the events that are emitted in it, through the
    /// outbox and Kafka to their handlers: an implementation is in the package
    /// `outbox-opentelemetry`. The relays and consumers that are made with this outbox then make
    /// the spans of [`trace`](crate::trace). Default: none; there are no spans, and what a handler
    /// emits has the trace context of the event that it handles.
    #[must_use]
    pub fn propagation(mut self, propagation: impl Propagation) -> Self {
        self.tracing = Tracing::by(propagation);
        self
    }

    /// Whether commits wake the relays of other processes (Postgres: a `NOTIFY` after the commit,
    /// from a connection of its own, at most one in 5 ms, and none while the relay of this process
    /// has all lanes). Default: yes. Behind a transaction pooler `NOTIFY` works as well, but the
    /// relay's `LISTEN` needs a direct connection.
    #[must_use]
    pub fn notify_other_processes(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// What it is called in metrics, by their label `outbox`. Default: the schema, if one is set,
    /// and the table prefix, as in `sales.outbox`. Two outboxes of a process with the same name are
    /// one in the metrics: give outboxes that differ only in their databases a name each.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The outbox.
    ///
    /// # Errors
    /// If the database would not accept the schema or the prefix.
    pub fn build(self) -> Result<Outbox<DB>, OutboxError> {
        let Self { pool, names, max_event_bytes, tracing, notify, name } = self;
        let has_nul = |name: &str| name.contains('\0');
        if has_nul(&names.prefix)
            || names.schema.as_deref().is_some_and(|s| s.is_empty() || has_nul(s))
        {
            return Err(OutboxError::config(
                "the schema of the outbox is empty, or it or the prefix contains a NUL",
            ));
        }
        DB::check_names(&names)?;
        let core = Core::new(pool, names, max_event_bytes, tracing, notify);
        let core = core.named(name.as_deref());
        core.meter.register_service();
        Ok(Outbox(Arc::new(core)))
    }
}
