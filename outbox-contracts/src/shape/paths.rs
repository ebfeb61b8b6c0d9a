//! The fields of a payload by their paths.

use std::collections::BTreeMap;

use super::{Object, Payload, Presence, Shape, Tagging, Word};

/// Most parts of a payload, and most types that are in each other: what a lock says is written out,
/// compared and made an example of.
const MOST_PARTS: usize = 10_000;
const MOST_WITHIN: usize = 32;

/// By its path, what is there; of a field, whether it is written.
type Found<'a> = BTreeMap<String, (&'a Shape, Option<Presence>)>;

impl Payload {
    /// The shapes of all fields, by their paths: `address.zip`, `items[].sku`,
    /// `payment<card>.number`. A type that is in itself is entered once.
    #[must_use]
    pub fn fields(&self) -> BTreeMap<String, &Shape> {
        let mut found = BTreeMap::new();
        self.collect("", &self.shape, &mut Vec::new(), &mut found);
        found.into_iter().map(|(path, (shape, _))| (path, shape)).collect()
    }

    /// What is at each path, in words that do not depend on the names of types.
    pub(crate) fn described(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.collect("", &self.shape, &mut Vec::new(), &mut found);
        let described = found.into_iter().map(|(path, (shape, presence))| {
            let mut shape = self.without_names(shape);
            hide_fields(&mut shape);
            let words = match (presence, &shape) {
                (None | Some(Presence::Required), _)
                | (Some(Presence::Defaulted), Shape::Nullable(_)) => "",
                (Some(Presence::Defaulted), _) => ", which readers can do without",
                (Some(Presence::Optional), _) => ", which is not always written",
                (Some(Presence::Unreadable), _) => {
                    ", which is not always written, though readers require it"
                }
            };
            let shape = if shape == Shape::Object(Object::default()) {
                "an object".to_owned()
            } else {
                format!("`{shape}`")
            };
            (path, format!("{shape}{words}"))
        });
        let mut described: BTreeMap<String, String> = described.collect();
        let mut whole = self.without_names(&self.shape);
        hide_fields(&mut whole);
        described.insert(String::new(), format!("`{whole}`"));
        described
    }

    fn collect<'a>(
        &'a self,
        path: &str,
        shape: &'a Shape,
        within: &mut Vec<&'a str>,
        found: &mut Found<'a>,
    ) {
        match shape {
            Shape::Named(name) => {
                if !within.contains(&&**name)
                    && let Some(shape) = self.types.get(name)
                {
                    within.push(name);
                    self.collect(path, shape, within, found);
                    within.pop();
                }
            }
            Shape::Object(object) => {
                for (name, field) in &object.fields {
                    let path = below(path, name);
                    self.collect(&path, &field.shape, within, found);
                    found.insert(path, (&field.shape, Some(field.presence)));
                }
                for shape in &object.flattened {
                    self.collect(path, shape, within, found);
                }
            }
            Shape::List { items, .. } => self.collect(&format!("{path}[]"), items, within, found),
            Shape::Map(values) => self.collect(&format!("{path}{{}}"), values, within, found),
            Shape::Nullable(shape) => self.collect(path, shape, within, found),
            Shape::Tuple(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    self.collect(&below(path, &i.to_string()), part, within, found);
                }
            }
            Shape::AnyOf(parts) => {
                for part in parts {
                    self.collect(path, part, within, found);
                }
            }
            Shape::Union(union) => {
                for (name, content) in &union.variants {
                    if let Some(content) = content {
                        self.collect(&variant(path, name), content, within, found);
                    }
                }
                if let Tagging::Internal(tag) = &union.tagging {
                    found.insert(below(path, tag), (shape, None));
                }
            }
            _ => {}
        }
    }

    /// What of it is too large to be written out, if anything is: types that are in each other
    /// double with each of them.
    pub(crate) fn excess(&self) -> Option<String> {
        let (mut within, mut parts) = (Vec::new(), 0);
        let mut shapes = std::iter::once(&self.shape).chain(self.removed.values());
        shapes.try_for_each(|shape| self.measure(shape, &mut within, &mut parts)).err()
    }

    fn measure<'a>(
        &'a self,
        shape: &'a Shape,
        within: &mut Vec<&'a str>,
        parts: &mut usize,
    ) -> Result<(), String> {
        *parts += 1;
        if *parts > MOST_PARTS {
            return Err(format!(
                "the payload has more than {MOST_PARTS} parts, each of its types written out where it is named"
            ));
        }
        match shape {
            Shape::Named(name) => {
                if within.contains(&&**name) {
                    return Ok(());
                }
                if within.len() == MOST_WITHIN {
                    return Err(format!("more than {MOST_WITHIN} types are in each other"));
                }
                let Some(known) = self.types.get(name) else { return Ok(()) };
                within.push(name);
                self.measure(known, within, parts)?;
                within.pop();
                Ok(())
            }
            shape => {
                shape.parts().into_iter().try_for_each(|part| self.measure(part, within, parts))
            }
        }
    }

    /// The shape without names: a type that is in itself is `any` there.
    #[must_use]
    pub fn without_names(&self, shape: &Shape) -> Shape {
        self.expanded(shape, &mut Vec::new())
    }

    fn expanded<'a>(&'a self, shape: &'a Shape, within: &mut Vec<&'a str>) -> Shape {
        let Shape::Named(name) = shape else {
            let mut shape = shape.clone();
            self.expand_in(&mut shape, within);
            return shape;
        };
        match self.types.get(name) {
            Some(known) if !within.contains(&&**name) => {
                within.push(name);
                let shape = self.expanded(known, within);
                within.pop();
                shape
            }
            _ => Shape::Any,
        }
    }

    fn expand_in<'a>(&'a self, shape: &mut Shape, within: &mut Vec<&'a str>) {
        for part in shape.parts_mut() {
            if let Shape::Named(name) = part {
                *part = match self.types.get_key_value(name) {
                    Some((name, known)) if !within.contains(&&**name) => {
                        within.push(name);
                        let shape = self.expanded(known, within);
                        within.pop();
                        shape
                    }
                    _ => Shape::Any,
                };
            } else {
                self.expand_in(part, within);
            }
        }
    }
}

/// Leaves of each object that it is one: what is in it has paths of its own.
fn hide_fields(shape: &mut Shape) {
    if let Shape::Object(object) = shape {
        object.fields.clear();
    }
    for part in shape.parts_mut() {
        hide_fields(part);
    }
}

/// The path of a field.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { Word(name).to_string() } else { format!("{path}.{}", Word(name)) }
}

/// The path of a variant.
pub(crate) fn variant(path: &str, name: &str) -> String {
    format!("{path}<{}>", Word(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::parse;

    fn payload(shape: &str, types: &[(&str, &str)]) -> Payload {
        let types = types.iter().map(|(name, shape)| ((*name).to_owned(), parse(shape).unwrap()));
        Payload { types: types.collect(), ..Payload::new(parse(shape).unwrap()) }
    }

    #[test]
    fn each_field_has_a_path() {
        let payload = payload(
            "{ a: [Item], b: enum(t) { x: { y: u8 }, z }, \"c d\": map<Item>? }",
            &[("Item", "{ sku: string, next: Item? }")],
        );
        let paths: Vec<String> = payload.fields().into_keys().collect();
        let expected = "\"c d\" \"c d\"{}.next \"c d\"{}.sku a a[].next a[].sku b b.t b<x>.y";
        assert_eq!(paths.join(" "), expected);
    }

    #[test]
    fn a_shape_without_names_ends() {
        let payload = payload("A", &[("A", "{ b: [B]? }"), ("B", "{ a: A, b: u8 }")]);
        let expanded = payload.without_names(&payload.shape).to_string();
        assert_eq!(expanded, "{ b: [{ a: any, b: u8 }]? }");
    }
}
