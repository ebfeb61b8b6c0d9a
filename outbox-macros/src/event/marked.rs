//! The fields of an event that are marked as part of its envelope.

use syn::{GenericArgument, Ident, PathArguments, Type};

use super::attr::{FieldAttrs, Item, Shape};
use super::header;
use super::model::{Common, Header, Part};
use crate::errors::Errors;

/// The fields of which `key` is the key the user typed, in their order.
pub(super) fn marked<'a, 's>(
    shape: &'a Shape<'a>,
    key: impl Fn(&'s FieldAttrs) -> Option<&'s Ident>,
) -> impl Iterator<Item = (&'s Ident, Part<'a>)>
where
    'a: 's,
{
    shape.fields.iter().enumerate().filter_map(move |(position, (field, attrs))| {
        key(attrs).map(|key| (key, Part::new(position, field)))
    })
}

pub(super) fn keys<'a>(
    errors: &Errors,
    item: &Item<'_>,
    shape: &'a Shape<'a>,
    ident: &Ident,
    common: &Common<'_>,
) -> Vec<Part<'a>> {
    let own_keyless = shape.own().and_then(|attrs| attrs.keyless.key());
    let keys: Vec<_> = marked(shape, |attrs| attrs.key.key()).collect();
    match (own_keyless.or(item.attrs.keyless.key()), keys.first()) {
        (None, None) if !common.key_missing => errors.at(
            ident.span(),
            format!(
                "`{ident}` has no key\n\
                 help: events with the same key stay in order: mark a field with `#[event(key)]`,\n\
                 \x20     or write `#[event(keyless)]` if these need no order"
            ),
        ),
        (Some(keyless), Some((key, first))) => {
            let of_the_enum = shape.variant.is_some() && own_keyless.is_none();
            errors.at(
                if of_the_enum { key.span() } else { keyless.span() },
                format!(
                    "the field `{}` is a key, but the event is `keyless`\nhelp: remove the `keyless`, or the `key`",
                    first.name()
                ),
            );
        }
        _ => {}
    }
    for (_, part) in keys.iter().filter(|(_, part)| is_option(part.ty)) {
        errors.over(
            part.ty,
            format!(
                "the key `{}` can be `None`, and an event without a key has no order\n\
                 help: make the field non-optional, or use as key a field which always has a value,\n\
                 \x20     or mark the event `#[event(keyless)]`",
                part.name()
            ),
        );
    }
    keys.into_iter().map(|(_, part)| part).collect()
}

pub(super) fn headers<'a>(errors: &Errors, shape: &'a Shape<'a>) -> Vec<Header<'a>> {
    let mut headers: Vec<Header<'a>> = Vec::new();
    for (position, (field, attrs)) in shape.fields.iter().enumerate() {
        let (Some(key), Some(given)) = (attrs.header.key(), attrs.header.get()) else { continue };
        let part = Part::new(position, field);
        let (name, span) = match (given, &field.ident) {
            (Some(literal), _) => (literal.value(), literal.span()),
            (None, Some(_)) => (part.name(), key.span()),
            (None, None) => {
                errors.at(
                    key.span(),
                    "this header has no name\nhelp: name it: `header = \"x-tenant\"`",
                );
                continue;
            }
        };
        if let Err(message) = header::check(&name) {
            errors.at(span, message);
        } else if headers.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            errors.at(
                span,
                format!(
                    "there is a header `{name}` already\nhelp: give one of the two another name"
                ),
            );
        }
        headers.push(Header { name, part });
    }
    headers
}

pub(super) fn at_most_one<'a>(
    errors: &Errors,
    shape: &'a Shape<'a>,
    noun: &str,
    key: impl Fn(&'a FieldAttrs) -> Option<&'a Ident>,
) -> Option<Part<'a>> {
    let mut marked = marked(shape, key);
    let (_, first) = marked.next()?;
    for (key, _) in marked {
        errors.at(
            key.span(),
            format!("`{}` is the event's {noun} already\nhelp: remove one `{key}`", first.name()),
        );
    }
    Some(first)
}

/// Whether the type is spelled `Option<…>`. One behind an alias is refused by its missing
/// `EventKey`.
fn is_option(ty: &Type) -> bool {
    match ty {
        Type::Group(group) => is_option(&group.elem),
        Type::Paren(paren) => is_option(&paren.elem),
        Type::Reference(reference) => is_option(&reference.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident == "Option"
                && matches!(&last.arguments, PathArguments::AngleBracketed(list)
                    if matches!(list.args.first(), Some(GenericArgument::Type(_))) && list.args.len() == 1)
        }),
        _ => false,
    }
}
