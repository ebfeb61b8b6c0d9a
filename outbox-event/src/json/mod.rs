//! JSON, by serde: as serde writes and reads a value, with two differences.
//!
//! - A variant of an enum is its content. Serde's map from the variant's name to it would put an
//!   identifier of Rust's into every message, beside the header that names the event.
//! - What has no fields is `{}` and not `null`: fields can be added to it later, and readers in
//!   other languages get an object for every event.

mod read;
mod write;

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{Codec, CodecError, Decode, Encode, Variant};

/// JSON, by serde.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = "application/json";
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        write::value(value, out).map_err(CodecError::new)
    }

    fn encode_variant(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        write::content_of_variant(value, out).map_err(CodecError::new)
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        read::value(payload).map_err(CodecError::new)
    }

    fn decode_variant(variant: Variant, payload: &[u8]) -> Result<T, CodecError> {
        let index = variant.index.ok_or_else(|| {
            CodecError::new(format!("the variant `{}` is marked `#[serde(skip)]`", variant.name))
        })?;
        read::content_of_variant(index, payload).map_err(CodecError::new)
    }
}

#[cfg(test)]
mod tests;
