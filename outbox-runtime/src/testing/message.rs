//! A message as a test makes it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use outbox_event::{DomainEvent, EventKey};

use crate::consume::EventContext;
use crate::consume::envelope::Opened;
use crate::consume::message::Message;
use crate::error::OutboxError;
use crate::publish::headers::message_headers;
use crate::record::{CE_TYPE, EventRecord};

fn next_offset() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A message as it would be on a topic. Clones are the same message, delivered again.
#[derive(Debug, Clone)]
pub struct TestMessage(pub(super) Message);

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
        self.changed()
    }

    /// Removes the payload, as in a tombstone of another producer.
    #[must_use]
    pub fn without_payload(mut self) -> Self {
        self.0.payload = None;
        self.changed()
    }

    /// What a handler would learn of this message at its first attempt, for a test that calls
    /// [`EventHandler::handle`](crate::consume::EventHandler::handle) itself. A message without an
    /// id gets the nil one, and one without the name of an event an empty one.
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
        self.changed()
    }

    /// What was read of it is not true any more.
    fn changed(mut self) -> Self {
        self.0.opened = Opened::default();
        self
    }
}

/// The message with which a relay publishes the event.
impl From<EventRecord> for TestMessage {
    fn from(record: EventRecord) -> Self {
        Self::of_record(record)
    }
}

/// The same message.
impl From<&Self> for TestMessage {
    fn from(message: &Self) -> Self {
        message.clone()
    }
}

/// As a text of this module names it.
impl fmt::Display for TestMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { topic, key, offset, .. } = &self.0;
        match self.0.header(CE_TYPE) {
            Some(name) => write!(f, "event `{name}`")?,
            None => write!(f, "a message of topic `{topic}`")?,
        }
        if let Some(key) = key {
            write!(f, " of key `{}`", key.escape_ascii())?;
        }
        write!(f, " (offset {offset})")
    }
}
