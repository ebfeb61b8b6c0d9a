use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::rc::Rc;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::{NonNilUuid, Uuid};

/// A type that can be the value of an event's header.
///
/// Derive it for a newtype or an enum of your own, or implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a header",
    label = "this is the value of a header",
    note = "a header is text, an integer, a `bool`, a `Uuid`, an IP address, or an `Option` of one of these: `None` leaves the header out",
    note = "for a newtype or an enum of your own, add `#[derive(outbox::event::HeaderValue)]` to it",
    note = "for a type of another crate, wrap it:\nstruct Header({Self});\nimpl outbox::event::HeaderValue for Header {{\n    fn header_value(&self) -> Option<std::borrow::Cow<'_, str>> {{\n        Some(self.0.to_string().into())\n    }}\n}}"
)]
pub trait HeaderValue {
    /// The value as text; `None` leaves the header out.
    fn header_value(&self) -> Option<Cow<'_, str>>;
}

/// The headers of one event, in the order in which they were added. Names are unique; values are
/// text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Cow<'static, str>, String)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header, or replaces the value of the one with this name. A value of `None` changes
    /// nothing.
    pub fn insert(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: &(impl HeaderValue + ?Sized),
    ) {
        let Some(value) = value.header_value() else { return };
        let name = name.into();
        let value = value.into_owned();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of the header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect())
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl HeaderValue for str {
    fn header_value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl HeaderValue for String {
    fn header_value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<T: HeaderValue> HeaderValue for Option<T> {
    fn header_value(&self) -> Option<Cow<'_, str>> {
        self.as_ref().and_then(HeaderValue::header_value)
    }
}

macro_rules! deref_headers {
    ($([$($bound:tt)*] $type:ty;)*) => {$(
        impl<T: HeaderValue + ?Sized $($bound)*> HeaderValue for $type {
            fn header_value(&self) -> Option<Cow<'_, str>> {
                (**self).header_value()
            }
        }
    )*};
}
deref_headers! {
    [] &T;
    [] Box<T>;
    [] Rc<T>;
    [] Arc<T>;
    [+ ToOwned] Cow<'_, T>;
}

macro_rules! display_headers {
    ($($type:ty)*) => {$(
        impl HeaderValue for $type {
            fn header_value(&self) -> Option<Cow<'_, str>> {
                Some(Cow::Owned(self.to_string()))
            }
        }
    )*};
}
display_headers! {
    u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char Uuid NonNilUuid
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize
    IpAddr Ipv4Addr Ipv6Addr SocketAddr
}
