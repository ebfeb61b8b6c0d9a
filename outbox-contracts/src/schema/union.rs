//! Recognises the enums of serde in a list of schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::read::Reader;
use crate::shape::{Shape, Tagging, Union, Value};

/// The union that these schemas are, if they are one: the variants of an enum, or the values of one
/// whose variants have no fields.
pub(super) fn read(reader: &Reader, schemas: &[&Json]) -> Option<Shape> {
    let schemas: Vec<&Map<String, Json>> =
        schemas.iter().map(|schema| schema.as_object()).collect::<Option<_>>()?;
    internal(reader, &schemas).or_else(|| external(reader, &schemas))
}

/// All of them have a field in which each has another text.
fn internal(reader: &Reader, schemas: &[&Map<String, Json>]) -> Option<Shape> {
    let first = schemas.first()?.get("properties")?.as_object()?;
    let tag = first.keys().find(|tag| {
        let names: Option<BTreeSet<_>> = schemas.iter().map(|schema| tag_of(schema, tag)).collect();
        names.is_some_and(|names| names.len() == schemas.len())
    })?;
    let mut variants = BTreeMap::new();
    for schema in schemas {
        let name = tag_of(schema, tag)?.to_owned();
        let content = without(schema, tag);
        let content = content.map(|content| reader.shape(&Json::Object(content)));
        variants.insert(name, content);
    }
    Some(Shape::Union(Union { tagging: Tagging::Internal(tag.clone()), variants }))
}

/// The text that each value has in the field `tag`.
fn tag_of<'a>(schema: &'a Map<String, Json>, tag: &str) -> Option<&'a str> {
    let required = schema.get("required")?.as_array()?;
    if !required.iter().any(|name| name.as_str() == Some(tag)) {
        return None;
    }
    text(schema.get("properties")?.get(tag)?.as_object()?)
}

/// The only text that the schema allows.
fn text(schema: &Map<String, Json>) -> Option<&str> {
    schema.get("const")?.as_str()
}

/// The schema without a field, or `None` if nothing is left of it.
fn without(schema: &Map<String, Json>, tag: &str) -> Option<Map<String, Json>> {
    let mut rest = schema.clone();
    if let Some(Json::Object(properties)) = rest.get_mut("properties") {
        properties.remove(tag);
        if properties.is_empty() {
            rest.remove("properties");
        }
    }
    if let Some(Json::Array(required)) = rest.get_mut("required") {
        required.retain(|name| name.as_str() != Some(tag));
        if required.is_empty() {
            rest.remove("required");
        }
    }
    // Of a variant that is a reference, what is left is that alone.
    if !rest.contains_key("properties") && rest.contains_key("$ref") {
        rest.remove("type");
    }
    let says_something = ["properties", "$ref", "oneOf", "anyOf", "allOf", "additionalProperties"]
        .iter()
        .any(|key| rest.get(*key).is_some_and(|value| *value != Json::Bool(false)));
    says_something.then_some(rest)
}

/// Each of them is a text, or an object whose only field is named as the variant.
fn external(reader: &Reader, schemas: &[&Map<String, Json>]) -> Option<Shape> {
    let mut values = BTreeSet::new();
    let mut variants = BTreeMap::new();
    for schema in schemas {
        if let Some(text) = text(schema) {
            values.insert(text.to_owned());
        } else if let Some(Json::Array(texts)) = schema.get("enum") {
            for text in texts {
                values.insert(text.as_str()?.to_owned());
            }
        } else {
            let properties = schema.get("properties")?.as_object()?;
            let (name, content) = properties.iter().next().filter(|_| properties.len() == 1)?;
            let required = schema.get("required")?.as_array()?;
            if required.len() != 1 || schema.contains_key("$ref") {
                return None;
            }
            variants.insert(name.clone(), Some(reader.shape(content)));
        }
    }
    if variants.is_empty() {
        return Some(Shape::Values(values.into_iter().map(Value::Text).collect()));
    }
    variants.extend(values.into_iter().map(|name| (name, None)));
    Some(Shape::Union(Union { tagging: Tagging::External, variants }))
}
