//! How an event's payload is encoded and decoded.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

/// A payload format. [`Json`] is the default; `#[event(codec = MyCodec)]` names another.
pub trait Codec {
    /// The media type, which Kafka consumers find in the `content-type` header.
    const CONTENT_TYPE: &'static str;
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
}

/// A payload could not be written or read.
#[derive(Debug)]
pub struct CodecError(Box<dyn std::error::Error + Send + Sync>);

impl CodecError {
    /// Wraps the error of a format's own library.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// JSON, by serde.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = "application/json";
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(payload).map_err(CodecError::new)
    }
}
