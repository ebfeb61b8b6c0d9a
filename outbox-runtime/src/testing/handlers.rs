//! A handler, in a test without Kafka.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use outbox_event::{Decode, DomainEvent, EventKey};

use crate::consume::attempt::{Attempted, Ending, Failure, Group};
use crate::consume::group_name::group_name;
use crate::consume::message::Message;
use crate::consume::route::Routes;
use crate::consume::{ErrorClass, EventContext, EventHandler, EventOf, Handler};
use crate::error::OutboxError;
use crate::outbox::Outbox;
use crate::publish::headers::message_headers;
use crate::record::EventRecord;
use crate::store::OutboxDatabase;

/// Delivers messages to a handler as a consumer does: each in a transaction with the inbox, once
/// for each id. What the handler changed is in the database to look at, and what it emitted is
/// published by a [`Relay`](crate::Relay) to a [`MemoryPublisher`](super::MemoryPublisher).
///
/// ```
/// # mod example {
/// # use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx};
/// # use outbox::consume::{EventContext, handler_fn};
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "order-events")]
/// # struct OrderCreated { #[event(key)] sku: String }
/// # async fn reserve(_: &mut OutboxTx<'_, sqlx::Sqlite>, _: OrderCreated, _: &EventContext) -> Result<(), sqlx::Error> {
/// #     Ok(())
/// # }
/// # async fn example(outbox: Outbox<sqlx::Sqlite>, order_created: OrderCreated) -> Result<(), OutboxError> {
/// use outbox::testing::{Delivery, HandlerTest, TestMessage};
///
/// let inventory = HandlerTest::new(outbox, handler_fn(reserve))?;
/// let message = TestMessage::of(&order_created)?;
///
/// // The process dies after the handler, and before its commit.
/// let lost = inventory.deliver_without_commit(&message).await?;
/// assert_eq!(lost, Delivery::RolledBack);
/// assert_eq!(inventory.deliver(&message).await?, Delivery::Handled);
/// assert_eq!(inventory.deliver(&message).await?, Delivery::Duplicate);
/// # Ok(())
/// # }
/// # }
/// ```
pub struct HandlerTest<DB: OutboxDatabase> {
    group: Group<DB>,
}

/// The result of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// The handler's changes are committed.
    Handled,
    /// The inbox knew the message: nothing was changed.
    Duplicate,
    /// The handler is not for events of this name.
    PassedOver,
    /// The handler succeeded, and was rolled back as requested.
    RolledBack,
    /// The handler failed, panicked, or took too long: it was rolled back.
    Failed {
        /// Whether a consumer would try again.
        class: ErrorClass,
        /// The error.
        error: String,
    },
    /// The message cannot be decoded, or is not an event of this handler. A consumer makes it a
    /// dead letter.
    Undecodable(String),
}

fn next_offset() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A message as it would be on a topic. Clones are the same message, delivered again.
#[derive(Debug, Clone)]
pub struct TestMessage(Message);

impl TestMessage {
    /// The message of an event.
    ///
    /// # Errors
    /// If the event cannot be serialized.
    pub fn of<E: DomainEvent>(event: &E) -> Result<Self, OutboxError> {
        Ok(Self::of_record(EventRecord::from_event(event)?))
    }

    /// The tombstone of a key, as [`emit_tombstone`](crate::OutboxTx::emit_tombstone) makes it.
    ///
    /// # Errors
    /// If `E` is several events.
    pub fn tombstone<E: DomainEvent>(key: &(impl EventKey + ?Sized)) -> Result<Self, OutboxError> {
        Ok(Self::of_record(EventRecord::tombstone::<E>(key)?))
    }

    fn of_record(record: EventRecord) -> Self {
        let mut headers = Vec::new();
        message_headers(&record, "test", |name, value| {
            headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
        });
        Self(Message {
            topic: record.topic.into_owned(),
            key: record.key,
            headers,
            payload: record.payload,
            partition: record.partition.unwrap_or(0),
            offset: next_offset(),
            ..Message::default()
        })
    }

    /// A message that no outbox wrote.
    pub fn foreign(
        topic: impl Into<String>,
        key: Option<&[u8]>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        Self(Message {
            topic: topic.into(),
            key: key.map(<[u8]>::to_vec),
            payload: Some(payload.into()),
            offset: next_offset(),
            ..Message::default()
        })
    }

    /// Sets a header, and replaces one of the same name.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        self.0.headers.retain(|(known, _)| *known != name);
        self.0.headers.push((name, Some(value.into())));
        self
    }

    /// Removes the payload, as in a tombstone of another producer.
    #[must_use]
    pub fn without_payload(mut self) -> Self {
        self.0.payload = None;
        self
    }

    /// What a handler would learn of this message at its first attempt, for a test that calls
    /// [`EventHandler::handle`] itself. A message without an id gets the nil one, and one without
    /// the name of an event an empty one.
    ///
    /// ```
    /// # mod example {
    /// # use outbox::{DomainEvent, Outbox, OutboxTx};
    /// # use outbox::consume::{EventContext, EventHandler, handler_fn};
    /// # use outbox::testing::TestMessage;
    /// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
    /// # #[event(topic = "order-events")]
    /// # struct OrderCreated { #[event(key)] sku: String }
    /// # fn reserve() -> impl EventHandler<sqlx::Sqlite, Event = OrderCreated, Error = sqlx::Error> {
    /// #     async fn reserve(_: &mut OutboxTx<'_, sqlx::Sqlite>, _: OrderCreated, _: &EventContext) -> Result<(), sqlx::Error> {
    /// #         Ok(())
    /// #     }
    /// #     handler_fn(reserve)
    /// # }
    /// # async fn example(outbox: Outbox<sqlx::Sqlite>, order: OrderCreated) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut context = TestMessage::of(&order)?.context();
    /// context.attempt = 3;
    ///
    /// let mut tx = outbox.begin().await?;
    /// reserve().handle(&mut tx, order, &context).await?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    #[must_use]
    pub fn context(&self) -> EventContext {
        let history = self.0.fresh();
        let id = self.0.id(&history, None).unwrap_or_default();
        let (name, version) = self.0.name().unwrap_or_default();
        self.0.context(&history, id, name, version)
    }

    /// Replaces the payload, for example by garbage.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.0.payload = Some(payload.into());
        self
    }
}

impl<DB: OutboxDatabase> HandlerTest<DB> {
    /// A handler, with its inbox in the tables of `outbox`. Its group is the handler's, or `test`;
    /// [`group`](Self::group) replaces it.
    ///
    /// # Errors
    /// If a consumer would refuse the handler.
    pub fn new<H>(outbox: Outbox<DB>, handler: H) -> Result<Self, OutboxError>
    where
        H: EventHandler<DB>,
        <EventOf<H, DB> as DomainEvent>::Codec: Decode<EventOf<H, DB>>,
    {
        let named = [Some(handler.options().group.unwrap_or("test"))];
        let name = group_name(None, named.into_iter())?.into();
        let routes = Routes::new(vec![Box::new(Handler::new(handler))])?;
        Ok(Self { group: Group { outbox, name, routes } })
    }

    /// The consumer group, by which the inbox remembers. As that of a consumer, it replaces the one
    /// that the handler names.
    ///
    /// # Errors
    /// If a consumer would refuse the group.
    pub fn group(mut self, group: impl AsRef<str>) -> Result<Self, OutboxError> {
        self.group.name = group_name(Some(group.as_ref()), std::iter::empty())?.into();
        Ok(self)
    }

    /// Delivers a message: one attempt.
    ///
    /// # Errors
    /// If the database does not answer, or lacks the tables.
    pub async fn deliver(&self, message: &TestMessage) -> Result<Delivery, OutboxError> {
        self.attempt(message, Ending::Commit).await
    }

    /// Delivers a message whose handler is rolled back at its end, as if the process had died
    /// before the commit.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub async fn deliver_without_commit(
        &self,
        message: &TestMessage,
    ) -> Result<Delivery, OutboxError> {
        self.attempt(message, Ending::RollBack).await
    }

    async fn attempt(
        &self,
        message: &TestMessage,
        ending: Ending,
    ) -> Result<Delivery, OutboxError> {
        let incoming = self.group.routes.route(&message.0, message.0.fresh());
        match self.group.attempt(&incoming, ending).await {
            Ok(Attempted::Handled { .. }) => Ok(Delivery::Handled),
            Ok(Attempted::RolledBack) => Ok(Delivery::RolledBack),
            Ok(Attempted::Duplicate) => Ok(Delivery::Duplicate),
            // Nothing is queued here: there are no retry topics.
            Ok(Attempted::NoHandler | Attempted::BehindAnother | Attempted::InRetryTopic) => {
                Ok(Delivery::PassedOver)
            }
            Err(Failure::Handler { class, error }) => Ok(Delivery::Failed { class, error }),
            Err(Failure::Interrupted { error, .. }) => {
                Ok(Delivery::Failed { class: ErrorClass::Transient, error })
            }
            Err(Failure::Undecodable(why)) => Ok(Delivery::Undecodable(why)),
            Err(Failure::DatabaseAway(error) | Failure::Fatal(error)) => Err(error),
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for HandlerTest<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerTest").field("group", &self.group.name).finish_non_exhaustive()
    }
}
