//! What a user writes: a handler of one type of event.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

pub use outbox_event::HandlerEvent;

use super::class::ErrorClass;
use super::context::EventContext;
use super::options::HandlerOptions;
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;

/// Handles the events of one type, in a transaction that also notes them in the inbox.
///
/// Write `#[event_handler(…)]` on an async function or method, wrap a function with
/// [`handler_fn`], or implement it for a struct that holds what the handler needs: all three are
/// the same.
///
/// A handler of `Option<Event>` takes tombstones too, as `None`:
///
/// ```
/// # mod example {
/// # use outbox::{DomainEvent, OutboxTx};
/// # use outbox::consume::EventContext;
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "order-events")]
/// # struct Customer { #[event(key)] name: String }
/// async fn keep(
///     tx: &mut OutboxTx<'_, sqlx::Sqlite>,
///     customer: Option<Customer>,
///     context: &EventContext,
/// ) -> Result<(), sqlx::Error> {
///     let query = match customer {
///         Some(customer) => {
///             sqlx::query("insert or replace into customers values ($1, $2)")
///                 .bind(&context.key)
///                 .bind(customer.name)
///         }
///         None => sqlx::query("delete from customers where id = $1")
///             .bind(&context.key),
///     };
///     query.execute(&mut *tx).await?;
///     Ok(())
/// }
/// # }
/// ```
#[must_use = "a handler does nothing until a consumer has it: `.handler(…)`"]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle events of `{DB}`",
    note = "write `#[outbox::event_handler(…)]` on an async function `reserve`, and call it: `.handler(reserve())`; or implement `outbox::consume::EventHandler<{DB}>`"
)]
pub trait EventHandler<DB: OutboxDatabase>: Send + Sync + 'static {
    /// The event type; an `Option` of it if the handler takes tombstones too.
    type Event: HandlerEvent;
    /// The error type. `?` works on what converts into it.
    type Error: HandlerError;

    /// The handler's name in errors. Called once, when the consumer is built. Default: the path of
    /// its type. A handler of `#[event_handler]` has the path of its function.
    fn name(&self) -> Cow<'static, str> {
        std::any::type_name::<Self>().into()
    }

    /// How many times and when an event is tried, and more. Called once, when the consumer is
    /// built.
    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
    }

    /// The same handler with other options, for what a deployment decides. `change` gets the
    /// options that the handler has; those that it does not change stay. Values that make no sense
    /// are refused when the consumer is built.
    ///
    /// ```
    /// # mod example {
    /// # use outbox::{DomainEvent, OutboxTx};
    /// # use outbox::consume::{Consumer, ConsumerBuilder, EventContext, handler_fn};
    /// # use sqlx::Sqlite;
    /// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
    /// # #[event(topic = "order-events")]
    /// # struct OrderCreated { #[event(key)] sku: String }
    /// # async fn reserve(_: &mut OutboxTx<'_, Sqlite>, _: OrderCreated, _: &EventContext) -> Result<(), sqlx::Error> {
    /// #     Ok(())
    /// # }
    /// use std::time::Duration;
    ///
    /// use outbox::consume::{EventHandler, LaterEvents};
    ///
    /// /// What this deployment has set, by environment variables for example.
    /// struct Settings {
    ///     attempts: u32,
    ///     retry_after: Vec<Duration>,
    /// }
    ///
    /// # fn example(consumer: ConsumerBuilder<Sqlite>, settings: Settings) -> ConsumerBuilder<Sqlite> {
    /// consumer.handler(handler_fn(reserve).with_options(|options| {
    ///     options
    ///         .attempts(settings.attempts)
    ///         .retry_topics(&settings.retry_after, LaterEvents::Wait)
    /// }))
    /// # }
    /// # }
    /// ```
    fn with_options(
        self,
        change: impl FnOnce(HandlerOptions) -> HandlerOptions,
    ) -> WithOptions<Self, DB>
    where
        Self: Sized,
    {
        let options = change(self.options());
        WithOptions { handler: self, options, database: PhantomData }
    }

    /// Whether another attempt can help. Default: yes.
    fn classify(&self, error: &Self::Error) -> ErrorClass {
        let _ = error;
        ErrorClass::Transient
    }

    /// Makes the event's changes on `tx`. `Ok` commits them together with the inbox. `Err` rolls
    /// both back; the event is then tried again, or becomes a dead letter.
    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: Self::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'a;
}

/// Why a handler failed: an error, or something that converts into one, such as `String` and
/// `anyhow::Error`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    label = "this does not convert into `Box<dyn Error + Send + Sync>`",
    note = "an error type of your own: write `#[derive(Debug, thiserror::Error)]` on it, or `impl std::error::Error` for it",
    note = "a type of another crate: put it into an error type of your own, or return `anyhow::Error` or `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait HandlerError {
    /// The error, without its type.
    fn into_boxed(self) -> Box<dyn Error + Send + Sync>;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn Error + Send + Sync>>> HandlerError for E {
    fn into_boxed(self) -> Box<dyn Error + Send + Sync> {
        self.into()
    }
}

/// What the function of a handler returns: `Result<(), E>`, under any alias.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by an `#[event_handler]` function",
    label = "this must be a `Result<(), E>`",
    note = "return `Result<(), E>`: `Ok(())` commits, and `Err` rolls back; the event is then tried again, later, or becomes a dead letter"
)]
pub trait HandlerResult {
    /// The `E`.
    type Error;
}

#[diagnostic::do_not_recommend]
impl<E> HandlerResult for Result<(), E> {
    type Error = E;
}

/// A handler may be shared, for example with a test.
#[diagnostic::do_not_recommend]
impl<DB: OutboxDatabase, H: EventHandler<DB>> EventHandler<DB> for Arc<H> {
    type Event = H::Event;
    type Error = H::Error;

    fn name(&self) -> Cow<'static, str> {
        (**self).name()
    }

    fn options(&self) -> HandlerOptions {
        (**self).options()
    }

    fn classify(&self, error: &H::Error) -> ErrorClass {
        (**self).classify(error)
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: H::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), H::Error>> + Send + 'a {
        (**self).handle(tx, event, context)
    }
}

/// The handler that [`EventHandler::with_options`] makes of another one.
pub struct WithOptions<H, DB> {
    handler: H,
    options: HandlerOptions,
    database: PhantomData<fn(DB)>,
}

#[diagnostic::do_not_recommend]
impl<DB: OutboxDatabase, H: EventHandler<DB>> EventHandler<DB> for WithOptions<H, DB> {
    type Event = H::Event;
    type Error = H::Error;

    fn name(&self) -> Cow<'static, str> {
        self.handler.name()
    }

    fn options(&self) -> HandlerOptions {
        self.options
    }

    fn classify(&self, error: &H::Error) -> ErrorClass {
        self.handler.classify(error)
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: H::Event,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), H::Error>> + Send + 'a {
        self.handler.handle(tx, event, context)
    }
}

impl<H, DB> fmt::Debug for WithOptions<H, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithOptions").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A handler that is a function: `async fn(&mut OutboxTx<'_, DB>, Event, &EventContext) ->
/// Result<(), _>`, with the default options.
pub fn handler_fn<F, DB, E, Error>(function: F) -> HandlerFn<F, DB, E, Error>
where
    F: for<'a> AsyncHandler<'a, DB, E, Error>,
    DB: OutboxDatabase,
{
    HandlerFn { function, options: HandlerOptions::new(), classify: None, types: PhantomData }
}

/// The handler that [`handler_fn`] makes of a function.
pub struct HandlerFn<F, DB, E, Error> {
    function: F,
    options: HandlerOptions,
    classify: Option<fn(&Error) -> ErrorClass>,
    types: PhantomData<fn(DB, E) -> Error>,
}

impl<F, DB, E, Error> HandlerFn<F, DB, E, Error> {
    /// Sets the options.
    #[must_use]
    pub fn options(mut self, options: HandlerOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the function that decides for which errors no other attempt can help.
    #[must_use]
    pub fn classify(mut self, classify: fn(&Error) -> ErrorClass) -> Self {
        self.classify = Some(classify);
        self
    }
}

impl<F, DB, E, Error> fmt::Debug for HandlerFn<F, DB, E, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFn").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A function whose future borrows from its arguments and is `Send`, which `AsyncFn` cannot express
/// yet.
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

#[diagnostic::do_not_recommend]
impl<F, DB, E, Error> EventHandler<DB> for HandlerFn<F, DB, E, Error>
where
    F: for<'a> AsyncHandler<'a, DB, E, Error>,
    DB: OutboxDatabase,
    E: HandlerEvent + 'static,
    Error: HandlerError + 'static,
{
    type Event = E;
    type Error = Error;

    fn name(&self) -> Cow<'static, str> {
        std::any::type_name::<F>().into()
    }

    fn options(&self) -> HandlerOptions {
        self.options
    }

    fn classify(&self, error: &Error) -> ErrorClass {
        self.classify.map_or(ErrorClass::Transient, |classify| classify(error))
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut OutboxTx<'static, DB>,
        event: E,
        context: &'a EventContext,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.function.call(tx, event, context)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use outbox_event::{DomainEvent, EventDescriptor, Json};
    use sqlx::Sqlite;

    use super::*;

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
