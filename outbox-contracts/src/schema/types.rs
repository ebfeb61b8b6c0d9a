//! Shapes of Rust types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::{of_both, of_one};
use crate::shape::Payload;

/// What serde writes for a `T`, and what it needs to read one.
#[must_use]
pub fn emitted<T: JsonSchema + ?Sized>() -> Payload {
    of_both(&schema::<T>(true), &schema::<T>(false))
}

/// What serde needs to read a `T`, which is all that is known of a type that is only handled.
#[must_use]
pub fn handled<T: JsonSchema + ?Sized>() -> Payload {
    of_one(&schema::<T>(false))
}

fn schema<T: JsonSchema + ?Sized>(written: bool) -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12();
    let settings = if written { settings.for_serialize() } else { settings.for_deserialize() };
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
