//! Reads a shape from a JSON schema, as schemars 1 writes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::pointer::unescaped;
use super::union;
use crate::shape::{Field, Integer, Object, Payload, Precision, Presence, Shape, Value};

/// Keywords that say nothing about what serde reads or writes: words for people, and what only a
/// validator checks.
const IGNORED: [&str; 22] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "pattern",
    "minLength",
    "maxLength",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "multipleOf",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "contentMediaType",
    "propertyNames",
];

/// The payload that serde writes by the first schema, and reads by the second one: they are of the
/// same type, by its contract for serialization and by that for deserialization.
#[must_use]
pub fn of_both(written: &Json, read: &Json) -> Payload {
    let mut payload = of_one(written);
    let read = of_one(read);
    let mut merge =
        Merge { types: std::mem::take(&mut payload.types), read: &read, seen: BTreeSet::new() };
    payload.shape = merge.shape(payload.shape, &read.shape);
    payload.types = merge.types;
    payload
}

/// The payload of a single schema. A field is written if it is required.
#[must_use]
pub fn of_one(schema: &Json) -> Payload {
    let root = schema.get("title").and_then(Json::as_str).unwrap_or("Payload").to_owned();
    let reader = Reader { root };
    let mut types = BTreeMap::new();
    if let Some(Json::Object(definitions)) = schema.get("$defs") {
        for (name, definition) in definitions {
            types.insert(name.clone(), reader.shape(definition));
        }
    }
    let mut payload = Payload { shape: reader.shape(schema), types, removed: BTreeMap::new() };
    payload.types.entry(reader.root).or_insert_with(|| payload.shape.clone());
    // An event that is only a wrapper is what is in it.
    if let Some(shape) = payload.resolve(&payload.shape) {
        payload.shape = shape.clone();
    }
    keep_what_is_named(&mut payload);
    payload
}

/// Leaves out the types that nothing in the payload names.
pub(crate) fn keep_what_is_named(payload: &mut Payload) {
    let mut named = BTreeSet::new();
    let mut shapes = vec![&payload.shape];
    while let Some(shape) = shapes.pop() {
        if let Shape::Named(name) = shape
            && named.insert(name.clone())
        {
            shapes.extend(payload.types.get(name));
        }
        shapes.extend(shape.parts());
    }
    payload.types.retain(|name, _| named.contains(name));
}

pub(super) struct Reader {
    /// What the whole is called where it is in itself.
    root: String,
}

impl Reader {
    pub(super) fn shape(&self, schema: &Json) -> Shape {
        match schema {
            Json::Bool(true) => Shape::Any,
            Json::Object(schema) => self.of_keywords(schema).unwrap_or_else(|| opaque(schema)),
            other => Shape::Opaque(other.clone()),
        }
    }

    /// `None` if there is a keyword that no shape has.
    fn of_keywords(&self, schema: &Map<String, Json>) -> Option<Shape> {
        let said: Vec<&str> =
            schema.keys().map(|key| &**key).filter(|key| !IGNORED.contains(key)).collect();
        if said.is_empty() {
            return Some(Shape::Any);
        }
        if schema.contains_key("properties") && said.iter().any(|key| is_whole(key)) {
            return self.object(schema, &said);
        }
        for keyword in &said {
            let value = &schema[*keyword];
            let shape = match *keyword {
                "$ref" if said.len() == 1 => self.reference(value.as_str()?)?,
                "$ref" => return self.object(schema, &said),
                "const" => values(std::slice::from_ref(value))?,
                "enum" => values(value.as_array()?)?,
                "oneOf" | "anyOf" => self.several(value.as_array()?)?,
                "allOf" => match &**value.as_array()? {
                    [one] => self.shape(one),
                    _ => return self.object(schema, &said),
                },
                _ => continue,
            };
            let rest = |key: &&&str| !["type", "format", *keyword].contains(*key);
            return said.iter().find(rest).is_none().then_some(shape);
        }
        match schema.get("type")? {
            Json::String(name) => self.of_type(name, schema, &said),
            Json::Array(names) => {
                let names: Vec<&str> = names.iter().filter_map(Json::as_str).collect();
                let not_null = names.iter().filter(|name| **name != "null");
                let mut shapes = Vec::new();
                for name in not_null {
                    shapes.push(self.of_type(name, schema, &said)?);
                }
                let shape = if shapes.len() == 1 { shapes.remove(0) } else { Shape::AnyOf(shapes) };
                Some(if names.contains(&"null") { shape.nullable() } else { shape })
            }
            _ => None,
        }
    }

    fn reference(&self, to: &str) -> Option<Shape> {
        match to.strip_prefix("#/$defs/") {
            Some(part) => unescaped(part).map(Shape::Named),
            None => (to == "#").then(|| Shape::Named(self.root.clone())),
        }
    }

    /// One of several schemas, of which one may be `null`.
    fn several(&self, schemas: &[Json]) -> Option<Shape> {
        let is_null = |schema: &&Json| schema.get("type").and_then(Json::as_str) == Some("null");
        let others: Vec<&Json> = schemas.iter().filter(|schema| !is_null(schema)).collect();
        let shape = match &*others {
            [] => return Some(Shape::Null),
            [one] => self.shape(one),
            several => union::read(self, several).unwrap_or_else(|| {
                Shape::AnyOf(several.iter().map(|schema| self.shape(schema)).collect())
            }),
        };
        Some(if others.len() < schemas.len() { shape.nullable() } else { shape })
    }

    fn of_type(&self, name: &str, schema: &Map<String, Json>, said: &[&str]) -> Option<Shape> {
        let only = |known: &[&str]| {
            said.iter().all(|keyword| *keyword == "type" || known.contains(keyword))
        };
        let format = schema.get("format").and_then(Json::as_str);
        match name {
            "null" => Some(Shape::Null),
            "boolean" if only(&[]) => Some(Shape::Bool),
            // `not`: of a `NonZeroI32`, which is never 0.
            "integer" if only(&["format", "minimum", "maximum", "not"]) => {
                Some(Shape::Integer(integer(schema, format)))
            }
            "number" if only(&["format", "minimum", "maximum"]) => {
                Some(Shape::Number(match format {
                    Some("float") => Precision::Single,
                    Some("double") => Precision::Double,
                    _ => Precision::Unknown,
                }))
            }
            "string" if only(&["format", "contentEncoding"]) => {
                Some(match schema.contains_key("contentEncoding") {
                    true => Shape::Bytes,
                    false => Shape::Text(format.map(str::to_owned)),
                })
            }
            "array" if only(&["items", "prefixItems", "minItems", "maxItems"]) => self.list(schema),
            "object" => self.object(schema, said),
            _ => None,
        }
    }

    fn list(&self, schema: &Map<String, Json>) -> Option<Shape> {
        if let Some(parts) = schema.get("prefixItems") {
            let parts = parts.as_array()?.iter().map(|part| self.shape(part));
            return Some(Shape::Tuple(parts.collect()));
        }
        let count = |keyword: &str| schema.get(keyword).and_then(Json::as_u64);
        let (least, most) = (count("minItems"), count("maxItems"));
        let items = schema.get("items").map_or(Shape::Any, |items| self.shape(items));
        let length = if least == most { least } else { None };
        Some(Shape::List { items: Box::new(items), length })
    }

    fn object(&self, schema: &Map<String, Json>, said: &[&str]) -> Option<Shape> {
        let mut object = Object::default();
        let required: BTreeSet<&str> = match schema.get("required") {
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
            _ => BTreeSet::new(),
        };
        if let Some(Json::Object(properties)) = schema.get("properties") {
            for (name, property) in properties {
                let is_required = required.contains(&**name);
                let presence = Presence::new(is_required, is_required);
                let shape = self.shape(property);
                object.fields.insert(name.clone(), Field { shape, presence });
            }
        }
        let mut map = None;
        for keyword in said {
            let value = &schema[*keyword];
            match (*keyword, value) {
                ("type" | "properties" | "required", _) => {}
                ("additionalProperties" | "unevaluatedProperties", Json::Bool(false)) => {
                    object.closed = true;
                }
                ("additionalProperties" | "unevaluatedProperties", values) => {
                    map = Some(self.shape(values));
                }
                // Of a map whose keys are numbers.
                ("patternProperties", Json::Object(patterns)) if patterns.len() == 1 => {
                    map = patterns.values().next().map(|values| self.shape(values));
                    object.closed = false;
                }
                ("$ref", Json::String(to)) => object.flattened.push(self.reference(to)?),
                ("oneOf" | "anyOf", Json::Array(several)) => {
                    object.flattened.push(self.several(several)?);
                }
                ("allOf", Json::Array(all)) => {
                    object.flattened.extend(all.iter().map(|part| self.shape(part)));
                }
                _ => return None,
            }
        }
        if let Some(values) = map {
            let map = Shape::Map(Box::new(values));
            if object.fields.is_empty() && object.flattened.is_empty() {
                return Some(map);
            }
            object.flattened.push(map);
        }
        Some(Shape::Object(object))
    }
}

/// Whether it describes a value beside what `properties` says of it.
fn is_whole(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "oneOf" | "anyOf" | "allOf")
}

fn opaque(schema: &Map<String, Json>) -> Shape {
    const WORDS: [&str; 4] = ["$schema", "title", "description", "examples"];
    let kept = schema.iter().filter(|(keyword, _)| !WORDS.contains(&&***keyword));
    Shape::Opaque(Json::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

fn values(listed: &[Json]) -> Option<Shape> {
    let mut values = BTreeSet::new();
    let mut null = false;
    for value in listed {
        match value {
            Json::Null => null = true,
            Json::Bool(value) => drop(values.insert(Value::Bool(*value))),
            Json::String(text) => drop(values.insert(Value::Text(text.clone()))),
            Json::Number(number) => drop(values.insert(Value::Integer(number.as_i64()?))),
            _ => return None,
        }
    }
    Some(match (values.is_empty(), null) {
        (true, _) => Shape::Null,
        (false, true) => Shape::Values(values).nullable(),
        (false, false) => Shape::Values(values),
    })
}

fn integer(schema: &Map<String, Json>, format: Option<&str>) -> Integer {
    let format = match format {
        Some("uint8") => "u8",
        Some("int8") => "i8",
        Some("uint16") => "u16",
        Some("int16") => "i16",
        Some("uint32") => "u32",
        Some("int32") => "i32",
        Some("uint64" | "uint") => "u64",
        Some("int64" | "int") => "i64",
        Some("uint128") => "u128",
        Some("int128") => "i128",
        _ => "integer",
    };
    let mut integer = Integer::named(format).unwrap_or(Integer { min: None, max: None });
    let bound = |keyword: &str| -> Option<i128> {
        let bound = schema.get(keyword)?;
        bound.as_i64().map(i128::from).or_else(|| bound.as_u64().map(i128::from))
    };
    integer.min = integer.min.max(bound("minimum"));
    integer.max = match (integer.max, bound("maximum")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    integer
}

/// Adds to what is written what readers of the same type need.
struct Merge<'a> {
    types: BTreeMap<String, Shape>,
    read: &'a Payload,
    seen: BTreeSet<String>,
}

impl Merge<'_> {
    fn shape(&mut self, written: Shape, read: &Shape) -> Shape {
        match (written, read) {
            (Shape::Named(name), read) => {
                if self.seen.insert(name.clone())
                    && let Some(written) = self.types.get(&name).cloned()
                    && let Some(read) = self.read.resolve(read)
                {
                    let merged = self.shape(written, read);
                    self.types.insert(name.clone(), merged);
                }
                Shape::Named(name)
            }
            (Shape::Object(written), Shape::Object(read)) => {
                let fields = written.fields.into_iter().map(|(name, field)| {
                    let required = read.fields.get(&name).is_some_and(|f| f.presence.required());
                    let presence = Presence::new(field.presence.always_written(), required);
                    let shape = match read.fields.get(&name) {
                        Some(read) => self.shape(field.shape, &read.shape),
                        None => field.shape,
                    };
                    (name, Field { shape, presence })
                });
                let fields = fields.collect();
                let flattened = self.shapes(written.flattened, &read.flattened);
                Shape::Object(Object { fields, flattened, closed: read.closed })
            }
            (Shape::List { items, length }, Shape::List { items: read, .. }) => {
                Shape::List { items: Box::new(self.shape(*items, read)), length }
            }
            (Shape::Map(values), Shape::Map(read)) => {
                Shape::Map(Box::new(self.shape(*values, read)))
            }
            (Shape::Nullable(shape), Shape::Nullable(read)) => self.shape(*shape, read).nullable(),
            (Shape::Tuple(parts), Shape::Tuple(read)) => Shape::Tuple(self.shapes(parts, read)),
            (Shape::AnyOf(parts), Shape::AnyOf(read)) => Shape::AnyOf(self.shapes(parts, read)),
            (Shape::Union(mut written), Shape::Union(read)) => {
                for (name, content) in &mut written.variants {
                    if let (Some(shape), Some(Some(read))) =
                        (content.take(), read.variants.get(name))
                    {
                        *content = Some(self.shape(shape, read));
                    }
                }
                Shape::Union(written)
            }
            (written, _) => written,
        }
    }

    fn shapes(&mut self, written: Vec<Shape>, read: &[Shape]) -> Vec<Shape> {
        let mut read = read.iter();
        let merged = written.into_iter().map(|shape| match read.next() {
            Some(read) => self.shape(shape, read),
            None => shape,
        });
        merged.collect()
    }
}
