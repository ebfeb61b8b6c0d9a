//! What of a type's payload is that of one event.

use std::collections::BTreeMap;

use super::Role;
use crate::schema::read::keep_what_is_named;
use crate::shape::{Object, Payload, Shape, Tagging, Union};

/// What an event is on the wire, as the derive reads it from the attributes of serde.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    pub(super) content: Content,
    pub(super) key: &'static [&'static str],
}

impl Wire {
    /// Its payload, and the names of the fields of its key in that.
    #[must_use]
    pub const fn new(content: Content, key: &'static [&'static str]) -> Self {
        Self { content, key }
    }
}

/// What of the type is the payload. A variant has two names: as it is written, and as it is read.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// The whole value.
    Whole,
    /// The content of this variant.
    OfVariant(&'static str, &'static str),
    /// The whole value of an enum that says in itself which variant it is, of this variant.
    OneOf(&'static str, &'static str),
    /// Serde neither writes nor reads it.
    Nothing,
}

pub(super) fn of(whole: &Payload, wire: &Wire, role: Role) -> Option<Payload> {
    let named = |written: &'static str, read: &'static str| match role {
        Role::Emitted => written,
        Role::ReadOnly | Role::EmittedBy(_) => read,
    };
    let shape = match wire.content {
        Content::Nothing => return None,
        Content::Whole => whole.resolve(&whole.shape)?.clone(),
        Content::OfVariant(written, read) => of_variant(whole, named(written, read))?,
        Content::OneOf(written, read) => one_of(whole, named(written, read))?,
    };
    // As `Json` writes what has no fields.
    let shape = if shape == Shape::Null { Shape::Object(Object::default()) } else { shape };
    let mut payload = Payload { shape, ..whole.clone() };
    keep_what_is_named(&mut payload);
    Some(payload)
}

fn of_variant(whole: &Payload, variant: &str) -> Option<Shape> {
    let content = match whole.resolve(&whole.shape)? {
        Shape::Union(Union { tagging: Tagging::External, variants }) => {
            variants.get(variant)?.clone()
        }
        // No variant has fields.
        Shape::Values(_) => None,
        // There is one variant only.
        Shape::Object(Object { fields, .. }) => Some(fields.get(variant)?.shape.clone()),
        _ => return None,
    };
    let content = content.unwrap_or(Shape::Null);
    whole.resolve(&content).cloned()
}

fn one_of(whole: &Payload, variant: &str) -> Option<Shape> {
    match whole.resolve(&whole.shape)? {
        Shape::Union(union) => {
            let content = union.variants.get(variant)?.clone();
            let variants = BTreeMap::from([(variant.to_owned(), content)]);
            Some(Shape::Union(Union { tagging: union.tagging.clone(), variants }))
        }
        other => Some(other.clone()),
    }
}
