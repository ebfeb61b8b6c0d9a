//! What expansions for enums and for older versions call.

use crate::codec::{CodecError, Decode, Variant};
use crate::event::{DomainEvent, EventDescriptor, EventKind, is_one_of};

/// Reads the payload of one of the type's own events, and none of an older version.
pub fn decode_own<E: DomainEvent, C: Decode<E>>(
    event: EventKind<'_>,
    payload: &[u8],
) -> Option<Result<E, CodecError>> {
    is_one_of(event, E::DESCRIPTORS).then(|| C::decode(payload))
}

/// Reads the content of the variant that is this event. `variants` are in the order of the enum's
/// descriptors.
pub fn decode_variant<E: DomainEvent, C: Decode<E>>(
    variants: &[Variant],
    event: EventKind<'_>,
    payload: &[u8],
) -> Option<Result<E, CodecError>> {
    let mut known = E::DESCRIPTORS.iter().zip(variants);
    let (_, variant) = known.find(|(known, _)| known.kind() == event)?;
    Some(C::decode_variant(*variant, payload))
}

/// Reads the payload if it is one of these events.
pub fn read_own<E>(
    known: &[EventDescriptor],
    event: EventKind<'_>,
    payload: &[u8],
    decode: fn(&[u8]) -> Result<E, CodecError>,
) -> Option<Result<E, CodecError>> {
    is_one_of(event, known).then(|| decode(payload))
}

/// What an event with `#[event(read_only)]` lacks to be emitted. No type implements it.
#[diagnostic::on_unimplemented(
    message = "`{E}` is only read, and cannot be emitted",
    label = "this event is `#[event(read_only)]`",
    note = "emit the latest version of the event; or remove `read_only` from `{E}`, and add `#[derive(serde::Serialize)]`"
)]
pub trait NotReadOnly<E: ?Sized> {
    /// Is never called.
    #[doc(hidden)]
    fn never<T>() -> T;
}

/// An event that an older version of it becomes: each that is `From` it. It is what
/// `#[event(upcast_from = Old)]` asks for.
#[diagnostic::on_unimplemented(
    message = "`{Old}` does not become `{Self}`",
    label = "`{Self}` is made of this when a consumer reads it",
    note = "write how:\nimpl From<{Old}> for {Self} {{\n    fn from(old: {Old}) -> Self {{\n        todo!()\n    }}\n}}"
)]
pub trait UpcastFrom<Old> {
    /// The event in this version.
    fn upcast_from(old: Old) -> Self;
}

#[diagnostic::do_not_recommend]
impl<Old: Into<New>, New> UpcastFrom<Old> for New {
    fn upcast_from(old: Old) -> New {
        old.into()
    }
}

/// Converts what was read as an older version. The two are not bounds here: the error for what is
/// missing would then name this function.
#[must_use]
pub fn upcast<Old, New>(
    old: Option<Result<Old, CodecError>>,
    into: fn(Old) -> New,
) -> Option<Result<New, CodecError>> {
    old.map(|old| old.map(into))
}

/// Whether `new` is the same event as `old`, in the next version.
#[must_use]
pub const fn is_next_version(old: &[EventDescriptor], new: &EventDescriptor) -> bool {
    match old {
        [old] => old.version.wrapping_add(1) == new.version && is_same_name(old, new),
        _ => false,
    }
}

/// Whether they differ in their version at most.
pub(crate) const fn is_same_name(one: &EventDescriptor, other: &EventDescriptor) -> bool {
    same(one.topic.as_bytes(), other.topic.as_bytes())
        && same(one.name.as_bytes(), other.name.as_bytes())
}

/// `==` for constant functions, which cannot use it yet.
const fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    loop {
        match (a, b) {
            ([], []) => return true,
            ([first, rest @ ..], [other, others @ ..]) if *first == *other => {
                (a, b) = (rest, others)
            }
            _ => return false,
        }
    }
}
