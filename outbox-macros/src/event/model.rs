//! The event as it will be: borrowed from the syntax, and valid by construction.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::{Data, Field, Generics, Ident, LitInt, LitStr, Path, Type};

use super::attr::{Attrs, Item, Shape, TextValue};
use super::marked::{at_most_one, headers, keys, marked};
use super::wire::Wire;
use super::{serde, topic};
use crate::errors::Errors;

pub(super) struct Event<'a> {
    pub(super) ident: &'a Ident,
    pub(super) generics: &'a Generics,
    pub(super) krate: Option<&'a Path>,
    /// JSON if it is not given.
    pub(super) codec: Option<&'a Path>,
    /// At least one.
    pub(super) kinds: Vec<Kind<'a>>,
    /// Whether something in the item may be deprecated without a warning.
    pub(super) allows_deprecated: bool,
    /// Whether the payload of an event is the content of its variant.
    pub(super) has_content_of_variants: bool,
    /// Whether it is an old version, which is read and never emitted.
    pub(super) read_only: bool,
    pub(super) contract: Contract<'a>,
}

/// With which lock the event is compared.
#[derive(Clone, Copy)]
pub(super) enum Contract<'a> {
    /// That of the crate.
    Own,
    /// That of the program that emits it.
    EmittedBy(&'a TextValue),
    /// With none.
    Unlocked,
}

/// What a value of the type can be: the struct itself, or a variant.
pub(super) struct Kind<'a> {
    /// `None` for a struct.
    pub(super) variant: Option<&'a Ident>,
    /// Position among the variants that serde reads. `None`: it reads no such variant.
    pub(super) position: Option<u32>,
    /// The type of the version before this one.
    pub(super) upcast_from: Option<&'a Path>,
    pub(super) topic: Topic<'a>,
    pub(super) name: String,
    pub(super) version: u32,
    /// Empty for a keyless event.
    pub(super) keys: Vec<Part<'a>>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) id: Option<Part<'a>>,
    pub(super) occurred_at: Option<Part<'a>>,
    /// Another type of the program may be the same event.
    pub(super) duplicate: bool,
    /// Where it is named.
    pub(super) named_at: Span,
    pub(super) wire: Wire,
}

#[derive(Clone, Copy)]
pub(super) enum Topic<'a> {
    /// A legal name.
    Literal(&'a LitStr),
    /// Checked when the compiler evaluates it.
    Const(&'a Path),
}

/// A field which is part of the envelope.
pub(super) struct Part<'a> {
    /// `None` in a tuple.
    pub(super) ident: Option<&'a Ident>,
    pub(super) position: usize,
    pub(super) ty: &'a Type,
}

pub(super) struct Header<'a> {
    pub(super) name: String,
    pub(super) part: Part<'a>,
}

impl<'a> Event<'a> {
    /// `None` if the item cannot be an event; every reason is then in `errors`.
    pub(super) fn new(errors: &Errors, item: &'a Item<'a>) -> Option<Self> {
        let input = item.input;
        match &input.data {
            Data::Union(data) => {
                errors.at(
                    data.union_token.span,
                    "a union cannot be an event\nhelp: make it a struct or an enum",
                );
            }
            Data::Enum(data) if data.variants.is_empty() => {
                errors.at(
                    input.ident.span(),
                    "an enum without variants has no event\nhelp: add a variant",
                );
            }
            _ => {}
        }
        let common = Common::new(errors, item);
        // Not a `filter_map`: the mistakes of all kinds are to be found.
        let kinds: Vec<_> =
            item.shapes.iter().map(|shape| Kind::new(errors, item, shape, &common)).collect();
        let mut kinds = kinds.into_iter().collect::<Option<Vec<_>>>()?;
        let read = kinds.iter_mut().zip(&item.shapes).filter(|(_, shape)| shape.is_read());
        for (position, (kind, _)) in (0..).zip(read) {
            kind.position = Some(position);
        }
        check_distinct(errors, &kinds);
        let contract = Contract::new(errors, &item.attrs);
        errors.is_empty().then_some(Self {
            ident: &input.ident,
            generics: &input.generics,
            krate: item.attrs.krate.get(),
            codec: item.attrs.codec.get(),
            kinds,
            allows_deprecated: item.allows_deprecated(),
            has_content_of_variants: serde::has_content_of_variants(input),
            read_only: item.attrs.read_only.key().is_some(),
            contract,
        })
    }
}

impl<'a> Contract<'a> {
    fn new(errors: &Errors, attrs: &'a Attrs) -> Self {
        if let (Some(_), Some(key)) = (attrs.unlocked.key(), attrs.emitted_by.key()) {
            errors.at(
                key.span(),
                "the event is `unlocked`, so it is compared with no lock\nhelp: remove the `unlocked`, or the `emitted_by`",
            );
        }
        match attrs.emitted_by.get() {
            Some(emitter) => {
                if let TextValue::Literal(literal) = emitter
                    && let Err(message) = checked_emitter(&literal.value())
                {
                    errors.at(literal.span(), message);
                }
                Self::EmittedBy(emitter)
            }
            None if attrs.unlocked.key().is_some() => Self::Unlocked,
            None => Self::Own,
        }
    }
}

fn checked_emitter(source: &str) -> Result<(), &'static str> {
    if source.is_empty() {
        return Err("this names no lock\nhelp: write `emitted_by = \"../orders/events.lock\"`");
    }
    let Some(object) = source.strip_prefix("git:") else { return Ok(()) };
    match object.split_once(':') {
        // git would take it for an option.
        Some((revision, path))
            if !revision.is_empty() && !path.is_empty() && !revision.starts_with('-') =>
        {
            Ok(())
        }
        _ => Err("this names no file of a revision\n\
             help: write `git:REVISION:PATH`, such as `emitted_by = \"git:origin/main:orders/events.lock\"`"),
    }
}

impl Shape<'_> {
    /// Whether serde reads it.
    fn is_read(&self) -> bool {
        self.variant.as_ref().is_none_or(|(variant, _)| !serde::is_skipped(&variant.attrs))
    }

    /// What a variant says itself.
    pub(super) fn own(&self) -> Option<&Attrs> {
        self.variant.as_ref().map(|(_, attrs)| attrs)
    }
}

/// What holds for all kinds of the item, each part judged once.
pub(super) struct Common<'a> {
    /// `Some(None)`: there is one, and it is wrong.
    topic: Option<Option<Topic<'a>>>,
    version: Option<Option<u32>>,
    /// Whether a missing topic was reported already, or follows from a mistake that was.
    topic_missing: bool,
    pub(super) key_missing: bool,
}

impl<'a> Common<'a> {
    fn new(errors: &Errors, item: &'a Item<'a>) -> Self {
        let Item { input, attrs, shapes } = item;
        let ident = &input.ident;
        let garbled = attrs.garbled
            || shapes
                .iter()
                .any(|shape| shape.garbled || shape.own().is_some_and(|own| own.garbled));
        let topic_missing = !garbled
            && attrs.topic.key().is_none()
            && !shapes.is_empty()
            && shapes.iter().all(|shape| shape.own().and_then(|attrs| attrs.topic.key()).is_none());
        if topic_missing {
            no_topic(errors, ident);
        }
        let key_missing = !garbled
            && attrs.keyless.key().is_none()
            && shapes.len() > 1
            && shapes.iter().all(|shape| {
                shape.own().and_then(|attrs| attrs.keyless.key()).is_none()
                    && marked(shape, |attrs| attrs.key.key()).next().is_none()
            });
        if key_missing {
            errors.at(
                ident.span(),
                format!(
                    "`{ident}` has no keys\n\
                     help: events with the same key stay in order: mark a field of each variant with `#[event(key)]`,\n\
                     \x20     or write `#[event(keyless)]` if these need no order"
                ),
            );
        }
        Self {
            topic: attrs.topic.get().map(|topic| checked_topic(errors, topic)),
            version: attrs.version.get().map(|version| checked_version(errors, version)),
            topic_missing: topic_missing || garbled,
            // What is only read goes to no partition.
            key_missing: key_missing || garbled || attrs.read_only.key().is_some(),
        }
    }
}

impl<'a> Kind<'a> {
    fn new(
        errors: &Errors,
        item: &'a Item<'a>,
        shape: &'a Shape<'a>,
        common: &Common<'a>,
    ) -> Option<Self> {
        let variant = shape.variant.as_ref().map(|(variant, _)| &variant.ident);
        let own = shape.own();
        let ident = variant.unwrap_or(&item.input.ident);

        let own_topic =
            own.and_then(|own| own.topic.get()).map(|topic| checked_topic(errors, topic));
        let topic = own_topic.or(common.topic);
        let topic_given =
            own.is_some_and(|own| own.topic.key().is_some()) || item.attrs.topic.key().is_some();
        if !topic_given && !common.topic_missing {
            no_topic(errors, ident);
        }
        let own_version =
            own.and_then(|own| own.version.get()).map(|version| checked_version(errors, version));
        let version = own_version.or(common.version).unwrap_or(Some(1));
        let upcast_from = &own.unwrap_or(&item.attrs).upcast_from;
        if let (Some(key), Some(1)) = (upcast_from.key(), version) {
            errors.at(
                key.span(),
                "there is no version before version 1\nhelp: say which version this is: `version = 2`",
            );
        }
        let given_name = own.unwrap_or(&item.attrs).name.get();
        let name = checked_name(errors, given_name, ident);
        let keys = keys(errors, item, shape, ident, common);
        let headers = headers(errors, shape);
        let id = at_most_one(errors, shape, "id", |attrs| attrs.id.key());
        let occurred_at = at_most_one(errors, shape, "time", |attrs| attrs.occurred_at.key());
        let duplicate =
            own.and_then(|own| own.duplicate.key()).or(item.attrs.duplicate.key()).is_some();
        Some(Self {
            wire: Wire::new(item.input, shape),
            variant,
            position: None,
            upcast_from: upcast_from.get(),
            topic: topic??,
            name: name?,
            version: version?,
            keys,
            headers,
            id,
            occurred_at,
            duplicate,
            named_at: given_name.map_or(ident.span(), LitStr::span),
        })
    }
}

fn no_topic(errors: &Errors, ident: &Ident) {
    errors.at(
        ident.span(),
        format!("`{ident}` has no topic\nhelp: add `#[event(topic = \"order-events\")]`"),
    );
}

fn checked_topic<'a>(errors: &Errors, value: &'a TextValue) -> Option<Topic<'a>> {
    match value {
        TextValue::Literal(literal) => match topic::check(&literal.value()) {
            Ok(()) => Some(Topic::Literal(literal)),
            Err(message) => {
                errors.at(literal.span(), message);
                None
            }
        },
        TextValue::Const(path) => Some(Topic::Const(path)),
    }
}

fn checked_name(errors: &Errors, given: Option<&LitStr>, ident: &Ident) -> Option<String> {
    match given {
        Some(name) if name.value().is_empty() => {
            errors.at(name.span(), "the event's name is empty\nhelp: name it, or remove `name`");
            None
        }
        Some(name) => Some(name.value()),
        None => Some(ident.unraw().to_string()),
    }
}

fn checked_version(errors: &Errors, literal: &LitInt) -> Option<u32> {
    match literal.base10_parse::<u32>() {
        Ok(0) => errors.at(literal.span(), "versions start at 1\nhelp: write `version = 1`"),
        // The databases keep it in 32 bits with a sign.
        Ok(version) if version <= i32::MAX as u32 => return Some(version),
        _ => errors.at(
            literal.span(),
            format!(
                "`{literal}` is not a version: they go from 1 to {}\nhelp: write `version = 1`",
                i32::MAX
            ),
        ),
    }
    None
}

impl<'a> Part<'a> {
    pub(super) fn new(position: usize, field: &'a Field) -> Self {
        Self { ident: field.ident.as_ref(), position, ty: &field.ty }
    }

    /// The field's name without `r#`, or its position.
    pub(super) fn name(&self) -> String {
        self.ident.map_or_else(|| self.position.to_string(), |ident| ident.unraw().to_string())
    }
}

/// Consumers tell events apart by topic, name and version.
fn check_distinct(errors: &Errors, kinds: &[Kind<'_>]) {
    for (i, kind) in kinds.iter().enumerate() {
        let Topic::Literal(topic) = kind.topic else { continue };
        let same = |other: &&Kind<'_>| {
            matches!(other.topic, Topic::Literal(literal) if literal.value() == topic.value())
                && other.name == kind.name
                && other.version == kind.version
        };
        if let (Some(other), Some(variant)) = (kinds[..i].iter().find(same), kind.variant) {
            errors.at(
                kind.named_at,
                format!(
                    "`{variant}` is `{}` version {} on `{}`, and so is `{}`\n\
                     help: give one of them another name or version",
                    kind.name,
                    kind.version,
                    topic.value(),
                    other.variant.unwrap_or(variant)
                ),
            );
        }
    }
}
