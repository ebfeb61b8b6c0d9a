//! What an event is called on the wire, by serde's attributes: what its contract is made of.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, DeriveInput};

use super::attr::Shape;
use super::serde;
use crate::case::Case;
use crate::serdes::{Way, serdes};
use crate::symbol::{RENAME, RENAME_ALL, RENAME_ALL_FIELDS};

/// What of the type's payload is the event's, and its key there.
pub(super) struct Wire {
    content: Content,
    /// The fields of the key, as they are written.
    key: Vec<String>,
}

enum Content {
    Whole,
    /// The content of a variant, as it is written and as it is read.
    OfVariant(String, String),
    /// The whole value, which says itself that it is this variant.
    OneOf(String, String),
    /// Serde neither writes nor reads the variant.
    Nothing,
}

impl Wire {
    #[cfg(test)]
    pub(super) fn whole() -> Self {
        Self { content: Content::Whole, key: Vec::new() }
    }

    pub(super) fn new(input: &DeriveInput, shape: &Shape<'_>) -> Self {
        let own = shape.variant.as_ref().map(|(variant, _)| &*variant.attrs);
        let case = match own {
            None => serdes(&input.attrs, RENAME_ALL, Way::Written),
            Some(own) => serdes(own, RENAME_ALL, Way::Written)
                .or_else(|| serdes(&input.attrs, RENAME_ALL_FIELDS, Way::Written)),
        };
        let case = case.and_then(|case| Case::parse(&case));
        let keys =
            shape.fields.iter().enumerate().filter(|(_, (_, attrs))| attrs.key.key().is_some());
        let key = keys.map(|(position, (field, _))| {
            let Some(ident) = &field.ident else { return position.to_string() };
            let name = ident.unraw().to_string();
            let renamed = serdes(&field.attrs, RENAME, Way::Written);
            renamed.unwrap_or_else(|| case.map_or(name.clone(), |case| case.of_field(&name)))
        });
        Self { content: Content::new(input, shape), key: key.collect() }
    }

    // Input:  #[serde(rename_all = "kebab-case")] enum E { OrderPaid { #[event(key)] id: u64 } }
    // Output: Wire::new(Content::OfVariant("order-paid", "order-paid"), &["id"])
    pub(super) fn tokens(&self, contracts: &TokenStream) -> TokenStream {
        let content = match &self.content {
            Content::Whole => quote!(Whole),
            Content::OfVariant(written, read) => quote!(OfVariant(#written, #read)),
            Content::OneOf(written, read) => quote!(OneOf(#written, #read)),
            Content::Nothing => quote!(Nothing),
        };
        let key = &self.key;
        quote!(#contracts::Wire::new(#contracts::Content::#content, &[#(#key),*]))
    }
}

impl Content {
    fn new(input: &DeriveInput, shape: &Shape<'_>) -> Self {
        let Some((variant, _)) = &shape.variant else { return Self::Whole };
        if serde::is_skipped(&variant.attrs) && serde::is_never_written(&variant.attrs) {
            return Self::Nothing;
        }
        let name = variant.ident.unraw().to_string();
        let named = |way| name_of(&name, &variant.attrs, &input.attrs, way);
        let (written, read) = (named(Way::Written), named(Way::Read));
        if serde::has_another_form(input) {
            Self::OneOf(written, read)
        } else {
            Self::OfVariant(written, read)
        }
    }
}

fn name_of(name: &str, own: &[Attribute], of_enum: &[Attribute], way: Way) -> String {
    let case = || serdes(of_enum, RENAME_ALL, way).and_then(|case| Case::parse(&case));
    let renamed = serdes(own, RENAME, way);
    renamed.unwrap_or_else(|| case().map_or_else(|| name.to_owned(), |case| case.of(name)))
}

#[cfg(test)]
mod tests {
    use syn::{DeriveInput, parse_quote};

    use super::super::attr::Item;
    use super::*;
    use crate::errors::Errors;

    fn wires(input: &DeriveInput) -> Vec<String> {
        let errors = Errors::new();
        let item = Item::parse(&errors, input);
        assert!(errors.into_vec().is_empty());
        let wires = item.shapes.iter().map(|shape| Wire::new(input, shape).tokens(&quote!(c)));
        wires.map(|tokens| tokens.to_string().replace([' ', '\n'], "")).collect()
    }

    #[test]
    fn names_on_the_wire_are_those_of_serde() {
        let of_struct = wires(&parse_quote! {
            #[serde(rename_all = "camelCase")]
            struct S {
                #[event(key)] order_id: u8,
                #[event(key)] #[serde(rename(serialize = "out", deserialize = "in"))] b: u8,
                #[event(key)] r#type: u8,
            }
        });
        assert_eq!(of_struct, [r#"c::Wire::new(c::Content::Whole,&["orderId","out","type"])"#]);
        let of_enum = wires(&parse_quote! {
            #[serde(rename_all = "kebab-case", rename_all_fields = "UPPERCASE")]
            enum E {
                OrderPaid { #[event(key)] id: u8 },
                #[serde(rename(deserialize = "in"), rename_all = "PascalCase")]
                Other { #[event(key)] the_id: u8 },
                #[serde(skip)]
                Not(#[event(key)] u8),
            }
        });
        assert_eq!(
            of_enum,
            [
                r#"c::Wire::new(c::Content::OfVariant("order-paid","order-paid"),&["ID"])"#,
                r#"c::Wire::new(c::Content::OfVariant("other","in"),&["TheId"])"#,
                r#"c::Wire::new(c::Content::Nothing,&["0"])"#,
            ]
        );
        let tagged = wires(&parse_quote!(
            #[serde(tag = "t")]
            enum E {
                A,
            }
        ));
        assert_eq!(tagged, [r#"c::Wire::new(c::Content::OneOf("A","A"),&[])"#]);
    }
}
