use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::rc::Rc;
use std::sync::Arc;

use uuid::{NonNilUuid, Uuid};

/// A type that can be (a part of) an event's key.
///
/// The bytes must be the same for equal values, in every program and version: they decide the
/// partition and the lane, and so the order. Text is written as it is, numbers in decimal, a UUID
/// in its hyphenated form, so that keys are readable in Kafka's tools and equal to those of
/// producers in other languages.
///
/// Derive it for a newtype or an enum of your own. Implement it for a type of another crate, in a
/// newtype:
///
/// ```
/// # use outbox::event::EventKey;
/// #[derive(EventKey)]
/// struct CustomerId(u64);
///
/// struct Site(std::path::PathBuf);
///
/// impl EventKey for Site {
///     fn write_key(&self, out: &mut Vec<u8>) {
///         out.extend_from_slice(self.0.to_string_lossy().as_bytes());
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of an event",
    label = "this is the key of an event, or a part of it",
    note = "a key is text, an integer, a `bool`, a `Uuid`, an IP address or bytes",
    note = "for a newtype or an enum of your own, add `#[derive(outbox::event::EventKey)]` to it",
    note = "for a type of another crate, wrap it:\nstruct Key({Self});\nimpl outbox::event::EventKey for Key {{\n    fn write_key(&self, out: &mut Vec<u8>) {{\n        out.extend_from_slice(self.0.to_string().as_bytes());\n    }}\n}}"
)]
pub trait EventKey {
    /// Appends the key's bytes.
    fn write_key(&self, out: &mut Vec<u8>);
}

/// The bytes of a key made of `parts`: a single part as it is; several joined by `:`, with `:` and
/// `\` inside a part escaped by `\`, so that different parts never make the same key.
#[must_use]
pub fn event_key(parts: &[&dyn EventKey]) -> Vec<u8> {
    let mut key = Vec::new();
    if let [part] = parts {
        part.write_key(&mut key);
        return key;
    }
    let mut buffer = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            key.push(b':');
        }
        buffer.clear();
        part.write_key(&mut buffer);
        for &byte in &buffer {
            if matches!(byte, b':' | b'\\') {
                key.push(b'\\');
            }
            key.push(byte);
        }
    }
    key
}

impl EventKey for str {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl EventKey for [u8] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> EventKey for [u8; N] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl EventKey for Uuid {
    fn write_key(&self, out: &mut Vec<u8>) {
        let mut buffer = Uuid::encode_buffer();
        out.extend_from_slice(self.hyphenated().encode_lower(&mut buffer).as_bytes());
    }
}

impl EventKey for NonNilUuid {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.get().write_key(out);
    }
}

macro_rules! display_keys {
    ($($type:ty)*) => {$(
        impl EventKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.to_string().as_bytes());
            }
        }
    )*};
}
display_keys! {
    u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize char bool
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize
    IpAddr Ipv4Addr Ipv6Addr SocketAddr
}

macro_rules! deref_keys {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> EventKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                (**self).write_key(out);
            }
        }
    )*};
}
deref_keys! {
    [] String;
    [] Vec<u8>;
    [T: EventKey + ?Sized] &T;
    [T: EventKey + ?Sized] Box<T>;
    [T: EventKey + ?Sized] Rc<T>;
    [T: EventKey + ?Sized] Arc<T>;
    [T: EventKey + ToOwned + ?Sized] Cow<'_, T>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        let written = |key: &dyn EventKey| String::from_utf8(event_key(&[key])).unwrap();
        assert_eq!(written(&NonZeroU64::MIN), "1");
        assert_eq!(written(&NonZeroI128::MIN), i128::MIN.to_string());
        assert_eq!(written(b"ab"), "ab");
        assert_eq!(written(&IpAddr::V6(Ipv6Addr::LOCALHOST)), "::1");
        assert_eq!(written(&SocketAddr::from(([127, 0, 0, 1], 80))), "127.0.0.1:80");
        let id = Uuid::from_u128(7);
        assert_eq!(written(&NonNilUuid::new(id).unwrap()), id.to_string());
    }

    #[test]
    fn parts_of_a_compound_key_cannot_run_into_each_other() {
        assert_eq!(event_key(&[&"a:b"]), b"a:b");
        assert_ne!(event_key(&[&"a:b", &"c"]), event_key(&[&"a", &"b:c"]));
        assert_ne!(event_key(&[&"a\\", &"b"]), event_key(&[&"a", &"\\b"]));
        assert_eq!(event_key(&[&7_u32, &"x"]), b"7:x");
    }
}
