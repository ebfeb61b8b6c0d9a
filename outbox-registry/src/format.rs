//! What a payload format is to a registry.

use outbox_event::{Codec, DomainEvent};

use crate::slot::Slot;

/// A language of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaFormat {
    /// A schema of Avro, in JSON.
    Avro,
    /// A file of Protobuf.
    Protobuf,
    /// A JSON Schema.
    Json,
}

impl SchemaFormat {
    /// The media type of payloads with the id of such a schema before them, as the header
    /// `content-type` of an event has it, and its contract.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Avro => "application/x-confluent-avro",
            Self::Protobuf => "application/x-confluent-protobuf",
            Self::Json => "application/x-confluent-json",
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }
}

/// Joins a schema with the texts of those that it refers to, or says why that cannot be.
pub type Join = fn(&str, &[String]) -> Result<String, String>;

/// A codec whose schemas are in a registry.
///
/// No type of yours implements it.
pub trait Format: Codec + sealed::Sealed + Sized + 'static {
    /// The language of its schemas.
    #[doc(hidden)]
    const TYPE: SchemaFormat;

    /// Joins a schema with those that it refers to. `None`: payloads are read without them.
    #[doc(hidden)]
    const JOIN: Option<Join> = None;

    /// Writes payloads by one schema.
    #[doc(hidden)]
    type Writer: Send + Sync + 'static;

    /// Reads payloads that were written by one schema.
    #[doc(hidden)]
    type Reader: Send + Sync + 'static;

    /// Whether the event's own schema can be used, of what can be told without the registry.
    #[doc(hidden)]
    fn check(_own: &str) -> Result<(), String> {
        Ok(())
    }

    /// The full name of what the event's own schema describes.
    #[doc(hidden)]
    fn record(own: &str, message: &str) -> Result<String, String>;

    /// What writes by the registered text, which has the meaning of the event's own one.
    #[doc(hidden)]
    fn writer(own: &str, message: &str, registered: &str) -> Result<Self::Writer, String>;

    /// What reads payloads that were written by the schema `written`, as the event's own one has
    /// them.
    #[doc(hidden)]
    fn reader(own: &str, message: &str, written: &str) -> Result<Self::Reader, String>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// An event whose schema is known: by [`avro!`](crate::avro), [`protobuf!`](crate::protobuf) or
/// [`json_schema!`](crate::json_schema), which implement it.
#[diagnostic::on_unimplemented(
    message = "nothing says which schema `{Self}` has as `{F}`",
    label = "this event has no schema",
    note = "below the type, write `outbox_registry::avro!({Self});`, `outbox_registry::protobuf!({Self}, \"the.Message\", include_str!(\"the.proto\"));` or `outbox_registry::json_schema!({Self}, include_str!(\"the.json\"));`"
)]
pub trait RegisteredEvent<F: Format>: DomainEvent {
    /// Where the id is kept.
    #[doc(hidden)]
    fn slot() -> &'static Slot<F>;
}

#[cfg(test)]
mod tests {
    use super::SchemaFormat;

    /// Else ids in headers would not be read.
    #[test]
    fn consumers_know_the_content_types_whose_payloads_begin_with_an_id() {
        for format in [SchemaFormat::Avro, SchemaFormat::Protobuf, SchemaFormat::Json] {
            let content_type = format.content_type();
            assert!(
                content_type.starts_with(outbox_event::__private::WITH_SCHEMA_ID),
                "{content_type}"
            );
        }
    }
}
