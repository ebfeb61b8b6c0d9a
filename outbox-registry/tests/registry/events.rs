//! The events of the tests. An id belongs to a type in a process, so each test has types of its own.

/// An event in Avro, with the fields of `vectors.py`.
macro_rules! avro_event {
    ($name:ident, $topic:literal, $schema:expr) => {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, outbox::DomainEvent)]
        #[event(topic = $topic, name = "order.placed", codec = outbox_registry::Avro, unlocked)]
        struct $name {
            #[event(key)]
            order: String,
            cents: i64,
            note: Option<String>,
        }
        outbox_registry::avro!($name, $schema);
    };
}

/// A message with one text, or two fields, of the file of `vectors.py`.
macro_rules! protobuf_event {
    ($name:ident, $topic:literal, $message:literal, $file:expr) => {
        #[derive(PartialEq, prost::Message, outbox::DomainEvent)]
        #[event(topic = $topic, name = "order.placed", codec = outbox_registry::Protobuf, unlocked)]
        struct $name {
            #[event(key)]
            #[prost(string, tag = "1")]
            order: String,
            #[prost(int64, tag = "2")]
            cents: i64,
        }
        outbox_registry::protobuf!($name, $message, $file);
    };
}

pub(crate) use {avro_event, protobuf_event};

pub const AVRO: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"},
    {"name": "cents", "type": "long"},
    {"name": "note", "type": ["null", "string"]}]}"#;

/// Another field, and one that is gone.
pub const AVRO_2: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"},
    {"name": "customer", "type": "string"},
    {"name": "cents", "type": "int"},
    {"name": "note", "type": ["null", "string"]}]}"#;

pub const PROTO: &str = r#"syntax = "proto3";
package shop;
message Other { string text = 1; }
message Placed {
  string order = 1;
  int64 cents = 2;
  message Line { string item = 1; }
  message Note { string text = 1; }
}"#;

/// The text that a registry may give for it, with the messages in another order.
pub const PROTO_REORDERED: &str = r#"syntax = "proto3";
package shop;
message Placed {
  string order = 1;
  int64 cents = 2;
  message Line { string item = 1; }
  message Note { string text = 1; }
}
message Other { string text = 1; }"#;

pub const JSON: &str =
    r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "OrderPlaced"}"#;

/// A schema that refers to [`NOTE`], which refers to [`TEXT`].
pub const NOTED: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"}, {"name": "extra", "type": "Note"},
    {"name": "cents", "type": "long"}, {"name": "note", "type": ["null", "string"]},
    {"name": "more", "type": ["null", "shop.Note"]}]}"#;
pub const NOTE: &str = r#"{"type": "record", "name": "Note", "namespace": "shop", "fields": [
    {"name": "text", "type": "Text"}]}"#;
pub const TEXT: &str = r#"{"type": "record", "name": "Text", "namespace": "shop", "fields": [
    {"name": "line", "type": "string"}]}"#;

/// An event by [`NOTED`]: `o-1`, 1250 cents, without a note.
pub const NOTED_EVENT: &[u8] = b"\x06o-1\x04hi\xc4\x13\x00\x02\x04ho";

/// A payload with the id of its schema before it.
pub fn framed(id: i32, rest: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), rest].concat()
}
