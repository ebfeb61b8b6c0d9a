//! An example of a payload, made from its shape.

use serde_json::{Map, Value as Json, json};

use super::{Integer, Object, Payload, Shape, Tagging, Union, Value};

impl Payload {
    /// A payload of this shape: it has all fields, the first of several variants, and one item in
    /// each list. The same each time.
    #[must_use]
    pub fn example(&self) -> Json {
        Maker { payload: self, inside: Vec::new() }.of(&self.shape).unwrap_or(Json::Null)
    }
}

struct Maker<'a> {
    payload: &'a Payload,
    /// The named types that are being made.
    inside: Vec<&'a str>,
}

impl<'a> Maker<'a> {
    /// `None`: it would have itself in it for ever.
    fn of(&mut self, shape: &'a Shape) -> Option<Json> {
        Some(match shape {
            Shape::Any | Shape::Null | Shape::Opaque(_) => Json::Null,
            Shape::Bool => json!(true),
            Shape::Integer(integer) => of_integer(*integer),
            Shape::Number(_) => json!(1.5),
            Shape::Text(format) => json!(of_format(format.as_deref().unwrap_or_default())),
            Shape::Bytes => json!("AAEC"),
            Shape::List { items, length: None } => {
                Json::Array(self.of(items).into_iter().collect())
            }
            Shape::List { items, length: Some(length) } => {
                // A longer one is none of the readers' business.
                const MOST: u64 = 16;
                let item = self.of(items)?;
                Json::Array((0..(*length).min(MOST)).map(|_| item.clone()).collect())
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
        })
    }

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

fn of_integer(Integer { min, max }: Integer) -> Json {
    let number = 1.max(min.unwrap_or(1)).min(max.unwrap_or(i128::MAX));
    i64::try_from(number).map_or(Json::Null, |number| json!(number))
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

    fn example(fields: &str) -> Json {
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
        assert_eq!(example(fields), expected);
    }

    #[test]
    fn a_type_that_has_itself_in_it_comes_to_an_end() {
        let tree = "[event.fields]\nroot = \"Tree\"\n[event.types.Tree.fields]\nname = \"string\"\nchildren = \"[Tree]\"\n";
        let expected = json!({ "root": { "name": "text", "children": [] } });
        assert_eq!(example(tree), expected);
        let endless = "[event.fields]\nroot = \"A\"\n[event.types.A.fields]\na = \"A\"\n";
        assert_eq!(example(endless), Json::Null);
    }
}
