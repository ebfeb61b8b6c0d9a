//! An example of a payload, made from its shape.

use serde_json::{Map, Value as Json, json};

use super::{Integer, Object, Payload, Shape, Tagging, Union, Value};

/// Most values in an example. A payload may have lists of any length in each other.
const MOST: usize = 1000;

impl Payload {
    /// A payload of this shape: it has all fields, the first of several variants, and one item in
    /// each list. The same each time.
    ///
    /// `None`: the shape has none that ends, or none that is small, or only a JSON schema without
    /// an example says what is in it.
    #[must_use]
    pub fn example(&self) -> Option<Json> {
        Maker { payload: self, inside: Vec::new(), left: MOST }.of(&self.shape)
    }
}

struct Maker<'a> {
    payload: &'a Payload,
    /// The named types that are being made.
    inside: Vec<&'a str>,
    /// How many more values may be made.
    left: usize,
}

impl<'a> Maker<'a> {
    fn of(&mut self, shape: &'a Shape) -> Option<Json> {
        self.left = self.left.checked_sub(1)?;
        Some(match shape {
            Shape::Any | Shape::Null => Json::Null,
            Shape::Bool => json!(true),
            Shape::Integer(integer) => of_integer(*integer)?,
            Shape::Number(_) => json!(1.5),
            Shape::Text(format) => json!(of_format(format.as_deref().unwrap_or_default())),
            Shape::Bytes => json!("AAEC"),
            Shape::List { items, length: None } => {
                Json::Array(self.of(items).into_iter().collect())
            }
            Shape::List { items, length: Some(length) } => {
                Json::Array((0..*length).map(|_| self.of(items)).collect::<Option<_>>()?)
            }
            Shape::Tuple(parts) => {
                Json::Array(parts.iter().map(|part| self.of(part)).collect::<Option<_>>()?)
            }
            Shape::Map(values) => {
                let value = self.of(values).map(|value| ("key".to_owned(), value));
                Json::Object(value.into_iter().collect())
            }
            Shape::Object(object) => Json::Object(self.object(object)?),
            Shape::Values(values) => match values.first()? {
                Value::Text(text) => json!(text),
                Value::Integer(number) => json!(number),
                Value::Bool(value) => json!(value),
            },
            Shape::Union(union) => self.union(union)?,
            Shape::AnyOf(parts) => parts.iter().find_map(|part| self.of(part))?,
            Shape::Nullable(shape) => self.of(shape).unwrap_or(Json::Null),
            Shape::Named(name) => self.named(name)?,
            Shape::Opaque(schema) => of_schema(schema)?,
        })
    }

    /// `None` if it would have itself in it for ever.
    fn named(&mut self, name: &'a str) -> Option<Json> {
        if self.inside.contains(&name) {
            return None;
        }
        let shape = self.payload.types.get(name)?;
        self.inside.push(name);
        let made = self.of(shape);
        self.inside.pop();
        made
    }

    fn object(&mut self, object: &'a Object) -> Option<Map<String, Json>> {
        let mut made = Map::new();
        for (name, field) in &object.fields {
            match self.of(&field.shape) {
                Some(value) => _ = made.insert(name.clone(), value),
                None if field.presence.always_written() => return None,
                None => {}
            }
        }
        for flattened in &object.flattened {
            if let Json::Object(fields) = self.of(flattened)? {
                made.extend(fields);
            }
        }
        Some(made)
    }

    fn union(&mut self, union: &'a Union) -> Option<Json> {
        union.variants.iter().find_map(|(name, content)| {
            let content = match content {
                Some(content) => Some(self.of(content)?),
                None => None,
            };
            Some(match (&union.tagging, content) {
                (Tagging::External, None) => json!(name),
                (Tagging::External, Some(content)) => json!({ name: content }),
                (Tagging::Internal(tag), content) => {
                    let mut made = Map::from_iter([(tag.clone(), json!(name))]);
                    if let Some(Json::Object(fields)) = content {
                        made.extend(fields);
                    }
                    Json::Object(made)
                }
            })
        })
    }
}

/// JSON numbers beyond 64 bits are read by few.
fn of_integer(Integer { min, max }: Integer) -> Option<Json> {
    let number = 1.max(min.unwrap_or(1)).min(max.unwrap_or(i128::MAX));
    let signed = i64::try_from(number).ok().map(|number| json!(number));
    signed.or_else(|| u64::try_from(number).ok().map(|number| json!(number)))
}

/// A value that the schema itself names.
fn of_schema(schema: &Json) -> Option<Json> {
    let first = |key| schema.get(key).and_then(Json::as_array).and_then(|values| values.first());
    let named = schema.get("const").or_else(|| first("enum")).or_else(|| first("examples"));
    named.or_else(|| schema.get("default")).cloned()
}

fn of_format(format: &str) -> &str {
    match format {
        "uuid" => "01890a5d-ac96-774b-bcce-b302099a8057",
        "date-time" => "2026-01-31T12:00:00Z",
        "date" => "2026-01-31",
        "time" => "12:00:00Z",
        "duration" => "P1D",
        "email" => "alice@example.org",
        "hostname" => "example.org",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uri" | "url" => "https://example.org/",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Lock;

    fn example(fields: &str) -> Option<Json> {
        let text = format!(
            "format = 1\n[[event]]\ntopic = \"t\"\nname = \"n\"\nversion = 1\ncontent-type = \"application/json\"\n{fields}"
        );
        let lock = Lock::parse(&text).unwrap();
        let payload = lock.events.values().next().unwrap().payload.clone().unwrap();
        let example = payload.example();
        assert_eq!(example, payload.example());
        example
    }

    #[test]
    fn each_kind_of_field_has_a_value_that_a_reader_takes() {
        let fields = r#"[event.fields]
id = "string(uuid)"
count = "u32"
debt = "i8"
price = "f64"
note = "string?"
lines = "[{ sku: string, count: u8 }]"
pair = "(bool, bytes)"
currency = '"usd" | "eur"'
payment = "enum { card: { number: string }, cash }"
parcel = "enum(kind) { box: { kilos: u8 }, letter }"
counts = "map<u16>"
"#;
        let expected = json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "count": 1,
            "debt": 1,
            "price": 1.5,
            "note": "text",
            "lines": [{ "sku": "text", "count": 1 }],
            "pair": [true, "AAEC"],
            "currency": "eur",
            "payment": { "card": { "number": "text" } },
            "parcel": { "kind": "box", "kilos": 1 },
            "counts": { "key": 1 },
        });
        assert_eq!(example(fields), Some(expected));
    }

    #[test]
    fn a_type_that_has_itself_in_it_comes_to_an_end() {
        let tree = "[event.fields]\nroot = \"Tree\"\n[event.types.Tree.fields]\nname = \"string\"\nchildren = \"[Tree]\"\n";
        let expected = json!({ "root": { "name": "text", "children": [] } });
        assert_eq!(example(tree), Some(expected));
        let endless = "[event.fields]\nroot = \"A\"\n[event.types.A.fields]\na = \"A\"\n";
        assert_eq!(example(endless), None);
    }

    /// The file may be anybody's.
    #[test]
    fn lists_in_lists_do_not_fill_the_memory() {
        let lists = |depth| "[".repeat(depth) + "u8" + &"; 30]".repeat(depth);
        let fields = |depth| format!("[event.fields]\nlists = \"{}\"\n", lists(depth));
        assert!(example(&fields(1)).is_some());
        assert_eq!(example(&fields(9)), None);
        let long = "[event.fields]\nlist = \"[u8; 18446744073709551615]\"\n";
        assert_eq!(example(long), None);
    }
}
