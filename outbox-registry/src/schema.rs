//! A schema as it is registered.

use crate::format::SchemaFormat;
use crate::references::SchemaReference;

/// A schema that is registered by its text.
///
/// ```
/// use outbox_registry::{Schema, SchemaFormat};
///
/// let item = Schema::new(SchemaFormat::Avro, r#"{"type": "record", "name": "Item", "fields": []}"#);
/// let order = r#"{"type": "record", "name": "Order", "fields": [{"name": "item", "type": "Item"}]}"#;
/// let order = Schema::new(SchemaFormat::Avro, order).reference("Item", "items-value", 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub(crate) format: SchemaFormat,
    pub(crate) text: String,
    pub(crate) references: Vec<SchemaReference>,
}

impl Schema {
    /// A schema that needs no other one.
    #[must_use]
    pub fn new(format: SchemaFormat, text: impl Into<String>) -> Self {
        Self { format, text: text.into(), references: Vec::new() }
    }

    /// Says where the registry has what the schema names: a type of Avro by its full name, a file that
    /// Protobuf imports, or the `$ref` of a JSON Schema.
    #[must_use]
    pub fn reference(
        mut self,
        name: impl Into<String>,
        subject: impl Into<String>,
        version: i32,
    ) -> Self {
        let (name, subject) = (name.into(), subject.into());
        self.references.push(SchemaReference { name, subject, version });
        self
    }
}
