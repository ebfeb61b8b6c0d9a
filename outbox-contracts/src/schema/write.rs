//! Writes a shape as a JSON schema.

use serde_json::{Map, Value as Json, json};

use super::pointer::escaped;
use crate::lock::EventName;
use crate::shape::{Integer, Object, Payload, Precision, Shape, Tagging, Union, Value};

/// The JSON schema (2020-12) of what is written, with the named types in `$defs`.
#[must_use]
pub fn write(payload: &Payload) -> Json {
    let reference = |name: &str| format!("#/$defs/{}", escaped(name));
    let writer = Writer { dialect: Dialect::Draft2020, reference: &reference };
    let mut schema = writer.shape(&payload.shape);
    if let Json::Object(schema) = &mut schema
        && !payload.types.is_empty()
    {
        let types = payload.types.iter().map(|(name, shape)| (name.clone(), writer.shape(shape)));
        schema.insert("$defs".to_owned(), Json::Object(types.collect()));
    }
    schema
}

/// The same as a document of its own, which says its dialect and has the event's name as its title.
#[must_use]
pub fn document(name: &EventName, payload: &Payload) -> Json {
    let mut schema = write(payload);
    if let Json::Object(keywords) = &mut schema {
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        keywords.insert("$schema".to_owned(), json!(dialect));
        keywords.insert("title".to_owned(), json!(format!("{} v{}", name.name, name.version)));
    }
    schema
}

/// The version of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 2020-12
    Draft2020,
    /// Draft 7, of which the schemas of AsyncAPI are a superset.
    Draft7,
}

pub(crate) struct Writer<'a> {
    pub(crate) dialect: Dialect,
    /// The reference to a named type.
    pub(crate) reference: &'a dyn Fn(&str) -> String,
}

impl Writer<'_> {
    pub(crate) fn shape(&self, shape: &Shape) -> Json {
        match shape {
            Shape::Any => json!({}),
            Shape::Null => json!({ "type": "null" }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Integer(integer) => of_integer(*integer),
            Shape::Number(Precision::Single) => json!({ "type": "number", "format": "float" }),
            Shape::Number(Precision::Double) => json!({ "type": "number", "format": "double" }),
            Shape::Number(Precision::Unknown) => json!({ "type": "number" }),
            Shape::Text(None) => json!({ "type": "string" }),
            Shape::Text(Some(format)) => json!({ "type": "string", "format": format }),
            Shape::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Shape::List { items, length: None } => {
                json!({ "type": "array", "items": self.shape(items) })
            }
            Shape::List { items, length: Some(length) } => json!({
                "type": "array", "items": self.shape(items), "minItems": length, "maxItems": length
            }),
            Shape::Tuple(parts) => {
                let (parts_are, others_are) = match self.dialect {
                    Dialect::Draft2020 => ("prefixItems", "items"),
                    Dialect::Draft7 => ("items", "additionalItems"),
                };
                json!({
                    "type": "array",
                    parts_are: self.shapes(parts),
                    others_are: false,
                    "minItems": parts.len(),
                })
            }
            Shape::Map(values) => {
                json!({ "type": "object", "additionalProperties": self.shape(values) })
            }
            Shape::Object(object) => self.object(object),
            Shape::Values(values) => {
                json!({ "enum": values.iter().map(value).collect::<Vec<_>>() })
            }
            Shape::Union(union) => self.union(union),
            Shape::AnyOf(parts) => json!({ "anyOf": self.shapes(parts) }),
            Shape::Nullable(shape) => self.nullable(shape),
            Shape::Named(name) => json!({ "$ref": (self.reference)(name) }),
            Shape::Opaque(schema) => schema.clone(),
        }
    }

    fn shapes(&self, shapes: &[Shape]) -> Vec<Json> {
        shapes.iter().map(|shape| self.shape(shape)).collect()
    }

    fn nullable(&self, shape: &Shape) -> Json {
        let mut schema = self.shape(shape);
        let simple = schema.get("type").and_then(Json::as_str).map(str::to_owned);
        match (&mut schema, simple) {
            (Json::Object(keywords), Some(name)) => {
                keywords.insert("type".to_owned(), json!([name, "null"]));
                schema
            }
            (schema, _) => json!({ "anyOf": [schema, { "type": "null" }] }),
        }
    }

    fn object(&self, object: &Object) -> Json {
        let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
        let fields = object.fields.iter();
        let properties: Map<String, Json> =
            fields.map(|(name, field)| (name.clone(), self.shape(&field.shape))).collect();
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Json::Object(properties));
        }
        let written = object.fields.iter().filter(|(_, field)| field.presence.always_written());
        let required: Vec<&String> = written.map(|(name, _)| name).collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        let (mut all, mut others) = (Vec::new(), None);
        for flattened in &object.flattened {
            match flattened {
                Shape::Map(values) => others = Some(self.shape(values)),
                other => all.push(self.shape(other)),
            }
        }
        match self.dialect {
            Dialect::Draft2020 => {
                let others = others.map(|others| ("unevaluatedProperties".to_owned(), others));
                schema.extend(others);
            }
            // It has no word for the fields that no part of `allOf` knows.
            Dialect::Draft7 if all.is_empty() => {
                let others = others.map(|others| ("additionalProperties".to_owned(), others));
                schema.extend(others);
            }
            Dialect::Draft7 => {}
        }
        if !all.is_empty() {
            schema.insert("allOf".to_owned(), Json::Array(all));
        } else if object.closed {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
        Json::Object(schema)
    }

    fn union(&self, union: &Union) -> Json {
        let variants = union.variants.iter().map(|(name, content)| {
            let content = content.as_ref().map(|content| self.shape(content));
            match (&union.tagging, content) {
                (Tagging::External, None) => json!({ "const": name }),
                (Tagging::External, Some(content)) => json!({
                    "type": "object",
                    "properties": { name: content },
                    "required": [name],
                    "additionalProperties": false,
                }),
                (Tagging::Internal(tag), content) => tagged(tag, name, content),
            }
        });
        json!({ "oneOf": variants.collect::<Vec<_>>() })
    }
}

/// The content of a variant, with the field that says which one it is.
fn tagged(tag: &str, name: &str, content: Option<Json>) -> Json {
    match content {
        None => json!({
            "type": "object", "properties": { tag: { "const": name } }, "required": [tag]
        }),
        Some(Json::Object(mut content)) => {
            content.entry("type").or_insert_with(|| json!("object"));
            let properties = content.entry("properties").or_insert_with(|| json!({}));
            if let Json::Object(properties) = properties {
                properties.insert(tag.to_owned(), json!({ "const": name }));
            }
            let required = content.entry("required").or_insert_with(|| json!([]));
            if let Json::Array(required) = required {
                required.insert(0, json!(tag));
            }
            Json::Object(content)
        }
        Some(content) => content,
    }
}

fn of_integer(integer: Integer) -> Json {
    let mut schema = json!({ "type": "integer" });
    // JSON schemas have bounds beyond 64 bits, but few that read them do.
    if let Some(min) = integer.min.and_then(|min| i64::try_from(min).ok()) {
        schema["minimum"] = json!(min);
    }
    if let Some(max) = integer.max.and_then(|max| i64::try_from(max).ok()) {
        schema["maximum"] = json!(max);
    } else if let Some(max) = integer.max.and_then(|max| u64::try_from(max).ok()) {
        schema["maximum"] = json!(max);
    }
    schema
}

fn value(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Bool(value) => json!(value),
    }
}
