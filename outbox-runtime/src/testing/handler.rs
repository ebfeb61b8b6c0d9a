//! Handlers, in a test without Kafka.

use std::fmt;
use std::sync::Arc;

use outbox_event::{Decode, DomainEvent};

use super::{Disturbed, Seed, TestMessage};
use crate::consume::attempt::{Attempted, Ending, Failure, Group};
use crate::consume::group_name::group_name;
use crate::consume::route::Routes;
use crate::consume::{ErrorClass, EventHandler, EventOf, Handler};
use crate::error::OutboxError;
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;
use crate::trace::Relation;

/// Delivers messages to handlers as a consumer does: each in a transaction with the inbox, once for
/// each id. What the handler changed is in the database to look at, and what it emitted is
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
    pub(super) group: Group<DB>,
    /// The group that was chosen at run time.
    chosen: Option<String>,
    /// The groups that the handlers name.
    named: Vec<Option<&'static str>>,
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
        let named = vec![handler.options().group];
        let name = name_of(None, &named)?;
        let routes = Routes::new(vec![Box::new(Handler::new(handler))])?;
        let first_delivery = Relation::default();
        Ok(Self { group: Group { outbox, name, routes, first_delivery }, chosen: None, named })
    }

    /// The consumer group, by which the inbox remembers. As that of a consumer, it replaces the one
    /// that the handlers name.
    ///
    /// # Errors
    /// If a consumer would refuse the group.
    pub fn group(mut self, group: impl AsRef<str>) -> Result<Self, OutboxError> {
        self.chosen = Some(group.as_ref().to_owned());
        self.group.name = name_of(self.chosen.as_deref(), &self.named)?;
        Ok(self)
    }

    /// Adds another handler of the same group, as a consumer may have several.
    ///
    /// # Errors
    /// If a consumer would refuse the handlers together.
    pub fn handler<H>(mut self, handler: H) -> Result<Self, OutboxError>
    where
        H: EventHandler<DB>,
        <EventOf<H, DB> as DomainEvent>::Codec: Decode<EventOf<H, DB>>,
    {
        self.named.push(handler.options().group);
        let name = name_of(self.chosen.as_deref(), &self.named)?;
        let Group { outbox, routes, first_delivery, .. } = self.group;
        let routes = routes.with(Box::new(Handler::new(handler)))?;
        Ok(Self { group: Group { outbox, name, routes, first_delivery }, ..self })
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

    /// Delivers messages as a consumer gets them when processes and brokers fail, by a seed: they
    /// come again, those of different keys at the same time and in any order, and those of one key
    /// in theirs; the process is killed at any await, before a commit, and between a commit and its
    /// offset; and handlers fail for a moment. [`check`](Disturbed::check) runs it, and calls your
    /// check of what must always hold after each step.
    ///
    /// ```
    /// # mod example {
    /// # use outbox::{DomainEvent, Outbox, OutboxTx};
    /// # use outbox::consume::{EventContext, handler_fn};
    /// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
    /// # #[event(topic = "order-events")]
    /// # struct OrderCreated { #[event(key)] sku: String }
    /// # async fn reserve(_: &mut OutboxTx<'_, sqlx::Sqlite>, _: OrderCreated, _: &EventContext) -> Result<(), sqlx::Error> {
    /// #     Ok(())
    /// # }
    /// # async fn reservations(outbox: &Outbox<sqlx::Sqlite>) -> usize { 0 }
    /// # async fn example(outbox: Outbox<sqlx::Sqlite>, a: OrderCreated, b: OrderCreated) -> Result<(), Box<dyn std::error::Error>> {
    /// use outbox::testing::{HandlerTest, Seed, TestMessage};
    ///
    /// let inventory = HandlerTest::new(outbox.clone(), handler_fn(reserve))?;
    /// let messages = [TestMessage::of(&a)?, TestMessage::of(&b)?];
    /// let handled = inventory
    ///     .disturbed(messages, Seed::new())
    ///     .check(async |handled| {
    ///         assert_eq!(reservations(&outbox).await, handled.events.len());
    ///     })
    ///     .await?;
    /// assert_eq!(handled.events.len(), 2);
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// Messages are [`TestMessage`]s, or what a
    /// [`MemoryPublisher`](super::MemoryPublisher::published) or [`emitted`](super::emitted) has.
    pub fn disturbed<M: Into<TestMessage>>(
        &self,
        messages: impl IntoIterator<Item = M>,
        seed: impl Into<Seed>,
    ) -> Disturbed<'_, DB> {
        let messages = messages.into_iter().map(Into::into).collect();
        Disturbed::new(&self.group, messages, seed.into())
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

/// The name of the group. A consumer must have one; here, the inbox is often the test's own.
fn name_of(chosen: Option<&str>, named: &[Option<&'static str>]) -> Result<Arc<str>, OutboxError> {
    let default = named.iter().all(Option::is_none).then_some("test");
    Ok(group_name(chosen.or(default), named.iter().copied())?.into())
}

impl<DB: OutboxDatabase> fmt::Debug for HandlerTest<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerTest").field("group", &self.group.name).finish_non_exhaustive()
    }
}
