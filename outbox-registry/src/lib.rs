//! Codecs with a schema registry for the events of [`outbox`](https://docs.rs/outbox): Avro,
//! Protobuf and JSON Schema, in the framing of Confluent's clients.
//!
//! ```
//! # #[cfg(feature = "avro")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use apache_avro::AvroSchema;
//! use outbox::DomainEvent;
//! use outbox_registry::{Avro, Registry};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, AvroSchema, DomainEvent)]
//! #[avro(namespace = "shop")]
//! #[event(topic = "orders", name = "order.placed", codec = Avro)]
//! struct OrderPlaced {
//!     #[event(key)]
//!     order: String,
//!     cents: i64,
//! }
//! outbox_registry::avro!(OrderPlaced);
//!
//! // At start, before the first event. A service has a registry of its own:
//! // `Registry::connect(RegistryConfig::new("http://registry:8081"))?`.
//! let registry = Registry::in_memory();
//! registry.emits::<OrderPlaced>()?;
//! # Ok(()) }
//! # #[cfg(not(feature = "avro"))] fn main() {}
//! ```
//!
//! - A process that emits an event calls [`Registry::emits`] for it at start. It looks up the id of
//!   the event's schema, and fails if the registry does not have it. Nothing is registered then:
//!   [`Registry::register`] is for the pipeline that deploys.
//! - A process that handles it calls [`Registry::reads`]. It fetches the schemas that the event was
//!   written by so far.
//! - Until then, the codec answers with an error. It never writes an id that the registry did not
//!   give.
//!
//! The guide of `outbox` has a page on it, with the order of deployments.
//!
//! # Features
//!
//! | feature | codec | schema |
//! |---|---|---|
//! | `avro` | [`Avro`] | of `#[derive(apache_avro::AvroSchema)]`, or a text: [`avro!`] |
//! | `protobuf` | [`Protobuf`] | the text of the `.proto` file: [`protobuf!`] |
//! | `json-schema` | [`JsonSchema`] | a text: [`json_schema!`] |
//! | `tls` | | registries with `https://` |

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Whatever a user does, it is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// Without a codec that reads by schemas, some of what such codecs share has no use.
#![cfg_attr(not(any(feature = "avro", feature = "protobuf")), allow(dead_code))]

#[cfg(feature = "avro")]
mod avro;
mod backend;
mod client;
mod config;
mod error;
mod format;
mod frame;
#[cfg(feature = "json-schema")]
mod json_schema;
mod memory;
#[cfg(feature = "protobuf")]
mod protobuf;
mod readers;
mod references;
mod registry;
mod schema;
mod slot;
mod subject;

/// The programs of the guide's page are tested here, where the codecs are.
#[cfg(all(
    doctest,
    feature = "avro",
    feature = "protobuf",
    feature = "json-schema",
    feature = "tls"
))]
#[doc = include_str!("../../docs/guide/registry.md")]
mod guide {}

#[cfg(feature = "avro")]
pub use avro::Avro;
pub use config::RegistryConfig;
pub use error::{RegistryError, RegistryErrorKind};
pub use format::{Format, RegisteredEvent, SchemaFormat};
#[cfg(feature = "json-schema")]
pub use json_schema::JsonSchema;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
pub use registry::{Checked, Registry};
pub use schema::Schema;
pub use subject::SubjectStrategy;

/// What the macros expand to. Not for you: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use outbox_event::DomainEvent;

    #[cfg(feature = "avro")]
    pub use crate::avro::derived;
    pub use crate::slot::Slot;
}

/// Gives events their place for the id of their schema. A place belongs to one type, so the type
/// has no generic parameters.
#[doc(hidden)]
#[macro_export]
macro_rules! __registered {
    ($event:ty, $format:ty, $message:expr, $text:expr) => {
        const _: () = {
            static SLOT: $crate::__private::Slot<$format> = $crate::__private::Slot::new(
                <$event as $crate::__private::DomainEvent>::DESCRIPTORS,
                $message,
                $text,
            );

            impl $crate::RegisteredEvent<$format> for $event {
                fn slot() -> &'static $crate::__private::Slot<$format> {
                    &SLOT
                }
            }
        };
    };
}

/// Says which schema an event with the codec [`Avro`] has: that of its
/// `#[derive(apache_avro::AvroSchema)]`, or a text.
///
/// ```
/// # use outbox::DomainEvent;
/// # use outbox_registry::Avro;
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "orders", name = "order.placed", codec = Avro)]
/// # struct OrderPlaced { #[event(key)] order: String }
/// outbox_registry::avro!(
///     OrderPlaced,
///     // or `include_str!("order_placed.avsc")`
///     r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop",
///         "fields": [{"name": "order", "type": "string"}]}"#
/// );
/// ```
#[cfg(feature = "avro")]
#[macro_export]
macro_rules! avro {
    ($event:ty $(,)?) => {
        $crate::__registered!($event, $crate::Avro, "", $crate::__private::derived::<$event>);
    };
    ($event:ty, $schema:expr $(,)?) => {
        $crate::__registered!($event, $crate::Avro, "", || {
            ::std::result::Result::Ok(::std::string::String::from($schema))
        });
    };
}

/// Says which message of which `.proto` file an event with the codec [`Protobuf`] is.
///
/// ```
/// # use outbox::DomainEvent;
/// # use outbox_registry::Protobuf;
/// #[derive(prost::Message, DomainEvent)]
/// #[event(topic = "orders", name = "order.placed", codec = Protobuf)]
/// struct OrderPlaced {
///     #[event(key)]
///     #[prost(string, tag = "1")]
///     order: String,
/// }
/// outbox_registry::protobuf!(
///     OrderPlaced,
///     "shop.OrderPlaced",
///     // or `include_str!("shop.proto")`
///     r#"syntax = "proto3"; package shop; message OrderPlaced { string order = 1; }"#
/// );
/// ```
#[cfg(feature = "protobuf")]
#[macro_export]
macro_rules! protobuf {
    ($event:ty, $message:expr, $proto:expr $(,)?) => {
        $crate::__registered!($event, $crate::Protobuf, $message, || {
            ::std::result::Result::Ok(::std::string::String::from($proto))
        });
    };
}

/// Says which schema an event with the codec [`JsonSchema`] has. It is a text of yours: nothing
/// compares the event with it.
///
/// ```
/// # use outbox::DomainEvent;
/// # use outbox_registry::JsonSchema;
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "orders", name = "order.placed", codec = JsonSchema)]
/// # struct OrderPlaced { #[event(key)] order: String }
/// outbox_registry::json_schema!(
///     OrderPlaced,
///     // or `include_str!("order_placed.json")`
///     r#"{"title": "OrderPlaced", "type": "object", "required": ["order"],
///         "properties": {"order": {"type": "string"}}}"#
/// );
/// ```
#[cfg(feature = "json-schema")]
#[macro_export]
macro_rules! json_schema {
    ($event:ty, $schema:expr $(,)?) => {
        $crate::__registered!($event, $crate::JsonSchema, "", || {
            ::std::result::Result::Ok(::std::string::String::from($schema))
        });
    };
}
