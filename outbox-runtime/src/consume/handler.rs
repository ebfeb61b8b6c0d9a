//! What a user writes: a handler of one type of event.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use crate::codec::{CodecError, Decode};
use crate::event::{DomainEvent, EventDescriptor, Headers};
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Handles the events of one type, in a transaction that also notes them in the inbox.
///
/// Implement it for a struct that holds what the handler needs, or wrap a function with [`handler_fn`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle events of `{DB}`",
    note = "implement `outbox::consume::EventHandler<{DB}>` for it; a function goes through `outbox::consume::handler_fn(…)`"
)]
pub trait EventHandler<DB: OutboxDatabase>: Send + Sync + 'static {
    /// The events.
    type Event: DomainEvent + Send;
    /// Why an event could not be handled. `?` works on what converts into it.
    type Error: Into<BoxError>;

    /// Makes the event's changes, on `tx`. `Ok` commits them together with the inbox; `Err` rolls both back, and the
    /// event is tried again.
    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: Self::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'a;
}

/// A handler may be shared, with a test for example.
impl<DB: OutboxDatabase, H: EventHandler<DB>> EventHandler<DB> for Arc<H> {
    type Event = H::Event;
    type Error = H::Error;

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: H::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), H::Error>> + Send + 'a {
        (**self).handle(tx, event, context)
    }
}

/// Where an event came from, and what came with it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventContext {
    /// The id by which a second delivery is recognised.
    pub id: Uuid,
    /// The name on the wire: the CloudEvents `type`.
    pub name: String,
    /// The version of the payload's schema.
    pub version: u32,
    /// When it happened.
    pub occurred_at: Option<SystemTime>,
    /// The topic.
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The Kafka key.
    pub key: Option<Vec<u8>>,
    /// All headers that are text, CloudEvents' own among them.
    pub headers: Headers,
    /// Which attempt this is, from 1. Counted since the consumer's start.
    pub attempt: u32,
}

/// A handler that is a function: `async fn(&mut OutboxTx<'_, DB>, Event, &EventContext) -> Result<(), _>`.
pub fn handler_fn<F, DB, E, Error>(function: F) -> HandlerFn<F, DB, E, Error>
where
    F: for<'a> AsyncHandler<'a, DB, E, Error>,
    DB: OutboxDatabase,
{
    HandlerFn(function, PhantomData)
}

/// What [`handler_fn`] makes of a function.
pub struct HandlerFn<F, DB, E, Error>(F, PhantomData<fn(DB, E) -> Error>);

impl<F, DB, E, Error> fmt::Debug for HandlerFn<F, DB, E, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}

/// A function whose future borrows from its arguments and is `Send`: what `AsyncFn` cannot say yet.
#[doc(hidden)]
pub trait AsyncHandler<'a, DB: OutboxDatabase, E, Error>: Send + Sync + 'static {
    fn call(
        &self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: E,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a;
}

impl<'a, DB, E, Error, F, Fut> AsyncHandler<'a, DB, E, Error> for F
where
    DB: OutboxDatabase,
    F: Fn(&'a mut OutboxTx<'static, DB>, E, &'a EventContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'a,
{
    fn call(
        &self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: E,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self(tx, event, context)
    }
}

impl<F, DB, E, Error> EventHandler<DB> for HandlerFn<F, DB, E, Error>
where
    F: for<'a> AsyncHandler<'a, DB, E, Error>,
    DB: OutboxDatabase,
    E: DomainEvent + Send + 'static,
    Error: Into<BoxError> + 'static,
{
    type Event = E;
    type Error = Error;

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: E,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.0.call(tx, event, context)
    }
}

/// A handler whose types are forgotten.
pub(super) trait AnyHandler<DB: OutboxDatabase>: Send + Sync {
    fn descriptors(&self) -> &'static [EventDescriptor];

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        payload: &'a [u8],
        context: &'a EventContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), HandleError>> + Send + 'a>>;
}

pub(super) enum HandleError {
    /// The payload is not the event it says it is.
    Undecodable(CodecError),
    /// The handler's own error.
    Failed(BoxError),
}

pub(super) struct Handler<H>(pub(super) H);

impl<DB, H> AnyHandler<DB> for Handler<H>
where
    DB: OutboxDatabase,
    H: EventHandler<DB>,
    <H::Event as DomainEvent>::Codec: Decode<H::Event>,
{
    fn descriptors(&self) -> &'static [EventDescriptor] {
        H::Event::DESCRIPTORS
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        payload: &'a [u8],
        context: &'a EventContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), HandleError>> + Send + 'a>> {
        Box::pin(async move {
            let event = <<H::Event as DomainEvent>::Codec as Decode<H::Event>>::decode(payload)
                .map_err(HandleError::Undecodable)?;
            self.0.handle(tx, event, context).await.map_err(|error| HandleError::Failed(error.into()))
        })
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::Sqlite;

    use super::*;
    use crate::codec::Json;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Happened;

    impl DomainEvent for Happened {
        type Codec = Json;
        const DESCRIPTORS: &'static [EventDescriptor] = &[];
        fn descriptor(&self) -> &'static EventDescriptor {
            unreachable!()
        }
        fn key(&self) -> Option<Vec<u8>> {
            None
        }
    }

    struct Service;

    impl EventHandler<Sqlite> for Service {
        type Event = Happened;
        type Error = sqlx::Error;

        async fn handle(
            &self,
            tx: &mut OutboxTx<'_, Sqlite>,
            _: Happened,
            _: &EventContext,
        ) -> Result<(), sqlx::Error> {
            sqlx::query("select 1").execute(tx).await?;
            Ok(())
        }
    }

    async fn function(
        tx: &mut OutboxTx<'_, Sqlite>,
        _: Happened,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(tx).await?;
        Ok(())
    }

    #[test]
    fn a_struct_and_a_plain_async_function_are_handlers() {
        fn is_handler(_: impl EventHandler<Sqlite, Event = Happened>) {}
        is_handler(Service);
        is_handler(handler_fn(function));
    }
}
