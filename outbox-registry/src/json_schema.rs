//! JSON with a schema in a registry.

use outbox_event::{Codec, CodecError, Decode, Encode, Json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::format::{Format, RegisteredEvent, SchemaFormat, sealed};
use crate::frame;

/// JSON as [`Json`] writes it, with the schema's id before it. [`json_schema!`](crate::json_schema)
/// says which schema an event has. Payloads are not compared with it.
#[derive(Debug, Clone, Copy)]
pub struct JsonSchema;

impl Codec for JsonSchema {
    const CONTENT_TYPE: &'static str = SchemaFormat::Json.content_type();
}

impl sealed::Sealed for JsonSchema {}

impl Format for JsonSchema {
    const TYPE: SchemaFormat = SchemaFormat::Json;
    type Writer = ();
    type Reader = ();

    fn record(own: &str, _: &str) -> Result<String, String> {
        title(own)
    }

    fn writer(_: &str, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn reader(_: &str, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// The name of what a schema describes.
pub(crate) fn title(schema: &str) -> Result<String, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    let title = schema.get("title").and_then(Value::as_str);
    Ok(title.ok_or("it has no `title`, which is the name of a record in a subject")?.to_owned())
}

impl<T: RegisteredEvent<Self> + Serialize> Encode<T> for JsonSchema {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let (id, ()) = T::slot().writer()?;
        frame::write(id, out);
        Json::encode(value, out)
    }
}

impl<T: RegisteredEvent<Self> + DeserializeOwned> Decode<T> for JsonSchema {
    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        // JSON is read without its schema, as Confluent's clients do unless they validate.
        let (_, rest) = frame::read(payload)?;
        Json::decode(rest)
    }
}
