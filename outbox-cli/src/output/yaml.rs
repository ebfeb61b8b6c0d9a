//! YAML of what serializes to JSON, with the fields in their order.

use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::failure::Failure;

/// A value of JSON, with the fields of an object in their order.
enum Node {
    /// As JSON writes it, which YAML reads as the same.
    Scalar(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// A document of this JSON text.
pub fn document(json: &str) -> Result<String, Failure> {
    let node: Node = serde_json::from_str(json)
        .map_err(|error| Failure::failed(format!("cannot print as YAML: {error}")))?;
    let mut text = "---\n".to_owned();
    match &node {
        Node::Scalar(scalar) => {
            let _ = writeln!(text, "{scalar}");
        }
        node => node.write(&mut text, 0),
    }
    Ok(text)
}

impl Node {
    /// The lines of a list or an object.
    fn write(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Self::Scalar(_) => {}
            Self::List(items) => {
                for item in items {
                    let _ = write!(text, "{indent}-");
                    item.write_behind(text, depth);
                }
            }
            Self::Object(fields) => {
                for (name, value) in fields {
                    let _ = write!(text, "{indent}{}:", key(name));
                    value.write_behind(text, depth);
                }
            }
        }
    }

    /// What follows a `-` or a key.
    fn write_behind(&self, text: &mut String, depth: usize) {
        match self {
            Self::Scalar(scalar) => {
                let _ = writeln!(text, " {scalar}");
            }
            Self::List(items) if items.is_empty() => text.push_str(" []\n"),
            Self::Object(fields) if fields.is_empty() => text.push_str(" {}\n"),
            inner => {
                text.push('\n');
                inner.write(text, depth + 1);
            }
        }
    }
}

/// A name that nothing could mistake for something else is written without quotes.
fn key(name: &str) -> String {
    const WORDS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !WORDS.contains(&name)
        && name != "null";
    if plain { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    super::without_controls(serde_json::Value::from(text).to_string())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(serde_json::Value::from(value).to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(quoted(value)))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_texts_cannot_be_mistaken() {
        let json = r#"{"id":"no","b":[1,{"c":null,"d":[]}],"a":{},"x-tenant":"a\nb","on":1.5}"#;
        assert_eq!(
            document(json).unwrap(),
            "---\nid: \"no\"\nb:\n  - 1\n  -\n    c: null\n    d: []\na: {}\n\"x-tenant\": \"a\\nb\"\n\"on\": 1.5\n"
        );
        assert_eq!(document("\"a\u{9b}\"").unwrap(), "---\n\"a\\u009b\"\n");
        assert_eq!(document("\"a\"").unwrap(), "---\n\"a\"\n");
    }
}
