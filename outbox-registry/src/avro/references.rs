//! A schema that names types of other schemas of the registry, as one that has them all.
//!
//! Each type is defined where it comes first, and named where it comes again. So it grows to no more
//! than all texts together. What a type is called does not depend on where it is defined then: each
//! definition has its namespace, and each name its full form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Deepest nesting, of all texts together. `serde_json` takes 127 in one.
const DEEPEST: usize = 256;

/// `others`: the schemas that it refers to, and those that these refer to.
pub(super) fn joined(text: &str, others: &[String]) -> Result<String, String> {
    let others = others.iter().map(|text| parsed(text)).collect::<Result<Vec<_>, _>>()?;
    let mut types = Types::default();
    for other in &others {
        types.note(other, "");
    }
    let joined = types.write(&parsed(text)?, "", "", 0)?;
    Ok(joined.to_string())
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The types of the other schemas, by their full names.
#[derive(Default)]
struct Types<'s> {
    /// With the namespace that is around them.
    known: BTreeMap<String, (&'s Value, &'s str)>,
    written: BTreeSet<String>,
}

impl<'s> Types<'s> {
    /// Takes the types that are defined in a schema. It is not deeper than one text.
    fn note(&mut self, schema: &'s Value, namespace: &'s str) {
        match schema {
            Value::Array(union) => union.iter().for_each(|of| self.note(of, namespace)),
            Value::Object(object) => {
                let mut inside = namespace;
                if let Some(name) = named(object) {
                    self.known
                        .insert(full(name, own_namespace(object, namespace)), (schema, namespace));
                    inside = namespace_of(name, own_namespace(object, namespace));
                }
                for part in parts(object) {
                    self.note(part, inside);
                }
            }
            _ => {}
        }
    }

    /// The schema with its types. `namespace`: that which is around it. `around`: that which is
    /// around the place where it is written.
    fn write(
        &mut self,
        schema: &Value,
        namespace: &str,
        around: &str,
        depth: usize,
    ) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err("its types, with those that it refers to, are nested too deep".to_owned());
        }
        let depth = depth + 1;
        match schema {
            Value::String(name) if is_primitive(name) => Ok(schema.clone()),
            Value::String(name) => {
                let name = full(name, namespace);
                let known = self.known.get(&name).copied();
                match known.filter(|_| !self.written.contains(&name)) {
                    Some((definition, namespace)) => {
                        self.write(definition, namespace, around, depth)
                    }
                    None => Ok(Value::String(reference(&name, around))),
                }
            }
            Value::Array(union) => {
                union.iter().map(|of| self.write(of, namespace, around, depth)).collect()
            }
            Value::Object(object) => self.write_object(object, namespace, around, depth),
            other => Ok(other.clone()),
        }
    }

    fn write_object(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        around: &str,
        depth: usize,
    ) -> Result<Value, String> {
        let mut written = object.clone();
        let (mut namespace, mut around) = (namespace.to_owned(), around.to_owned());
        if let Some(name) = named(object) {
            let own = own_namespace(object, &namespace);
            let name = full(name, own);
            if !self.written.insert(name.clone()) {
                return Ok(Value::String(reference(&name, &around)));
            }
            let (of, last) = name.rsplit_once('.').unwrap_or(("", &name));
            written.insert("name".to_owned(), last.into());
            written.insert("namespace".to_owned(), of.into());
            namespace = of.to_owned();
            around = of.to_owned();
        }
        for (key, value) in &mut written {
            match (&**key, &mut *value) {
                ("items" | "values", _) => {
                    *value = self.write(value, &namespace, &around, depth)?
                }
                ("type", Value::String(name)) if is_kind(name) => {}
                ("type", _) => *value = self.write(value, &namespace, &around, depth)?,
                ("fields", Value::Array(fields)) => {
                    for field in fields.iter_mut().filter_map(Value::as_object_mut) {
                        if let Some(of) = field.get_mut("type") {
                            *of = self.write(of, &namespace, &around, depth)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Value::Object(written))
    }
}

/// The name of a type that others may name.
fn named(object: &Map<String, Value>) -> Option<&str> {
    let kind = object.get("type")?.as_str()?;
    matches!(kind, "record" | "error" | "enum" | "fixed").then(|| object.get("name")?.as_str())?
}

fn own_namespace<'s>(object: &'s Map<String, Value>, around: &'s str) -> &'s str {
    object.get("namespace").and_then(Value::as_str).unwrap_or(around)
}

fn full(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None if name.contains('.') || namespace.is_empty() => name.to_owned(),
        None => format!("{namespace}.{name}"),
    }
}

fn namespace_of<'s>(name: &'s str, namespace: &'s str) -> &'s str {
    name.rsplit_once('.').map_or(namespace, |(of, _)| of)
}

/// A full name, as it is written where another namespace is around it.
fn reference(name: &str, around: &str) -> String {
    if name.contains('.') || around.is_empty() { name.to_owned() } else { format!(".{name}") }
}

/// The schemas in a schema.
fn parts(object: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
    let fields = fields.filter_map(|field| field.get("type"));
    ["items", "values", "type"].into_iter().filter_map(|key| object.get(key)).chain(fields)
}

fn is_primitive(name: &str) -> bool {
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"].contains(&name)
}

/// Whether it is what a schema is, and not the name of another one.
fn is_kind(name: &str) -> bool {
    is_primitive(name) || ["record", "error", "enum", "fixed", "array", "map"].contains(&name)
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;

    use super::*;

    fn same(text: &str, others: &[&str], whole: &str) {
        let others: Vec<_> = others.iter().map(|other| (*other).to_owned()).collect();
        let joined = joined(text, &others).unwrap();
        let parsed = |text: &str| {
            Schema::parse_str(text)
                .unwrap_or_else(|error| panic!("{error}: {text}"))
                .canonical_form()
        };
        assert_eq!(parsed(&joined), parsed(whole), "{joined}");
    }

    #[test]
    fn types_of_other_schemas_are_where_they_come_first_under_their_own_names() {
        let item = r#"{"type": "record", "name": "Item", "namespace": "shop", "fields": [
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A"]}},
            {"name": "bare", "type": "Bare"}, {"name": "other", "type": "far.Other"}]}"#;
        // Without a namespace, in one that has another, and one that the main schema names first.
        let bare = r#"{"type": "fixed", "name": "Bare", "namespace": "shop", "size": 4}"#;
        let other = r#"{"type": "record", "name": "far.Other", "fields": [
            {"name": "own", "type": {"type": "record", "name": "Own", "fields": []}}]}"#;
        let order = r#"{"type": "record", "name": "Order", "namespace": "sales", "fields": [
            {"name": "kind", "type": ["null", "shop.Kind"]},
            {"name": "items", "type": {"type": "array", "items": "shop.Item"}},
            {"name": "more", "type": {"type": "map", "values": "shop.Item"}},
            {"name": "own", "type": "far.Own"}]}"#;
        let whole = r#"{"type": "record", "name": "Order", "namespace": "sales", "fields": [
            {"name": "kind", "type": ["null", {"type": "enum", "name": "shop.Kind", "symbols": ["A"]}]},
            {"name": "items", "type": {"type": "array", "items":
                {"type": "record", "name": "Item", "namespace": "shop", "fields": [
                    {"name": "kind", "type": "shop.Kind"},
                    {"name": "bare", "type": {"type": "fixed", "name": "shop.Bare", "size": 4}},
                    {"name": "other", "type": {"type": "record", "name": "far.Other", "fields": [
                        {"name": "own", "type": {"type": "record", "name": "far.Own", "fields": []}}]}}]}}},
            {"name": "more", "type": {"type": "map", "values": "shop.Item"}},
            {"name": "own", "type": "far.Own"}]}"#;
        same(order, &[item, bare, other], whole);
    }

    #[test]
    fn a_type_without_a_namespace_gets_none_where_it_is_written() {
        let id = r#"{"type": "fixed", "name": "Id", "size": 2}"#;
        let order = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "a", "type": ".Id"}, {"name": "b", "type": ".Id"}]}"#;
        let whole = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "a", "type": {"type": "fixed", "name": ".Id", "size": 2}}, {"name": "b", "type": ".Id"}]}"#;
        same(order, &[id], whole);
    }

    #[test]
    fn a_schema_that_refers_to_one_type_alone_is_that_type() {
        let order = r#"{"type": "record", "name": "shop.Order", "fields": []}"#;
        same(r#"["null", "shop.Order"]"#, &[order], &format!(r#"["null", {order}]"#));
    }

    /// On a thread of a test, whose stack is that of a runtime's threads.
    #[test]
    fn types_that_are_too_deep_are_an_error_and_not_the_end_of_the_process() {
        let record = |n: usize| {
            format!(
                r#"{{"type": "record", "name": "R{n}", "fields": [{{"name": "f", "type": {}"R{}"{}}}]}}"#,
                r#"["null", {"type": "array", "items": "#.repeat(30),
                n + 1,
                "}]".repeat(30)
            )
        };
        let others: Vec<_> = (1..100).map(record).collect();
        let refused = joined(&record(0), &others).unwrap_err();
        assert!(refused.contains("too deep"), "{refused}");
    }

    #[test]
    fn types_that_name_each_other_have_an_end() {
        let record = |name: &str, other: &str| {
            format!(
                r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "f", "type": ["null", "{other}"]}}]}}"#
            )
        };
        let joined = joined(&record("A", "B"), &[record("B", "A")]).unwrap();
        assert_eq!(joined.matches("\"record\"").count(), 2, "{joined}");
    }
}
