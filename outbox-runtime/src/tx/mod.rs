//! The transaction that events are emitted on.

mod begin;
mod commit;
mod ended;
mod executor;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outbox_event::{DomainEvent, EventKey};
use sqlx::pool::PoolConnection;
use sqlx_core::transaction::TransactionManager;
use uuid::Uuid;

pub use crate::store::tx_options::{Isolation, TxOptions};
pub use begin::{BeginOutbox, BeginTransaction, Lend};

use crate::check::check;
use crate::error::OutboxError;
use crate::outbox::core::Core;
use crate::record::EventRecord;
use crate::store::OutboxDatabase;
use crate::store::doubt::Doubt;
use crate::trace::TraceContext;

/// A database transaction with a buffer of events, which [`commit`](Self::commit) inserts just
/// before it commits.
///
/// Queries run on it as on a transaction of sqlx: `execute(&mut *tx)`. A function that takes `tx:
/// &mut OutboxTx<'_, DB>` joins the transaction: there is no way to commit a borrowed one. Dropped
/// without [`commit`](Self::commit), by an early return, a panic or a dropped future, it rolls
/// back, and its events were never there.
///
/// **Order.** Events of one key are delivered in the order in which their transactions committed
/// *if* each held the lock of what the key names (the row of the customer, or an advisory lock)
/// before it emitted. Without such a lock there is no order: the transactions ran at the same time.
pub struct OutboxTx<'c, DB: OutboxDatabase> {
    link: Link<'c, DB>,
    enclosing: Enclosing<'c>,
    core: Arc<Core<DB>>,
    events: Vec<EventRecord>,
    /// Trace context of events that are emitted outside of any span.
    trace: TraceContext,
    /// Whether there is something to roll back.
    open: bool,
    /// Number of transactions and savepoints open on the connection, as sqlx counts them, this one
    /// included.
    depth: usize,
    doubt: Doubt,
    /// Set once the database refuses a statement because of a conflict with a concurrent
    /// transaction. `None`: not watched.
    conflict: Option<Arc<AtomicBool>>,
    /// Whether dropping it before its end closes its connection.
    closes_if_dropped: bool,
}

/// The connection that the transaction is open on.
pub(crate) enum Link<'c, DB: OutboxDatabase> {
    Pool(PoolConnection<DB>),
    Borrowed(&'c mut DB::Connection),
}

impl<DB: OutboxDatabase> Link<'_, DB> {
    fn connection(&self) -> &DB::Connection {
        match self {
            Self::Pool(connection) => connection,
            Self::Borrowed(connection) => connection,
        }
    }

    fn connection_mut(&mut self) -> &mut DB::Connection {
        match self {
            Self::Pool(connection) => connection,
            Self::Borrowed(connection) => connection,
        }
    }
}

/// What a transaction is part of, which decides what its commit means.
pub(crate) enum Enclosing<'c> {
    /// It is the database transaction itself.
    Nothing,
    /// A savepoint of a transaction that sqlx opened, whose end is not seen.
    SqlxTransaction,
    /// A savepoint of an `OutboxTx`: its events are added to those of the outer one, which is then
    /// known to be open.
    OutboxTx(&'c mut Vec<EventRecord>, &'c mut Doubt),
}

impl<'c, DB: OutboxDatabase> OutboxTx<'c, DB> {
    pub(crate) fn new(link: Link<'c, DB>, enclosing: Enclosing<'c>, core: Arc<Core<DB>>) -> Self {
        let depth = DB::TransactionManager::get_transaction_depth(link.connection());
        Self {
            link,
            enclosing,
            core,
            events: Vec::new(),
            trace: TraceContext::default(),
            open: true,
            depth,
            doubt: Doubt::default(),
            conflict: None,
            closes_if_dropped: false,
        }
    }

    /// Adds an event to the transaction and returns its id: it will be published if, and only if,
    /// the transaction commits. The event is serialized now, and kept in memory until the commit
    /// inserts all of the transaction's events with one statement.
    ///
    /// # Errors
    /// If it cannot be serialized, is larger than
    /// [`max_event_bytes`](crate::OutboxBuilder::max_event_bytes), or has something that Kafka or a
    /// database cannot accept: [`ErrorKind::InvalidEvent`](crate::ErrorKind::InvalidEvent). It is
    /// not emitted then; return the error, and the transaction is rolled back.
    pub fn emit<E: DomainEvent>(&mut self, event: E) -> Result<Uuid, OutboxError> {
        self.emit_record(EventRecord::from_event(&event)?)
    }

    /// Emits the events in their order, as [`emit`](Self::emit) does with each, and returns their
    /// ids. The events may be borrowed: `tx.emit_all(&events)`.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), for the first event that is refused: none of them is emitted then.
    pub fn emit_all<E: DomainEvent>(
        &mut self,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Vec<Uuid>, OutboxError> {
        let trace = self.current_trace();
        let records: Vec<_> = events
            .into_iter()
            .map(|event| self.completed(EventRecord::from_event(&event)?, &trace))
            .collect::<Result<_, _>>()?;
        let ids = records.iter().map(|record| record.id).collect();
        self.events.extend(records);
        Ok(ids)
    }

    /// As [`emit`](Self::emit), but to this partition, for any key. A key's events are in order
    /// within a partition: send all of them to the same one. If the topic has no such partition,
    /// the event is parked.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn emit_to_partition<E: DomainEvent>(
        &mut self,
        partition: i32,
        event: E,
    ) -> Result<Uuid, OutboxError> {
        self.emit_record(EventRecord {
            partition: Some(partition),
            ..EventRecord::from_event(&event)?
        })
    }

    /// Emits a tombstone: a message with the key and without a payload, by which a compacted topic
    /// forgets the events `E` of this key. Its order with them is that of the key. For a key of
    /// several parts, give [`event_key`](crate::event_key)`(&[…])`.
    ///
    /// A consumer's handler takes it if its event is an `Option`, see
    /// [`HandlerEvent`](crate::consume::HandlerEvent).
    ///
    /// # Errors
    /// As [`emit`](Self::emit), and if `E` is several events.
    pub fn emit_tombstone<E: DomainEvent>(
        &mut self,
        key: &(impl EventKey + ?Sized),
    ) -> Result<Uuid, OutboxError> {
        self.emit_record(EventRecord::tombstone::<E>(key)?)
    }

    /// Emits an event that is no longer of a Rust type: for example one of
    /// [`EventRecord::from_event`] with another topic or partition.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn emit_record(&mut self, record: EventRecord) -> Result<Uuid, OutboxError> {
        let record = self.completed(record, &self.current_trace())?;
        let id = record.id;
        self.events.push(record);
        Ok(id)
    }

    /// The record with its trace context, if every database and broker accepts it.
    fn completed(
        &self,
        mut record: EventRecord,
        trace: &TraceContext,
    ) -> Result<EventRecord, OutboxError> {
        check(&record, self.core.max_event_bytes)?;
        trace.add_to(&mut record, self.core.max_event_bytes);
        Ok(record)
    }

    /// The context of the current span, or else the one that was set.
    fn current_trace(&self) -> TraceContext {
        let current = self.core.tracing.current();
        if current.is_empty() { self.trace.clone() } else { current }
    }

    /// Number of events that the commit will insert.
    #[must_use]
    pub fn pending_events(&self) -> usize {
        self.events.len()
    }

    /// Sets the W3C trace context of events emitted from now on: the headers `traceparent`,
    /// `tracestate` and `baggage`, as far as `get` knows them. For services without spans of their
    /// own. The context of the current span, if the outbox has a
    /// [`propagation`](crate::OutboxBuilder::propagation) that finds one, comes first.
    ///
    /// ```
    /// # fn example(
    /// #     tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>, headers: outbox::event::Headers,
    /// # ) {
    /// tx.set_trace_context(|name| headers.get(name));
    /// # }
    /// ```
    pub fn set_trace_context<'h>(&mut self, get: impl Fn(&str) -> Option<&'h str>) {
        self.trace = TraceContext::of(get);
    }

    /// Begins a savepoint. Its commit makes its changes and its events part of this transaction. If
    /// it is dropped or rolled back, both are discarded, and this transaction continues.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn savepoint(&mut self) -> Result<OutboxTx<'_, DB>, OutboxError> {
        if !self.stands() {
            return Err(ended::ended());
        }
        let (connection, mut note) = self.statement()?;
        note.ask::<DB>(connection).await?;
        let connection = self.link.connection_mut();
        self.doubt.out_of_sight();
        // sqlx 0.9.0 rolls back the whole transaction if this fails or is dropped, without an
        // error: see `stands`.
        DB::TransactionManager::begin(connection, None).await?;
        let mut savepoint = OutboxTx::new(
            Link::Borrowed(connection),
            Enclosing::OutboxTx(&mut self.events, &mut self.doubt),
            Arc::clone(&self.core),
        );
        savepoint.trace.clone_from(&self.trace);
        savepoint.conflict.clone_from(&self.conflict);
        Ok(savepoint)
    }

    /// Inserts the events, commits, and wakes the relay. For a savepoint: makes its changes and its
    /// events part of the outer transaction.
    ///
    /// # Errors
    /// If the database refuses the events or the commit: everything is rolled back, changes and
    /// events. If the connection is lost during `COMMIT` itself, the error is of the kind
    /// [`ErrorKind::CommitUnknown`](crate::ErrorKind::CommitUnknown): both were committed or
    /// neither was.
    pub async fn commit(self) -> Result<(), OutboxError> {
        self.insert_and_commit().await
    }

    /// Rolls back changes and events. Dropping the transaction does the same a little later: when
    /// its connection is next used.
    ///
    /// # Errors
    /// If the connection is lost. The database then rolls back on its own.
    pub async fn rollback(mut self) -> Result<(), OutboxError> {
        if self.stands() {
            if DB::asks_before_commit(self.doubt, true) {
                // With either answer, there is something to roll back after it.
                _ = DB::ensure_not_aborted(&mut self).await;
            }
            DB::TransactionManager::rollback(&mut self).await?;
            if let Enclosing::OutboxTx(_, outer) = &mut self.enclosing {
                outer.statement_succeeded();
            }
            self.open = false;
        }
        Ok(())
    }

    /// As that of [`Lend`], for a savepoint.
    #[doc(hidden)]
    pub fn __outbox_lend(&mut self) -> &mut Self {
        self
    }

    /// Whether it is known that no statement can run in it any more.
    fn is_over(&self) -> bool {
        self.doubt.over || DB::CANCELLED_IS_UNUSABLE && self.doubt.in_flight
    }

    /// Whether it is the innermost transaction on its connection, and not known to be over.
    fn stands(&self) -> bool {
        if self.is_over() {
            return false;
        }
        let open = DB::TransactionManager::get_transaction_depth(self);
        open == self.depth || open > self.depth && !DB::COUNTS_ROLLBACKS_AT_ONCE
    }

    /// The connection for one statement, and where its answers are recorded.
    fn statement(&mut self) -> Result<(&mut DB::Connection, executor::Note<'_>), sqlx::Error> {
        if self.is_over() || DB::TransactionManager::get_transaction_depth(self) < self.depth {
            return Err(ended::ended_before_statement());
        }
        let note = executor::Note { doubt: &mut self.doubt, conflict: self.conflict.clone() };
        Ok((self.link.connection_mut(), note))
    }

    /// An error if the transaction is aborted or over. One who used it may have swallowed the answer
    /// that said so. Asks the database only if there is a doubt.
    #[cfg(feature = "kafka")]
    pub(crate) async fn ensure_open(&mut self) -> Result<(), OutboxError> {
        if !self.stands() {
            return Err(ended::ended());
        }
        if DB::asks_before_commit(self.doubt, false) {
            DB::ensure_not_aborted(self).await?;
            self.doubt.statement_succeeded();
        }
        Ok(())
    }

    pub(crate) fn watch_conflicts(&mut self, watch: bool) {
        self.conflict = watch.then(Arc::default);
    }

    pub(crate) fn close_if_dropped(&mut self, close: bool) {
        self.closes_if_dropped = close;
    }

    /// Whether the database refused a statement because of a conflict with a concurrent
    /// transaction. Known only if the transaction began with [`TxOptions::watch`].
    pub(crate) fn saw_conflict(&self) -> bool {
        self.conflict.as_ref().is_some_and(|conflict| conflict.load(Ordering::Relaxed))
    }
}

impl<DB: OutboxDatabase> Deref for OutboxTx<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.link.connection()
    }
}

impl<DB: OutboxDatabase> DerefMut for OutboxTx<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.doubt.out_of_sight();
        self.link.connection_mut()
    }
}

impl<DB: OutboxDatabase> fmt::Debug for OutboxTx<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxTx")
            .field("pending_events", &self.events.len())
            .finish_non_exhaustive()
    }
}
