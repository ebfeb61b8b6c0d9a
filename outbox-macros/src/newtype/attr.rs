//! `#[event(…)]` on a newtype or a unit enum, and the names that serde writes.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, LitStr, Meta, Path, Variant};

use crate::case::Case;
use crate::errors::{self, Errors};
use crate::grammar::{self, Once, value};
use crate::serdes::{Way, serdes};
use crate::symbol::{CRATE, EVENT, RENAME, RENAME_ALL};

pub(super) struct OfType {
    pub(super) krate: Once<Path>,
    case: Option<Case>,
    serdes_case: Option<Case>,
}

impl OfType {
    pub(super) fn parse(errors: &Errors, attributes: &[Attribute], is_enum: bool) -> Self {
        let (mut krate, mut rename_all) = (Once::default(), Once::<LitStr>::default());
        let known: &[&'static str] = if is_enum { &[RENAME_ALL, CRATE] } else { &[CRATE] };
        entries(errors, attributes, known, |key, input| match &*key.to_string() {
            RENAME_ALL => rename_all.set(key, value(key, input, "rename_all = \"snake_case\"")),
            _ => krate.set(key, value(key, input, "crate = my_crate::outbox")),
        });
        let case = rename_all.get().and_then(|name| {
            let case = Case::parse(&name.value());
            if case.is_none() {
                errors.at(
                    name.span(),
                    format!("this is not a case of names\nhelp: known here: {}", Case::all()),
                );
            }
            case
        });
        Self {
            krate,
            case,
            serdes_case: serdes(attributes, RENAME_ALL, Way::Written)
                .and_then(|name| Case::parse(&name)),
        }
    }

    /// The text of a variant, and where it is said.
    pub(super) fn text_of(&self, errors: &Errors, variant: &Variant) -> (String, Span) {
        let mut rename = Once::<LitStr>::default();
        entries(errors, &variant.attrs, &[RENAME], |key, input| {
            rename.set(key, value(key, input, "rename = \"eu\""))
        });
        if let Some(text) = rename.get() {
            return (text.value(), text.span());
        }
        let name = variant.ident.unraw().to_string();
        let text = match (self.case, serdes(&variant.attrs, RENAME, Way::Written), self.serdes_case)
        {
            (Some(case), _, _) => case.of(&name),
            (None, Some(text), _) => text,
            (None, None, Some(case)) => case.of(&name),
            (None, None, None) => name,
        };
        (text, variant.ident.span())
    }
}

pub(super) fn check_field(errors: &Errors, attributes: &[Attribute]) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(EVENT)) {
        errors.over(
            attribute,
            "the type of a field is no event\nhelp: remove this here, and put it on the field of the event that has this type",
        );
    }
}

fn entries(
    errors: &Errors,
    attributes: &[Attribute],
    known: &[&'static str],
    mut each: impl FnMut(&syn::Ident, ParseStream<'_>) -> syn::Result<()>,
) {
    let help = match known.first() {
        Some(&RENAME) => "help: write `#[event(rename = \"eu\")]`",
        Some(&RENAME_ALL) => "help: write `#[event(rename_all = \"snake_case\")]`",
        _ => "help: remove this",
    };
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(EVENT)) {
        let Meta::List(list) = &attribute.meta else {
            errors.over(attribute, format!("this says nothing\n{help}"));
            continue;
        };
        let parsed = list.parse_args_with(|input: ParseStream<'_>| {
            grammar::list(errors, input, |input| {
                let Some(key) = grammar::word(input) else {
                    return Err(input.error(format!("expected a key\n{help}")));
                };
                let word = key.to_string();
                if known.contains(&&*word) {
                    return each(&key, input);
                }
                let help = match (&*word, known) {
                    (RENAME, [RENAME_ALL, ..]) => "help: put it on a variant".to_owned(),
                    (RENAME_ALL, [RENAME]) => "help: put it on the enum".to_owned(),
                    _ => errors::suggestion(&word, known).1,
                };
                Err(syn::Error::new(key.span(), format!("unknown key `{word}`\n{help}")))
            });
            Ok(())
        });
        errors.ok(parsed);
    }
}
