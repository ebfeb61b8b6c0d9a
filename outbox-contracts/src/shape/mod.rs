//! What a payload is made of, as it is in JSON.
//!
//! A shape says what serde writes and reads, and no more. A bound on the length of a text, which
//! only a validator checks, is not a part of it.

mod example;
mod parse;
mod paths;
mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use parse::{NotAShape, parse, parse_field};
pub(crate) use paths::{below, variant};
pub(crate) use text::{Quoted, Word, is_invisible};

/// The form of a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Any value at all.
    Any,
    /// Only `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer(Integer),
    /// Any number.
    Number(Precision),
    /// A text, and its format, such as `uuid` or `date-time`.
    Text(Option<String>),
    /// Bytes, as a text of Base64.
    Bytes,
    /// A list of equal things.
    List {
        /// What is in it.
        items: Box<Shape>,
        /// How many there are, if that is always the same number.
        length: Option<u64>,
    },
    /// A list of different things.
    Tuple(Vec<Shape>),
    /// An object whose keys are data.
    Map(Box<Shape>),
    /// An object whose keys are known.
    Object(Object),
    /// One of these values.
    Values(BTreeSet<Value>),
    /// One of several variants, which says itself which one it is.
    Union(Union),
    /// One of these shapes, and nothing says which: `#[serde(untagged)]`.
    AnyOf(Vec<Shape>),
    /// `null`, or this.
    Nullable(Box<Shape>),
    /// The named type of this name.
    Named(String),
    /// A JSON schema that none of the above describes. It is equal to itself only.
    Opaque(serde_json::Value),
}

/// An object whose keys are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// By their names.
    pub fields: BTreeMap<String, Field>,
    /// What is flattened into it: unions, maps and named types that are not objects.
    pub flattened: Vec<Shape>,
    /// Whether readers refuse fields that they do not know: `#[serde(deny_unknown_fields)]`.
    pub closed: bool,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Of its value.
    pub shape: Shape,
    /// Whether it is there.
    pub presence: Presence,
}

/// Whether a field is written, and whether a reader needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It is always written, and readers require it.
    Required,
    /// It is always written. Readers can do without: an `Option`, or `#[serde(default)]`.
    Defaulted,
    /// It may not be written, and readers can do without.
    Optional,
    /// It may not be written, yet readers require it: `skip_serializing_if` without a `default`.
    Unreadable,
}

impl Presence {
    /// Of a field that is always written, or not, and that readers require, or not.
    #[must_use]
    pub fn new(always_written: bool, required: bool) -> Self {
        match (always_written, required) {
            (true, true) => Self::Required,
            (true, false) => Self::Defaulted,
            (false, false) => Self::Optional,
            (false, true) => Self::Unreadable,
        }
    }

    /// Whether each payload has the field.
    #[must_use]
    pub fn always_written(self) -> bool {
        matches!(self, Self::Required | Self::Defaulted)
    }

    /// Whether a reader fails without the field.
    #[must_use]
    pub fn required(self) -> bool {
        matches!(self, Self::Required | Self::Unreadable)
    }
}

/// A whole number between two bounds, which belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// The least one, if there is one.
    pub min: Option<i128>,
    /// The greatest one, if there is one.
    pub max: Option<i128>,
}

/// The named integers, smallest first.
const INTEGERS: [(&str, Option<i128>, Option<i128>); 11] = [
    ("u8", Some(0), Some(u8::MAX as i128)),
    ("i8", Some(i8::MIN as i128), Some(i8::MAX as i128)),
    ("u16", Some(0), Some(u16::MAX as i128)),
    ("i16", Some(i16::MIN as i128), Some(i16::MAX as i128)),
    ("u32", Some(0), Some(u32::MAX as i128)),
    ("i32", Some(i32::MIN as i128), Some(i32::MAX as i128)),
    ("u64", Some(0), Some(u64::MAX as i128)),
    ("i64", Some(i64::MIN as i128), Some(i64::MAX as i128)),
    // The greatest u128 is no i128. That no number is above it does not matter here.
    ("u128", Some(0), None),
    ("i128", Some(i128::MIN), Some(i128::MAX)),
    ("integer", None, None),
];

impl Integer {
    /// The integer type of this name, such as `u32`; `integer` has no bounds.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (_, min, max) = INTEGERS.iter().find(|(known, ..)| *known == name)?;
        Some(Self { min: *min, max: *max })
    }

    /// Its name, if it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let known = INTEGERS.iter().find(|(_, min, max)| (*min, *max) == (self.min, self.max));
        known.map(|(name, ..)| *name)
    }

    /// Whether each of `other` is one of these.
    #[must_use]
    pub fn has_all_of(self, other: Self) -> bool {
        let above = self.min.is_none_or(|min| other.min.is_some_and(|other| min <= other));
        let below = self.max.is_none_or(|max| other.max.is_some_and(|other| other <= max));
        above && below
    }

    /// Whether a double has each of these without loss.
    #[must_use]
    pub fn fits_a_double(self) -> bool {
        const EXACT: i128 = 1 << 53;
        Self { min: Some(-EXACT), max: Some(EXACT) }.has_all_of(self)
    }
}

/// How exactly a number is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// As an `f32`.
    Single,
    /// As an `f64`.
    Double,
    /// Nothing is said.
    Unknown,
}

/// A value that is written down in a shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Bool(bool),
}

/// One of several variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Union {
    /// Where it is said which variant it is.
    pub tagging: Tagging,
    /// By their names. `None`: the variant has no content.
    pub variants: BTreeMap<String, Option<Shape>>,
}

/// Where a union says which of its variants it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tagging {
    /// `{"card": …}`, or `"cash"`: the form of serde without an attribute.
    External,
    /// `{"type": "card", …}`: in the field of this name, `#[serde(tag = "type")]`. What
    /// `#[serde(tag = "type", content = "is")]` writes is the same with variants that have one
    /// field, `is`.
    Internal(String),
}

impl Shape {
    /// `null`, or this.
    #[must_use]
    pub fn nullable(self) -> Self {
        match self {
            Self::Nullable(_) | Self::Any | Self::Null => self,
            shape => Self::Nullable(Box::new(shape)),
        }
    }

    /// A list of these.
    #[must_use]
    pub fn list(self) -> Self {
        Self::List { items: Box::new(self), length: None }
    }

    /// The shapes directly in this one.
    #[must_use]
    pub fn parts(&self) -> Vec<&Shape> {
        match self {
            Self::List { items: part, .. } | Self::Map(part) | Self::Nullable(part) => vec![part],
            Self::Tuple(parts) | Self::AnyOf(parts) => parts.iter().collect(),
            Self::Object(object) => {
                object.fields.values().map(|field| &field.shape).chain(&object.flattened).collect()
            }
            Self::Union(union) => union.variants.values().flatten().collect(),
            _ => Vec::new(),
        }
    }
}

impl Shape {
    fn parts_mut(&mut self) -> Vec<&mut Shape> {
        match self {
            Self::List { items: part, .. } | Self::Map(part) | Self::Nullable(part) => vec![part],
            Self::Tuple(parts) | Self::AnyOf(parts) => parts.iter_mut().collect(),
            Self::Object(Object { fields, flattened, .. }) => {
                fields.values_mut().map(|field| &mut field.shape).chain(flattened).collect()
            }
            Self::Union(union) => union.variants.values_mut().flatten().collect(),
            _ => Vec::new(),
        }
    }
}

/// What the payload of an event is: its shape, and the types that are named in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Of the whole.
    pub shape: Shape,
    /// By their names, which mean nothing outside of this payload.
    pub types: BTreeMap<String, Shape>,
    /// Fields that were there once, by their paths: none of their names is free for something else.
    pub removed: BTreeMap<String, Shape>,
}

impl Payload {
    /// A payload without named types.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { shape, types: BTreeMap::new(), removed: BTreeMap::new() }
    }

    /// The shape, or the one that it names. `None` if a name leads nowhere, or only to names.
    #[must_use]
    pub fn resolve<'a>(&'a self, mut shape: &'a Shape) -> Option<&'a Shape> {
        for _ in 0..=self.types.len() {
            match shape {
                Shape::Named(name) => shape = self.types.get(name)?,
                shape => return Some(shape),
            }
        }
        None
    }

    /// The first name in it that leads nowhere.
    #[must_use]
    pub fn dangling(&self) -> Option<&str> {
        let mut shapes: Vec<&Shape> = self.types.values().chain([&self.shape]).collect();
        while let Some(shape) = shapes.pop() {
            if let Shape::Named(name) = shape
                && self.resolve(shape).is_none()
            {
                return Some(name);
            }
            shapes.extend(shape.parts());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_integer_has_all_of_a_narrower_one() {
        let named = |name| Integer::named(name).unwrap();
        assert!(named("u16").has_all_of(named("u8")) && !named("u8").has_all_of(named("u16")));
        assert!(named("i16").has_all_of(named("u8")) && !named("u16").has_all_of(named("i8")));
        assert!(named("integer").has_all_of(named("u128")));
        assert!(!named("i128").has_all_of(named("integer")));
        for (name, ..) in INTEGERS {
            assert_eq!(named(name).name(), Some(name));
        }
    }

    #[test]
    fn a_name_that_leads_in_a_circle_leads_nowhere() {
        let mut payload = Payload::new(Shape::Named("A".to_owned()));
        payload.types.insert("A".to_owned(), Shape::Named("B".to_owned()));
        payload.types.insert("B".to_owned(), Shape::Named("A".to_owned()));
        assert_eq!(payload.resolve(&payload.shape), None);
        assert!(payload.dangling().is_some());
    }
}
