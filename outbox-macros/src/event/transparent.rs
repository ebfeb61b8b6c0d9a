//! An event that is another one: the model of `#[event(transparent)]`.

use syn::{Generics, Ident, Path};

use super::attr::{Attrs, FieldAttrs, Item, Shape};
use super::model::Part;
use crate::errors::Errors;

/// Valid by construction, but for the types of the fields: those the compiler checks.
pub(super) struct Transparent<'a> {
    pub(super) ident: &'a Ident,
    pub(super) generics: &'a Generics,
    pub(super) krate: Option<&'a Path>,
    /// At least one.
    pub(super) inner: Vec<Inner<'a>>,
    pub(super) allows_deprecated: bool,
}

/// The event that a variant is, or a struct.
pub(super) struct Inner<'a> {
    /// `None` for a struct.
    pub(super) variant: Option<&'a Ident>,
    pub(super) field: Part<'a>,
    /// The type of a version before that of the event.
    pub(super) upcast_from: Option<&'a Path>,
}

impl<'a> Transparent<'a> {
    /// `None` if the item cannot be transparent; every reason is then in `errors`.
    pub(super) fn new(errors: &Errors, item: &'a Item<'a>) -> Option<Self> {
        let input = item.input;
        if item.shapes.is_empty() {
            errors.at(
                input.ident.span(),
                "there is no event in it\nhelp: make it an enum with variants",
            );
        }
        check_keys(errors, &item.attrs);
        let inner: Vec<_> =
            item.shapes.iter().map(|shape| Inner::new(errors, item, shape)).collect();
        errors.is_empty().then_some(Self {
            ident: &input.ident,
            generics: &input.generics,
            krate: item.attrs.krate.get(),
            inner: inner.into_iter().collect::<Option<_>>()?,
            allows_deprecated: item.allows_deprecated(),
        })
    }
}

impl<'a> Inner<'a> {
    fn new(errors: &Errors, item: &'a Item<'a>, shape: &'a Shape<'a>) -> Option<Self> {
        let own = shape.variant.as_ref();
        if let Some((_, attrs)) = own {
            check_keys(errors, attrs);
        }
        for (_, attrs) in &shape.fields {
            check_field(errors, attrs);
        }
        let ident = own.map_or(&item.input.ident, |(variant, _)| &variant.ident);
        let [(field, _)] = &*shape.fields else {
            let (number, event) = match shape.fields.len() {
                0 => ("no field".to_owned(), ident.to_string()),
                number => (format!("{number} fields"), "OrderPlaced".to_owned()),
            };
            errors.at(
                ident.span(),
                format!(
                    "`{ident}` has {number}, and what is transparent has one, an event\n\
                     help: write `{ident}({event})`, where `{event}` is a struct with `#[derive(DomainEvent)]`,\n\
                     \x20     or remove `transparent` and say topic and key here"
                ),
            );
            return None;
        };
        let attrs = own.map_or(&item.attrs, |(_, attrs)| attrs);
        Some(Self {
            variant: own.map(|(variant, _)| &variant.ident),
            field: Part::new(0, field),
            upcast_from: attrs.upcast_from.get(),
        })
    }
}

/// Refuses what the event inside says itself.
fn check_keys(errors: &Errors, attrs: &Attrs) {
    let said = [
        attrs.topic.key(),
        attrs.name.key(),
        attrs.version.key(),
        attrs.codec.key(),
        attrs.keyless.key(),
        attrs.duplicate.key(),
        attrs.read_only.key(),
        attrs.unlocked.key(),
        attrs.emitted_by.key(),
    ];
    for key in said.into_iter().flatten() {
        says_itself(errors, key);
    }
}

fn check_field(errors: &Errors, attrs: &FieldAttrs) {
    let said = [attrs.key.key(), attrs.header.key(), attrs.id.key(), attrs.occurred_at.key()];
    for key in said.into_iter().flatten() {
        says_itself(errors, key);
    }
}

fn says_itself(errors: &Errors, key: &Ident) {
    errors.at(
        key.span(),
        format!(
            "`{key}` has no meaning beside `transparent`: the event in the field says that itself\n\
             help: remove it, or write it on the type of the field"
        ),
    );
}
