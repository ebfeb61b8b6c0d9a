//! Events that are written and read as the event in them: a reference, a `Box`, and an enum or a
//! struct with `#[event(transparent)]`.

use std::marker::PhantomData;
use std::time::SystemTime;

use uuid::Uuid;

use crate::codec::{Codec, CodecError, Decode, Encode};
use crate::event::{DomainEvent, EventDescriptor, EventKind};
use crate::header::Headers;
use crate::variant::is_same_name;

/// The codec of the event inside.
#[derive(Debug)]
pub struct Inner;

impl Codec for Inner {
    /// That of the event inside is in its descriptor.
    const CONTENT_TYPE: &'static str = "";
    const NEEDS_NAME: bool = true;
}

/// The codec of an event that does not compile, so that its uses are no more errors.
#[derive(Debug)]
pub struct Unreachable;

impl Codec for Unreachable {
    const CONTENT_TYPE: &'static str = "";
}

impl<T: ?Sized> Encode<T> for Unreachable {
    fn encode(_: &T, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
}

impl<T> Decode<T> for Unreachable {
    fn decode(_: &[u8]) -> Result<T, CodecError> {
        Err(CodecError::new("the event does not compile"))
    }
}

/// A type that is read as the event in it.
pub trait DecodeInner: Sized {
    /// Reads the payload of this event. `None`: no event inside is this one.
    fn decode_inner(event: EventKind<'_>, payload: &[u8]) -> Option<Result<Self, CodecError>>;
}

#[diagnostic::do_not_recommend]
impl<T: Transparent> Encode<T> for Inner {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        value.inner().write(out)
    }
}

impl<T: DecodeInner> Decode<T> for Inner {
    fn decode(_: &[u8]) -> Result<T, CodecError> {
        Err(CodecError::new("nothing says which event the payload is"))
    }

    fn decode_inner(event: EventKind<'_>, payload: &[u8]) -> Option<Result<T, CodecError>> {
        T::decode_inner(event, payload)
    }
}

/// Delegates all but the payload to the event behind a pointer.
macro_rules! pointers {
    ($($(#[$doc:meta])* [$($lifetime:lifetime)?] $pointer:ty)*) => {$(
        $(#[$doc])*
        #[diagnostic::do_not_recommend]
        impl<$($lifetime,)? E: DomainEvent> DomainEvent for $pointer {
            type Codec = Inner;
            const DESCRIPTORS: &'static [EventDescriptor] = E::DESCRIPTORS;
            const CONTENT_TYPE: &'static str = E::CONTENT_TYPE;

            fn descriptor(&self) -> &'static EventDescriptor {
                E::descriptor(self)
            }

            fn key(&self) -> Option<Vec<u8>> {
                E::key(self)
            }

            fn headers(&self, headers: &mut Headers) {
                E::headers(self, headers);
            }

            fn id(&self) -> Option<Uuid> {
                E::id(self)
            }

            fn occurred_at(&self) -> Option<SystemTime> {
                E::occurred_at(self)
            }

            fn decode_payload<C: Decode<Self>>(
                event: EventKind<'_>,
                payload: &[u8],
            ) -> Option<Result<Self, CodecError>> {
                C::decode_inner(event, payload)
            }

            fn older_versions() -> Vec<EventDescriptor> {
                E::older_versions()
            }
        }

        impl<$($lifetime,)? E: DomainEvent> Transparent for $pointer {
            const INNER: &'static [&'static [EventDescriptor]] = &[E::DESCRIPTORS];

            fn inner(&self) -> &dyn InnerEvent {
                &**self
            }
        }
    )*};
}
pointers! {
    /// A borrowed event is an event: `tx.emit(&order_created)`.
    ['a] &'a E
    /// A boxed event is an event: a variant of a transparent enum may be as large as it is.
    [] Box<E>
}

impl<E: DomainEvent> DecodeInner for Box<E>
where
    E::Codec: Decode<E>,
{
    fn decode_inner(event: EventKind<'_>, payload: &[u8]) -> Option<Result<Self, CodecError>> {
        E::decode_payload::<E::Codec>(event, payload).map(|event| event.map(Self::new))
    }
}

/// A type with `#[event(transparent)]`: each of its values is the event in it.
pub trait Transparent {
    /// The descriptors of the events inside, by variant.
    const INNER: &'static [&'static [EventDescriptor]];

    /// The event inside of this value.
    fn inner(&self) -> &dyn InnerEvent;
}

/// An event without its type. The methods are those of [`DomainEvent`].
#[allow(missing_docs, clippy::missing_errors_doc)]
pub trait InnerEvent {
    fn descriptor(&self) -> &'static EventDescriptor;
    fn key(&self) -> Option<Vec<u8>>;
    fn headers(&self, headers: &mut Headers);
    fn id(&self) -> Option<Uuid>;
    fn occurred_at(&self) -> Option<SystemTime>;
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

#[diagnostic::do_not_recommend]
impl<E: DomainEvent> InnerEvent for E {
    fn descriptor(&self) -> &'static EventDescriptor {
        E::descriptor(self)
    }

    fn key(&self) -> Option<Vec<u8>> {
        E::key(self)
    }

    fn headers(&self, headers: &mut Headers) {
        E::headers(self, headers);
    }

    fn id(&self) -> Option<Uuid> {
        E::id(self)
    }

    fn occurred_at(&self) -> Option<SystemTime> {
        E::occurred_at(self)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_payload::<E::Codec>(out)
    }
}

/// An event that can be read, whatever its codec.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a domain event",
    label = "`DomainEvent` is not implemented for `{Self}`",
    note = "add `#[derive(serde::Deserialize, outbox::DomainEvent)]` and `#[event(topic = \"…\", read_only)]` to `{Self}`"
)]
pub trait Readable: Sized {
    /// As [`DomainEvent::DESCRIPTORS`].
    const DESCRIPTORS: &'static [EventDescriptor];

    /// As [`DomainEvent::decode_payload`].
    fn read(event: EventKind<'_>, payload: &[u8]) -> Option<Result<Self, CodecError>>;

    /// All events that [`read`](Self::read) takes.
    fn versions() -> Vec<EventDescriptor>;
}

impl<E: DomainEvent> Readable for E
where
    E::Codec: Decode<E>,
{
    const DESCRIPTORS: &'static [EventDescriptor] = <E as DomainEvent>::DESCRIPTORS;

    fn read(event: EventKind<'_>, payload: &[u8]) -> Option<Result<Self, CodecError>> {
        E::decode_payload::<E::Codec>(event, payload)
    }

    fn versions() -> Vec<EventDescriptor> {
        [<E as DomainEvent>::DESCRIPTORS.to_vec(), E::older_versions()].concat()
    }
}

/// Reads the event inside, and makes a transparent one of it.
pub fn read_inner<E: Readable, T>(
    event: EventKind<'_>,
    payload: &[u8],
    wrap: fn(E) -> T,
) -> Option<Result<T, CodecError>> {
    E::read(event, payload).map(|event| event.map(wrap))
}

/// The descriptors of a transparent type.
pub struct Joined<T>(PhantomData<T>);

impl<T: Transparent> Joined<T> {
    // The length of an array cannot depend on a type's constants yet.
    const ALL: &'static ([EventDescriptor; MOST_EVENTS], usize) = &join(T::INNER);

    /// Those of all events inside.
    pub const DESCRIPTORS: &'static [EventDescriptor] = Self::ALL.0.split_at(Self::ALL.1).0;
}

/// The number of events that a transparent type may be.
const MOST_EVENTS: usize = 256;

#[allow(clippy::panic)] // evaluated by the compiler: the panic is the compile error
const fn join(mut lists: &[&[EventDescriptor]]) -> ([EventDescriptor; MOST_EVENTS], usize) {
    let mut joined = ([EventDescriptor::new("_", "", 1, "", &[], &[]); MOST_EVENTS], 0);
    while let [first, rest @ ..] = lists {
        let mut list = *first;
        while let [event, others @ ..] = list {
            assert!(
                joined.1 < MOST_EVENTS,
                "a transparent event is more than 256 events: make it two"
            );
            joined.0[joined.1] = *event;
            joined.1 += 1;
            list = others;
        }
        lists = rest;
    }
    joined
}

/// Whether no event is in two of the lists.
#[must_use]
pub const fn are_distinct(mut lists: &[&[EventDescriptor]]) -> bool {
    while let [first, rest @ ..] = lists {
        let mut list = *first;
        while let [event, others @ ..] = list {
            if is_in(event, rest) {
                return false;
            }
            list = others;
        }
        lists = rest;
    }
    true
}

const fn is_in(event: &EventDescriptor, mut lists: &[&[EventDescriptor]]) -> bool {
    while let [first, rest @ ..] = lists {
        let mut list = *first;
        while let [other, others @ ..] = list {
            if event.version == other.version && is_same_name(event, other) {
                return true;
            }
            list = others;
        }
        lists = rest;
    }
    false
}
