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

/// Reads the payload of `Old`, or of a version before it, and converts it to the new event.
pub fn upcast<Old, New>(event: EventKind<'_>, payload: &[u8]) -> Option<Result<New, CodecError>>
where
    Old: DomainEvent + Into<New>,
    Old::Codec: Decode<Old>,
{
    let old = Old::decode_payload::<Old::Codec>(event, payload)?;
    Some(old.map(Into::into))
}

/// The versions that [`upcast`] reads.
#[must_use]
pub fn versions<Old: DomainEvent>() -> Vec<EventDescriptor> {
    let mut versions = Old::DESCRIPTORS.to_vec();
    versions.extend(Old::older_versions());
    versions
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
