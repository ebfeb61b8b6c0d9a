//! Parses `#[event(…)]`: which keys are where, and the form of their values. What the values may
//! be, and which keys go together, is decided in [`model`](super::model).

use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{
    Attribute, Data, DeriveInput, Field, Fields, Ident, LitInt, LitStr, Meta, Path, Token, Variant,
};

use crate::errors::{self, Errors};
use crate::grammar::{self, Once, Value, flag, value};
use crate::symbol::{
    CODEC, CRATE, DUPLICATE, EVENT, HEADER, ID, KEY, KEYLESS, NAME, OCCURRED_AT, TOPIC,
    TRANSPARENT, UPCAST_FROM, VERSION,
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
}

/// What `#[event(…)]` says on a type or a variant.
#[derive(Default)]
pub(super) struct Attrs {
    pub(super) topic: Once<TopicValue>,
    pub(super) name: Once<LitStr>,
    pub(super) version: Once<LitInt>,
    pub(super) codec: Once<Path>,
    pub(super) keyless: Once<()>,
    pub(super) duplicate: Once<()>,
    pub(super) transparent: Once<()>,
    pub(super) upcast_from: Once<Path>,
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

pub(super) enum TopicValue {
    Literal(LitStr),
    Const(Path),
}

impl<'a> Item<'a> {
    // Input:  #[event(topic = "orders")] struct Paid { #[event(key)] order: u64 }
    // Output: attrs: { topic: "orders" }, shapes: [{ fields: [(order, { key })] }]
    pub(super) fn parse(errors: &Errors, input: &'a DeriveInput) -> Self {
        let (level, shapes) = match &input.data {
            Data::Struct(data) => {
                (Level::Struct, vec![Shape { variant: None, fields: fields(errors, &data.fields) }])
            }
            Data::Enum(data) => {
                let shapes = data.variants.iter().map(|variant| Shape {
                    variant: Some((variant, attrs(errors, Level::Variant, &variant.attrs))),
                    fields: fields(errors, &variant.fields),
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

/// The place of an `#[event(…)]`, which decides which keys it knows.
#[derive(Clone, Copy)]
enum Level {
    Struct,
    Enum,
    Variant,
    Field,
}

impl Level {
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Struct => {
                &[TOPIC, NAME, VERSION, CODEC, KEYLESS, DUPLICATE, UPCAST_FROM, TRANSPARENT, CRATE]
            }
            Self::Enum => &[TOPIC, VERSION, CODEC, KEYLESS, DUPLICATE, TRANSPARENT, CRATE],
            Self::Variant => &[TOPIC, NAME, VERSION, KEYLESS, DUPLICATE, UPCAST_FROM],
            Self::Field => &[KEY, HEADER, ID, OCCURRED_AT],
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Field => "key",
            _ => "topic = \"order-events\"",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Struct => "a struct",
            Self::Enum => "an enum",
            Self::Variant => "a variant",
            Self::Field => "a field",
        }
    }

    /// The key that was meant by one that is unknown here, and what to say.
    fn unknown(self, key: &Ident) -> (Option<&'static str>, syn::Error) {
        let word = key.to_string();
        let elsewhere = match self {
            _ if Self::Field.keys().contains(&&*word) => Some("put it on a field"),
            Self::Field if Self::Struct.keys().contains(&&*word) => Some("put it on the type"),
            Self::Enum if word == NAME => {
                Some("each variant is an event of its own: put it on the variants")
            }
            Self::Enum if word == UPCAST_FROM => {
                Some("each variant is an event of its own: put it on the variant that it becomes")
            }
            Self::Variant if word == TRANSPARENT => {
                Some("put it on the enum, of which each variant is then the event in it")
            }
            Self::Variant if Self::Enum.keys().contains(&&*word) => Some("put it on the enum"),
            _ => None,
        };
        let (meant, message) = match elsewhere {
            Some(place) => {
                (None, format!("`{word}` does not go on {}\nhelp: {place}", self.noun()))
            }
            None => {
                let (meant, help) = errors::suggestion(&word, self.keys());
                (meant, format!("unknown key `{word}`\n{help}"))
            }
        };
        (meant, syn::Error::new(key.span(), message))
    }
}

fn attrs(errors: &Errors, level: Level, attributes: &[Attribute]) -> Attrs {
    let mut attrs = Attrs::default();
    let garbled = entries(errors, level, attributes, |name, key, input| match name {
        TOPIC => attrs.topic.set(key, value(key, input, "topic = \"order-events\"")),
        NAME => attrs.name.set(key, value(key, input, "name = \"order.created\"")),
        VERSION => attrs.version.set(key, value(key, input, "version = 1")),
        CODEC => attrs.codec.set(key, value(key, input, "codec = outbox::codec::Json")),
        UPCAST_FROM => {
            attrs.upcast_from.set(key, value(key, input, "upcast_from = OrderCreatedV1"))
        }
        CRATE => attrs.krate.set(key, value(key, input, "crate = my_crate::outbox")),
        KEYLESS => attrs.keyless.set(key, flag(key, input)),
        DUPLICATE => attrs.duplicate.set(key, flag(key, input)),
        TRANSPARENT => attrs.transparent.set(key, flag(key, input)),
        _ => Ok(()),
    });
    Attrs { garbled, ..attrs }
}

fn fields<'a>(errors: &Errors, fields: &'a Fields) -> Vec<(&'a Field, FieldAttrs)> {
    let parse = |field: &'a Field| {
        let mut attrs = FieldAttrs::default();
        entries(errors, Level::Field, &field.attrs, |name, key, input| match name {
            KEY => attrs.key.set(key, flag(key, input)),
            HEADER => {
                let named = input.peek(Token![=]);
                let name = named.then(|| value(key, input, "header = \"x-tenant\"")).transpose();
                attrs.header.set(key, name)
            }
            ID => attrs.id.set(key, flag(key, input)),
            OCCURRED_AT => attrs.occurred_at.set(key, flag(key, input)),
            _ => Ok(()),
        });
        (field, attrs)
    };
    fields.iter().map(parse).collect()
}

/// Calls `each` with every key of every `#[event(…)]`, as it is known and as it was typed; `each`
/// parses the value. A mistake drops its own entry, and none of those after it. Returns whether
/// something was not a key at all, or was a `key` or a `transparent` in the wrong place.
fn entries(
    errors: &Errors,
    level: Level,
    attributes: &[Attribute],
    mut each: impl FnMut(&str, &Ident, ParseStream<'_>) -> syn::Result<()>,
) -> bool {
    let mut garbled = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(EVENT)) {
        let Meta::List(list) = &attribute.meta else {
            errors.over(
                attribute,
                format!(
                    "this says nothing about the event\nhelp: write `#[event({})]`",
                    level.example()
                ),
            );
            continue;
        };
        let parsed = list.parse_args_with(|input: ParseStream<'_>| {
            grammar::list(errors, input, |input| {
                let Some(key) = grammar::word(input) else {
                    garbled = true;
                    return Err(
                        input.error(format!("expected a key\nhelp: write `{}`", level.example()))
                    );
                };
                let word = key.to_string();
                if level.keys().contains(&&*word) {
                    return each(&word, &key, input);
                }
                garbled |= word == KEY || word == TRANSPARENT;
                let (meant, unknown) = level.unknown(&key);
                if let Some(meant) = meant {
                    // A value was given, even if something is wrong with it.
                    let _ = each(meant, &key, input);
                }
                Err(unknown)
            });
            Ok(())
        });
        errors.ok(parsed);
    }
    garbled
}

impl Value for TopicValue {
    const EXPECTED: &'static str = "a string literal or the path of a `const`";
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            input.parse().map(Self::Literal)
        } else {
            input.parse().map(Self::Const)
        }
    }
}
