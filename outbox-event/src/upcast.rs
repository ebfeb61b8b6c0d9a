//! What expansions of `#[event(upcast_from = …)]` call.

use crate::codec::{CodecError, Decode};
use crate::event::{DomainEvent, EventDescriptor};

/// Reads the payload of `Old`, or of a version before it, and converts it to the new event.
pub fn upcast<Old, New>(version: u32, payload: &[u8]) -> Option<Result<New, CodecError>>
where
    Old: DomainEvent + Into<New>,
    Old::Codec: Decode<Old>,
{
    let old = if Old::DESCRIPTORS.first().is_some_and(|event| event.version == version) {
        <Old::Codec as Decode<Old>>::decode(payload)
    } else {
        Old::older_version(version, payload)?
    };
    Some(old.map(Into::into))
}

/// Whether `new` is the same event as `old`, in the next version.
#[must_use]
pub const fn is_next_version(old: &[EventDescriptor], new: &[EventDescriptor]) -> bool {
    match (old, new) {
        ([old], [new]) => {
            old.version.wrapping_add(1) == new.version
                && same(old.topic.as_bytes(), new.topic.as_bytes())
                && same(old.name.as_bytes(), new.name.as_bytes())
        }
        _ => false,
    }
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
