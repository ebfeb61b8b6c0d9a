//! Handlers of any type of event in one list, and what the rest of a consumer sees of them.

use std::borrow::Cow;
use std::pin::Pin;

use outbox_event::{Codec, Decode, DomainEvent, EventDescriptor, EventKind};

use super::class::ErrorClass;
use super::context::{EventContext, Named};
use super::handler::{EventHandler, HandlerError, HandlerEvent};
use super::options::HandlerOptions;
use crate::store::OutboxDatabase;
use crate::tx::OutboxTx;
use crate::user_code::{Guarded, UserError, caught};

/// The event that a handler takes, without its tombstones.
pub(crate) type EventOf<H, DB> = <<H as EventHandler<DB>>::Event as HandlerEvent>::Of;

/// A handler without its types.
pub(crate) trait AnyHandler<DB: OutboxDatabase>: Send + Sync {
    /// For messages.
    fn name(&self) -> &str;

    /// The events that its type can be, whether or not it takes all of them.
    fn descriptors(&self) -> &'static [EventDescriptor];

    /// The older versions that are converted to those events.
    fn older_versions(&self) -> Vec<EventDescriptor>;

    /// Whether a payload can be read only if its message says which event it is.
    fn needs_name(&self) -> bool;

    fn options(&self) -> &HandlerOptions;

    /// Reads the event, and returns it together with its handler, again without its type.
    fn decode(
        &self,
        named: Named<'_>,
        payload: Option<&[u8]>,
    ) -> Result<Box<dyn Decoded<DB> + '_>, DecodeFailure>;

    /// Whether it takes messages without a payload.
    fn takes_tombstones(&self) -> bool;
}

/// An event that has been read, with its handler.
pub(crate) trait Decoded<DB: OutboxDatabase>: Send {
    fn handle<'a>(
        self: Box<Self>,
        tx: &'a mut OutboxTx<'static, DB>,
        context: &'a EventContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), HandlerFailure>> + Send + 'a>>
    where
        Self: 'a;
}

/// Why an event could not be read.
pub(crate) enum DecodeFailure {
    /// The codec's error.
    Payload(String),
    /// The codec's error, which another attempt may not have.
    Transient(UserError),
    Version,
    /// It has no payload.
    Tombstone,
    /// Its payload is read as this event, but its headers name another one.
    AnotherEvent(&'static EventDescriptor),
}

impl DecodeFailure {
    /// What to say of an event that could not be read.
    pub(crate) fn why(&self, Named { topic, name, version, .. }: Named<'_>) -> String {
        match self {
            Self::Payload(error) => {
                format!(
                    "the payload of event `{name}` version {version} cannot be decoded ({error})"
                )
            }
            Self::Transient(error) => {
                format!(
                    "the payload of event `{name}` version {version} cannot be decoded now ({error})"
                )
            }
            Self::Tombstone => {
                format!(
                    "it is a tombstone, event `{name}` without a payload, and its handler takes none: let it take an `Option` of its \
                     event"
                )
            }
            Self::AnotherEvent(read) => {
                format!(
                    "its headers say that it is event `{name}` version {version} of topic `{topic}`, and its payload is read as event \
                     `{}` version {} of topic `{}`: no handler sees it. Is the type an enum with `#[serde(untagged)]`?",
                    read.name, read.version, read.topic
                )
            }
            Self::Version => {
                format!(
                    "no handler takes version {version} of event `{name}`: deploy one that does, and replay it"
                )
            }
        }
    }
}

/// The handler's own error, and its class.
pub(crate) struct HandlerFailure {
    pub(crate) class: ErrorClass,
    pub(crate) error: UserError,
}

pub(crate) struct Handler<H> {
    handler: H,
    name: Cow<'static, str>,
    options: HandlerOptions,
}

impl<H> Handler<H> {
    pub(crate) fn new<DB: OutboxDatabase>(handler: H) -> Self
    where
        H: EventHandler<DB>,
    {
        Self { name: handler.name(), options: handler.options(), handler }
    }
}

impl<DB, H> AnyHandler<DB> for Handler<H>
where
    DB: OutboxDatabase,
    H: EventHandler<DB>,
    <EventOf<H, DB> as DomainEvent>::Codec: Decode<EventOf<H, DB>>,
{
    fn descriptors(&self) -> &'static [EventDescriptor] {
        <EventOf<H, DB>>::DESCRIPTORS
    }

    fn older_versions(&self) -> Vec<EventDescriptor> {
        <EventOf<H, DB>>::older_versions()
    }

    fn needs_name(&self) -> bool {
        <<EventOf<H, DB> as DomainEvent>::Codec as Codec>::NEEDS_NAME
    }

    fn options(&self) -> &HandlerOptions {
        &self.options
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn takes_tombstones(&self) -> bool {
        caught(|| H::Event::from_message(None).is_some()).unwrap_or(false)
    }

    fn decode(
        &self,
        named: Named<'_>,
        payload: Option<&[u8]>,
    ) -> Result<Box<dyn Decoded<DB> + '_>, DecodeFailure> {
        let event = payload.map(|payload| decoded::<EventOf<H, DB>>(named, payload)).transpose();
        let event = match event {
            // It fails where a handler does: it is admitted before, and keeps its place among the
            // events of its key.
            Err(DecodeFailure::Transient(error)) => return Ok(Box::new(NotNow(error))),
            event => event?,
        };
        let event = H::Event::from_message(event.and_then(|mut event| event.take()));
        let event = Guarded::new(event.ok_or(DecodeFailure::Tombstone)?);
        Ok(Box::new(Ready { handler: &self.handler, event }))
    }
}

/// Reads the payload of an event that a handler of `E` takes.
pub(crate) fn decoded<E: DomainEvent>(
    named: Named<'_>,
    payload: &[u8],
) -> Result<Guarded<E>, DecodeFailure>
where
    E::Codec: Decode<E>,
{
    let event = EventKind::new(named.topic, named.name, named.version);
    let known = E::DESCRIPTORS.iter().any(|known| known.kind() == event);
    let decoded = if named.foreign && !<E::Codec as Codec>::NEEDS_NAME {
        // It says nothing of its event: its payload may.
        <E::Codec as Decode<E>>::decode(payload)
    } else {
        E::decode_payload::<E::Codec>(event, payload).ok_or(DecodeFailure::Version)?
    };
    let event = Guarded::new(decoded.map_err(|error| {
        let transient = error.is_transient();
        let error = UserError::new(error);
        if transient {
            DecodeFailure::Transient(error)
        } else {
            DecodeFailure::Payload(error.to_string())
        }
    })?);
    // The payload may look like another event of the handler's type: an enum that serde tags, or
    // none that it tags at all, chooses its variant by the payload.
    if !named.foreign
        && let Some(value) = event.get()
    {
        let read = value.descriptor();
        // An older version was converted to a newer one.
        let of_its_version = read.version == named.version || !known;
        if (read.topic, read.name) != (named.topic, named.name) || !of_its_version {
            return Err(DecodeFailure::AnotherEvent(read));
        }
    }
    Ok(event)
}

/// An event that cannot be read now.
struct NotNow(UserError);

impl<DB: OutboxDatabase> Decoded<DB> for NotNow {
    fn handle<'a>(
        self: Box<Self>,
        _: &'a mut OutboxTx<'static, DB>,
        _: &'a EventContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), HandlerFailure>> + Send + 'a>>
    where
        Self: 'a,
    {
        let failure = HandlerFailure { class: ErrorClass::Transient, error: self.0 };
        Box::pin(std::future::ready(Err(failure)))
    }
}

struct Ready<'h, H, E> {
    handler: &'h H,
    event: Guarded<E>,
}

impl<DB, H> Decoded<DB> for Ready<'_, H, H::Event>
where
    DB: OutboxDatabase,
    H: EventHandler<DB>,
{
    fn handle<'a>(
        self: Box<Self>,
        tx: &'a mut OutboxTx<'static, DB>,
        context: &'a EventContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), HandlerFailure>> + Send + 'a>>
    where
        Self: 'a,
    {
        let Self { handler, mut event } = *self;
        Box::pin(async move {
            // The event is there, since `self` is handled once.
            let Some(event) = event.take() else { return Ok(()) };
            handler.handle(tx, event, context).await.map_err(|error| {
                let class = caught(|| handler.classify(&error)).unwrap_or(ErrorClass::Transient);
                HandlerFailure { class, error: UserError::new(error.into_boxed()) }
            })
        })
    }
}
