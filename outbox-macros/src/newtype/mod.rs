//! `#[derive(EventKey)]`, `#[derive(HeaderValue)]` and `#[derive(EventId)]`: parse the attributes
//! ([`attr`]) → a model, valid by construction → expand.

mod attr;
mod expand;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, Fields, Ident, Path, Type};

use crate::errors::{self, Errors};
use crate::grammar::Once;

/// The trait that is derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Key,
    Header,
    Id,
}

impl Target {
    const fn noun(self) -> &'static str {
        match self {
            Self::Key => "the key of an event",
            Self::Header => "the value of a header",
            Self::Id => "the id of an event",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Key => "EventKey",
            Self::Header => "HeaderValue",
            Self::Id => "EventId",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Key => "struct CustomerId(u64);",
            Self::Header => "struct Tenant(String);",
            Self::Id => "struct OrderEventId(Uuid);",
        }
    }
}

/// The type as it will be.
struct Newtype<'a> {
    target: Target,
    input: &'a DeriveInput,
    krate: Once<Path>,
    content: Content<'a>,
}

enum Content<'a> {
    /// What is wrapped. One, or several that make a key.
    Fields(Vec<Wrapped<'a>>),
    /// The variants of an enum, and the text of each.
    Texts(Vec<(&'a Ident, String)>),
}

struct Wrapped<'a> {
    ident: Option<&'a Ident>,
    position: usize,
    ty: &'a Type,
}

pub(crate) fn derive(target: Target, input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let errors = Errors::new();
    let newtype = Newtype::new(&errors, target, &input);
    let found = errors.into_vec();
    let mut output = errors::to_tokens(&found);
    output.extend(match newtype {
        Ok(newtype) if found.is_empty() => expand::newtype(&newtype),
        // So that not each event with it is one more error.
        Ok(Newtype { krate, .. }) | Err(krate) => expand::stub(target, &input, krate.get()),
    });
    output
}

impl<'a> Newtype<'a> {
    /// The path of the crate if the item has none of the forms; every reason is then in `errors`.
    fn new(errors: &Errors, target: Target, input: &'a DeriveInput) -> Result<Self, Once<Path>> {
        let attrs = attr::OfType::parse(errors, &input.attrs, matches!(input.data, Data::Enum(_)));
        let content = match &input.data {
            Data::Struct(data) => wrapped(errors, target, &input.ident, &data.fields),
            Data::Enum(data) if target == Target::Id => {
                errors.at(
                    data.enum_token.span,
                    format!(
                        "many events would have the id of a variant, and consumers handle one of them\n\
                         help: derive it on a newtype: `{}`",
                        target.example()
                    ),
                );
                None
            }
            Data::Enum(data) => texts(errors, target, &attrs, data),
            Data::Union(data) => {
                errors.at(
                    data.union_token.span,
                    format!(
                        "a union cannot be {}\nhelp: make it a newtype: `{}`",
                        target.noun(),
                        target.example()
                    ),
                );
                None
            }
        };
        match content {
            Some(content) => Ok(Self { target, input, krate: attrs.krate, content }),
            None => Err(attrs.krate),
        }
    }
}

fn wrapped<'a>(
    errors: &Errors,
    target: Target,
    ident: &Ident,
    fields: &'a Fields,
) -> Option<Content<'a>> {
    for field in fields {
        attr::check_field(errors, &field.attrs);
    }
    let wrapped: Vec<_> = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !is_phantom(field))
        .map(|(position, Field { ident, ty, .. })| Wrapped { ident: ident.as_ref(), position, ty })
        .collect();
    let message = match wrapped.len() {
        1 => return Some(Content::Fields(wrapped)),
        0 => format!(
            "`{ident}` has nothing in it that is {}\nhelp: let it wrap something: `{}`",
            target.noun(),
            target.example()
        ),
        _ if target == Target::Key => return Some(Content::Fields(wrapped)),
        count => format!(
            "`{ident}` has {count} fields, and {} is one\n\
             help: derive it on a newtype, such as `{}`, or implement `outbox::event::{}` for `{ident}`",
            target.noun(),
            target.example(),
            target.name(),
        ),
    };
    errors.at(ident.span(), message);
    None
}

fn texts<'a>(
    errors: &Errors,
    target: Target,
    attrs: &attr::OfType,
    data: &'a syn::DataEnum,
) -> Option<Content<'a>> {
    let mut texts: Vec<(&Ident, String)> = Vec::new();
    let mut is_good = true;
    for variant in &data.variants {
        if !variant.fields.is_empty() {
            is_good = false;
            errors.at(
                variant.fields.span(),
                format!(
                    "{} is the name of the variant, which leaves out what is in `{}`\n\
                     help: remove its fields, or implement `outbox::event::{}` for the enum",
                    target.noun(),
                    variant.ident,
                    target.name(),
                ),
            );
        }
        let (text, span) = attrs.text_of(errors, variant);
        if let Some((other, _)) = texts.iter().find(|(_, other)| *other == text) {
            errors.at(
                span,
                format!(
                    "`{}` is written `{text}`, and so is `{other}`\n\
                     help: give one of the two another text: `#[event(rename = \"…\")]`",
                    variant.ident,
                ),
            );
        }
        texts.push((&variant.ident, text));
    }
    is_good.then_some(Content::Texts(texts))
}

/// Whether the field is only there for a type parameter, as in `Id<T>(Uuid, PhantomData<T>)`.
fn is_phantom(field: &Field) -> bool {
    matches!(&field.ty, Type::Path(path)
        if path.path.segments.last().is_some_and(|last| last.ident == "PhantomData"))
}
