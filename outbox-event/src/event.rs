//! What a domain event is.

use std::time::SystemTime;

use uuid::{NonNilUuid, Uuid};

use crate::codec::{Codec, CodecError, Decode, Encode};
use crate::content_type;
use crate::header::Headers;
use crate::inner::InnerEvent;
use crate::topic;

/// Something that happened in the domain, which other systems learn of through Kafka.
///
/// Derive it with `#[derive(DomainEvent)]`; the methods here are what the derive writes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a domain event",
    label = "`DomainEvent` is not implemented for `{Self}`",
    note = "for a type of your own, add `#[derive(serde::Serialize, outbox::DomainEvent)]` and `#[event(topic = \"…\")]` to it, and mark its key field `#[event(key)]`",
    note = "what holds events is emitted otherwise: a list by `tx.emit_all(events)?`, an `Option` by `if let Some(event) = event {{ tx.emit(event)?; }}`, an `Arc` by `tx.emit(&*event)?`"
)]
pub trait DomainEvent {
    /// How the payload is written: [`Json`](crate::Json) unless `codec = …` says otherwise.
    type Codec: Encode<Self>;

    /// Every (topic, name, version) that a value of this type can be: one for a struct, one per
    /// variant for an enum. They give a program's catalogue of events without running it.
    const DESCRIPTORS: &'static [EventDescriptor];

    /// The media type of the payload: the codec's.
    const CONTENT_TYPE: &'static str = <Self::Codec as Codec>::CONTENT_TYPE;

    /// The descriptor of this very value: one of [`DESCRIPTORS`](Self::DESCRIPTORS).
    fn descriptor(&self) -> &'static EventDescriptor;

    /// The Kafka key. Events with equal keys are delivered in the order in which they were
    /// committed. `None`: the event is keyless, and has no order with any other.
    fn key(&self) -> Option<Vec<u8>>;

    /// Adds the event's own headers.
    fn headers(&self, headers: &mut Headers) {
        let _ = headers;
    }

    /// The event's id, when the event carries one itself; otherwise `emit` makes a UUIDv7.
    fn id(&self) -> Option<Uuid> {
        None
    }

    /// When it happened, when the event says so itself; otherwise the time of `emit`.
    fn occurred_at(&self) -> Option<SystemTime> {
        None
    }

    /// Appends the payload of this value. `C` is [`Codec`](Self::Codec). Of an enum, the derive
    /// writes the content of the variant.
    ///
    /// # Errors
    /// The codec's.
    fn encode_payload<C: Encode<Self>>(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        C::encode(self, out)
    }

    /// Reads the payload of the event that a message says it is. `C` is [`Codec`](Self::Codec).
    /// `None`: a value of this type is never that event, and no older version of one.
    ///
    /// Of an enum, the derive chooses the variant by `event`. Older versions are converted as
    /// `#[event(upcast_from = …)]` says; they are listed by
    /// [`older_versions`](Self::older_versions).
    fn decode_payload<C: Decode<Self>>(
        event: EventKind<'_>,
        payload: &[u8],
    ) -> Option<Result<Self, CodecError>>
    where
        Self: Sized,
    {
        is_one_of(event, Self::DESCRIPTORS).then(|| C::decode(payload))
    }

    /// Every older version that [`decode_payload`](Self::decode_payload) converts to this one.
    #[must_use]
    fn older_versions() -> Vec<EventDescriptor> {
        Vec::new()
    }

    /// The event without its type.
    #[doc(hidden)]
    fn as_inner(&self) -> &dyn InnerEvent
    where
        Self: Sized,
    {
        self
    }
}

pub(crate) fn is_one_of(event: EventKind<'_>, known: &[EventDescriptor]) -> bool {
    known.iter().any(|known| known.kind() == event)
}

/// What consumers tell events apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EventKind<'a> {
    /// The Kafka topic.
    pub topic: &'a str,
    /// The name on the wire: the CloudEvents `type`.
    pub name: &'a str,
    /// The version of the payload's schema, from 1.
    pub version: u32,
}

impl<'a> EventKind<'a> {
    /// The event of this name and version on this topic.
    #[must_use]
    pub const fn new(topic: &'a str, name: &'a str, version: u32) -> Self {
        Self { topic, name, version }
    }
}

/// What is known of an event type without a value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EventDescriptor {
    /// The Kafka topic.
    pub topic: &'static str,
    /// The name on the wire: the CloudEvents `type`.
    pub name: &'static str,
    /// The version of the payload's schema, from 1.
    pub version: u32,
    /// The media type of the payload.
    pub content_type: &'static str,
    /// The fields that make the key, in order; empty for a keyless event.
    pub key_fields: &'static [&'static str],
    /// The names of the event's own headers.
    pub header_names: &'static [&'static str],
}

impl EventDescriptor {
    /// A descriptor, as the derive writes it.
    ///
    /// # Panics
    /// If Kafka would refuse the topic, the version is 0 or above `i32::MAX`, or the content type is
    /// that of a CloudEvent in structured mode. The derive calls this in a constant: there it is an
    /// error of the compiler.
    #[must_use]
    #[allow(clippy::panic)] // evaluated by the compiler: the panic is the compile error
    pub const fn new(
        topic: &'static str,
        name: &'static str,
        version: u32,
        content_type: &'static str,
        key_fields: &'static [&'static str],
        header_names: &'static [&'static str],
    ) -> Self {
        if let Some(problem) = topic::problem(topic) {
            panic!("{}", problem);
        }
        if version == 0 || version > i32::MAX as u32 {
            panic!("the version of an event is 0 or above 2147483647: they go from 1 to that");
        }
        if let Some(problem) = content_type::problem(content_type) {
            panic!("{}", problem);
        }
        Self { topic, name, version, content_type, key_fields, header_names }
    }

    /// What consumers tell this event from others by.
    #[must_use]
    pub const fn kind(&self) -> EventKind<'static> {
        EventKind::new(self.topic, self.name, self.version)
    }
}

/// A type that can be an event's id.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the id of an event",
    label = "this is the id of an event",
    note = "an id is a `Uuid`",
    note = "for a newtype of a `Uuid`, add `#[derive(outbox::event::EventId)]` to it",
    note = "for any other type, make a `Uuid` of it: `emit` makes one itself if no field is the id"
)]
pub trait EventId {
    /// The id, by which consumers tell whether they have handled the event: never the same for two
    /// events.
    fn event_id(&self) -> Uuid;
}

impl EventId for Uuid {
    fn event_id(&self) -> Uuid {
        *self
    }
}

impl EventId for NonNilUuid {
    fn event_id(&self) -> Uuid {
        self.get()
    }
}

impl<T: EventId> EventId for &T {
    fn event_id(&self) -> Uuid {
        (**self).event_id()
    }
}

/// A type that can be the time of an event: a [`SystemTime`], or what becomes one, as the times of
/// `chrono` (`DateTime<Utc>`), `jiff` (`Timestamp`, `Zoned`) and `time` (`OffsetDateTime`) do. A
/// type of your own does by an `impl From<YourTime> for SystemTime`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the time of an event",
    label = "this is the time of an event",
    note = "a time is a `SystemTime`, a `chrono::DateTime<Utc>`, a `jiff::Timestamp`, a `time::OffsetDateTime`, or any type that is `Clone + Into<SystemTime>`",
    note = "for a newtype of your own, write `impl From<{Self}> for std::time::SystemTime`",
    note = "a date and time without a zone is none: say of which zone it is, such as by chrono's `.and_utc()`"
)]
pub trait EventTime {
    /// The time.
    fn event_time(&self) -> SystemTime;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Into<SystemTime>> EventTime for T {
    fn event_time(&self) -> SystemTime {
        self.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_of_other_crates_are_times_of_events() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        let of_chrono = chrono::DateTime::from_timestamp_millis(1_234_567_890_123).unwrap();
        let east = chrono::FixedOffset::east_opt(3_600).unwrap();
        let of_jiff = jiff::Timestamp::from_millisecond(1_234_567_890_123).unwrap();
        let of_time = time::OffsetDateTime::from(at);
        let times: [&dyn EventTime; 6] = [
            &at,
            &of_chrono,
            &of_chrono.with_timezone(&east),
            &of_jiff,
            &of_jiff.to_zoned(jiff::tz::TimeZone::UTC),
            &of_time,
        ];
        for time in times {
            assert_eq!(time.event_time(), at);
        }
    }
}
