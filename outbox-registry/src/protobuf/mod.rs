//! Protobuf, by prost.

mod file;

use outbox_event::{Codec, CodecError, Decode, Encode};
use prost::Message;

use crate::format::{Format, RegisteredEvent, SchemaFormat, sealed};
use crate::frame;

/// Protobuf, with the schema's id and the place of the message in its file before it.
/// [`protobuf!`](crate::protobuf) says which message of which file an event is.
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

impl Codec for Protobuf {
    const CONTENT_TYPE: &'static str = SchemaFormat::Protobuf.content_type();
}

impl sealed::Sealed for Protobuf {}

impl Format for Protobuf {
    const TYPE: SchemaFormat = SchemaFormat::Protobuf;
    /// Which message of its file it is, as bytes.
    type Writer = Vec<u8>;
    /// Which message of the writer's file it is.
    type Reader = Vec<u32>;

    fn record(own: &str, message: &str) -> Result<String, String> {
        file::indexes(own, message)?;
        Ok(message.to_owned())
    }

    fn writer(own: &str, message: &str, registered: &str) -> Result<Self::Writer, String> {
        file::indexes(own, message)?;
        // Readers look the message up in the registry's text, whose order may be another.
        let mut bytes = Vec::new();
        frame::write_indexes(&file::indexes(registered, message)?, &mut bytes);
        Ok(bytes)
    }

    fn reader(_: &str, message: &str, written: &str) -> Result<Self::Reader, String> {
        file::indexes(written, message)
    }
}

impl<T: RegisteredEvent<Self> + Message> Encode<T> for Protobuf {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let (id, indexes) = T::slot().writer()?;
        frame::write(id, out);
        out.extend_from_slice(indexes);
        value.encode(out).map_err(CodecError::new)
    }
}

impl<T: RegisteredEvent<Self> + Message + Default> Decode<T> for Protobuf {
    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        let (id, rest) = frame::read(payload)?;
        let expected = T::slot().reader(id)?;
        let (indexes, rest) = frame::read_indexes(rest)?;
        // Most payloads of one message can be read as another, with fields that mean something else.
        if indexes != *expected {
            return Err(CodecError::new(format!(
                "the payload is the message {indexes:?} of the schema {id}, and the event is {expected:?}"
            )));
        }
        T::decode(rest).map_err(CodecError::new)
    }
}
