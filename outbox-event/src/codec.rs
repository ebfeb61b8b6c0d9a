//! How an event's payload is encoded and decoded.

use std::fmt;

use crate::event::EventKind;

/// A payload format. [`Json`](crate::Json) is the default; `#[event(codec = MyCodec)]` names
/// another.
pub trait Codec {
    /// The media type, which Kafka consumers find in the `content-type` header. Not that of a
    /// CloudEvent in structured mode (`application/cloudevents+json`), whose payload consumers take
    /// for an envelope: an event with such a codec does not compile.
    const CONTENT_TYPE: &'static str;

    /// Whether a payload can be read only if its event's name is known.
    #[doc(hidden)]
    const NEEDS_NAME: bool = false;
}

/// A codec that can write `T`.
#[diagnostic::on_unimplemented(
    message = "the payload of `{T}` cannot be written as `{Self}`",
    label = "this event cannot be serialized",
    note = "for `Json`, the default, add `#[derive(serde::Serialize)]` to `{T}`; a codec of your own implements `outbox::codec::Encode<{T}>`"
)]
pub trait Encode<T: ?Sized>: Codec {
    /// Appends the payload.
    ///
    /// # Errors
    /// If the value cannot be written. `emit` returns the error, and nothing of the event is kept.
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends the payload of an enum's event: the content of the variant that `value` is, which is
    /// what a struct with its fields would be. Default: the whole value, for a format that has
    /// another way to tell variants apart.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_variant(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(value, out)
    }
}

/// A codec that can read `T`.
#[diagnostic::on_unimplemented(
    message = "the payload of `{T}` cannot be read as `{Self}`",
    note = "for `Json`, the default, add `#[derive(serde::Deserialize)]` to `{T}`; a codec of your own implements `outbox::codec::Decode<{T}>`"
)]
pub trait Decode<T>: Codec {
    /// Reads a payload.
    ///
    /// # Errors
    /// If the bytes are not a `T` in this format.
    fn decode(payload: &[u8]) -> Result<T, CodecError>;

    /// Reads the payload of an enum's event, which is the content of this variant. Default: the
    /// whole value, as [`encode_variant`](Encode::encode_variant) writes it.
    ///
    /// # Errors
    /// If the bytes are not the variant's content in this format.
    fn decode_variant(variant: Variant, payload: &[u8]) -> Result<T, CodecError> {
        let _ = variant;
        Self::decode(payload)
    }

    /// Reads the payload of a type that is written as the event in it. `None`: none of its events
    /// is this one.
    #[doc(hidden)]
    fn decode_inner(event: EventKind<'_>, payload: &[u8]) -> Option<Result<T, CodecError>> {
        let _ = (event, payload);
        None
    }
}

/// A variant of an enum that is several events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// Name in Rust, without `r#`.
    pub name: &'static str,
    /// Position among the variants that serde reads, from 0. `None`: it is marked
    /// `#[serde(skip)]` or `#[serde(skip_deserializing)]`.
    pub index: Option<u32>,
}

impl Variant {
    /// A variant, as the derive writes it.
    #[must_use]
    pub const fn new(name: &'static str, index: Option<u32>) -> Self {
        Self { name, index }
    }
}

/// A payload could not be written or read.
#[derive(Debug)]
pub struct CodecError {
    error: Box<dyn std::error::Error + Send + Sync>,
    transient: bool,
}

impl CodecError {
    /// Wraps the error of a format's own library. A consumer makes the message a dead letter: no
    /// other attempt would read it.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: error.into(), transient: false }
    }

    /// What reads the payload is away, such as the registry that has its schema. A consumer tries the
    /// event again, as if its handler had failed.
    pub fn transient(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: error.into(), transient: true }
    }

    /// Whether it is one of [`transient`](Self::transient).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
