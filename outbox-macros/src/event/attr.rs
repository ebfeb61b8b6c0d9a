//! Parses `#[event(…)]`: which keys are where, and the form of their values. What the values may
//! be, and which keys go together, is decided in [`model`](super::model).

use quote::ToTokens;
use syn::parse::ParseStream;
use syn::token::Paren;
use syn::{
    Attribute, Data, DeriveInput, Field, Fields, Ident, LitInt, LitStr, Meta, Path, Token, Variant,
};

use super::level::Level;
use super::words::{self, Given};
use crate::errors::Errors;
use crate::grammar::{self, Once, Value, flag, value};
use crate::symbol::{
    CODEC, CRATE, DUPLICATE, EMITTED_BY, EVENT, HEADER, ID, KEY, KEYLESS, NAME, OCCURRED_AT,
    READ_ONLY, TOPIC, TRANSPARENT, UNLOCKED, UPCAST_FROM, VERSION,
};
use crate::tokens::mentions;

/// The item and all of its `#[event(…)]` attributes.
pub(super) struct Item<'a> {
    pub(super) input: &'a DeriveInput,
    pub(super) attrs: Attrs,
    /// One for a struct, one per variant for an enum, none for a union.
    pub(super) shapes: Vec<Shape<'a>>,
}

/// A struct, or a variant of an enum.
pub(super) struct Shape<'a> {
    pub(super) variant: Option<(&'a Variant, Attrs)>,
    pub(super) fields: Vec<(&'a Field, FieldAttrs)>,
    /// Whether something on a field may have been meant as the key.
    pub(super) garbled: bool,
}

/// What `#[event(…)]` says on a type or a variant.
#[derive(Default)]
pub(super) struct Attrs {
    pub(super) topic: Once<TextValue>,
    pub(super) name: Once<LitStr>,
    pub(super) version: Once<LitInt>,
    pub(super) codec: Once<Path>,
    pub(super) keyless: Once<()>,
    pub(super) duplicate: Once<()>,
    pub(super) transparent: Once<()>,
    pub(super) read_only: Once<()>,
    pub(super) upcast_from: Once<Path>,
    pub(super) unlocked: Once<()>,
    pub(super) emitted_by: Once<TextValue>,
    pub(super) krate: Once<Path>,
    /// Whether something here may have been meant as the topic or the key. If so, a missing topic
    /// or key is not reported as another mistake.
    pub(super) garbled: bool,
}

/// What `#[event(…)]` says on a field.
#[derive(Default)]
pub(super) struct FieldAttrs {
    pub(super) key: Once<()>,
    pub(super) header: Once<Option<LitStr>>,
    pub(super) id: Once<()>,
    pub(super) occurred_at: Once<()>,
}

pub(super) enum TextValue {
    Literal(LitStr),
    Const(Path),
}

impl<'a> Item<'a> {
    // Input:  #[event(topic = "orders")] struct Paid { #[event(key)] order: u64 }
    // Output: attrs: { topic: "orders" }, shapes: [{ fields: [(order, { key })] }]
    pub(super) fn parse(errors: &Errors, input: &'a DeriveInput) -> Self {
        let (level, shapes) = match &input.data {
            Data::Struct(data) => (Level::Struct, vec![Shape::parse(errors, None, &data.fields)]),
            Data::Enum(data) => {
                let shapes = data.variants.iter().map(|variant| {
                    let attrs = attrs(errors, Level::Variant, &variant.attrs);
                    Shape::parse(errors, Some((variant, attrs)), &variant.fields)
                });
                (Level::Enum, shapes.collect())
            }
            Data::Union(_) => (Level::Struct, Vec::new()),
        };
        Self { input, attrs: attrs(errors, level, &input.attrs), shapes }
    }

    /// Whether the type, a variant or a field says `#[allow(deprecated)]`. What it names there is
    /// named by the expansion as well.
    pub(super) fn allows_deprecated(&self) -> bool {
        let variants = self.shapes.iter().filter_map(|shape| shape.variant.as_ref());
        let fields = self.shapes.iter().flat_map(|shape| &shape.fields);
        let mut attributes = (self.input.attrs.iter())
            .chain(variants.flat_map(|(variant, _)| &variant.attrs))
            .chain(fields.flat_map(|(field, _)| &field.attrs));
        attributes.any(|attribute| {
            let path = attribute.path();
            (path.is_ident("allow") || path.is_ident("expect"))
                && mentions(attribute.meta.to_token_stream(), "deprecated")
        })
    }
}

fn attrs(errors: &Errors, level: Level, attributes: &[Attribute]) -> Attrs {
    let mut attrs = Attrs::default();
    let garbled = entries(errors, level, attributes, |name, key, input| match name {
        TOPIC => attrs.topic.set(key, value(key, input, words::example(TOPIC))),
        NAME => attrs.name.set(key, value(key, input, words::example(NAME))),
        VERSION => attrs.version.set(key, value(key, input, words::example(VERSION))),
        CODEC => attrs.codec.set(key, value(key, input, words::example(CODEC))),
        UPCAST_FROM => attrs.upcast_from.set(key, value(key, input, words::example(UPCAST_FROM))),
        EMITTED_BY => attrs.emitted_by.set(key, value(key, input, words::example(EMITTED_BY))),
        UNLOCKED => attrs.unlocked.set(key, flag(key, input)),
        CRATE => attrs.krate.set(key, value(key, input, words::example(CRATE))),
        KEYLESS => attrs.keyless.set(key, flag(key, input)),
        DUPLICATE => attrs.duplicate.set(key, flag(key, input)),
        TRANSPARENT => attrs.transparent.set(key, flag(key, input)),
        READ_ONLY => attrs.read_only.set(key, flag(key, input)),
        _ => Ok(()),
    });
    Attrs { garbled, ..attrs }
}

impl<'a> Shape<'a> {
    fn parse(errors: &Errors, variant: Option<(&'a Variant, Attrs)>, fields: &'a Fields) -> Self {
        let mut garbled = false;
        let parse = |field: &'a Field| {
            let mut attrs = FieldAttrs::default();
            garbled |= entries(errors, Level::Field, &field.attrs, |name, key, input| match name {
                KEY => attrs.key.set(key, key_alone(key, input)),
                HEADER => attrs.header.set(key, header(key, input)),
                ID => attrs.id.set(key, flag(key, input)),
                OCCURRED_AT => attrs.occurred_at.set(key, flag(key, input)),
                _ => Ok(()),
            });
            (field, attrs)
        };
        let fields = fields.iter().map(parse).collect();
        Self { variant, fields, garbled }
    }
}

fn header(key: &Ident, input: ParseStream<'_>) -> syn::Result<Option<LitStr>> {
    let is_named = input.peek(Token![=]) || input.peek(Token![:]) || input.peek(Paren);
    is_named.then(|| value(key, input, words::example(HEADER))).transpose()
}

fn key_alone(key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    let names_a_part = input.peek(Token![=]) && !input.peek2(LitStr);
    if !names_a_part {
        return flag(key, input);
    }
    Err(input.error(
        "`key` takes no value: the whole field is the key\n\
         help: write `key` alone; if the key is only a part of the field, make that part a field of the event",
    ))
}

/// Calls `each` with every key of every `#[event(…)]`, as it is known and as it was typed; `each`
/// parses the value. A mistake drops its own entry, and none of those after it. Returns whether
/// something here may have been meant as a topic or a key that is now missing.
fn entries(
    errors: &Errors,
    level: Level,
    attributes: &[Attribute],
    mut each: impl FnMut(&str, &Ident, ParseStream<'_>) -> syn::Result<()>,
) -> bool {
    let mut garbled = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(EVENT)) {
        let Meta::List(list) = &attribute.meta else {
            garbled = true;
            let example = level.example_with(&attribute.meta);
            errors.over(
                attribute,
                format!("this says nothing about the event\nhelp: write `#[event({example})]`"),
            );
            continue;
        };
        let parsed = list.parse_args_with(|input: ParseStream<'_>| {
            grammar::list(errors, input, |input| {
                let Some(key) = grammar::word(input) else {
                    garbled = true;
                    return Err(level.no_key(input));
                };
                let word = key.to_string();
                if level.keys().contains(&&*word) {
                    return each(&word, &key, input);
                }
                let unknown = level.unknown(&key, &Given::peek(input));
                garbled |= unknown.garbles;
                if let Some(meant) = unknown.meant {
                    // A value was given, even if something is wrong with it.
                    let _ = each(meant, &key, input);
                }
                Err(unknown.error)
            });
            Ok(())
        });
        errors.ok(parsed);
    }
    garbled
}

impl Value for TextValue {
    const EXPECTED: &'static str = "a string literal or the path of a `const`";
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            input.parse().map(Self::Literal)
        } else {
            input.parse().map(Self::Const)
        }
    }
}
