//! What serde's own attributes on an enum mean for the payload of its events.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Attribute, Data, DeriveInput, Meta};

/// Whether the payload of a variant is its content. If not, it is what serde makes of the whole
/// value: another type, or the variants are told apart by what they look like.
pub(super) fn has_content_of_variants(input: &DeriveInput) -> bool {
    let Data::Enum(data) = &input.data else { return false };
    let by_another_type = ["from", "try_from", "into", "remote"];
    !says(&input.attrs, &by_another_type)
        && !data.variants.iter().any(|variant| says(&variant.attrs, &["untagged"]))
}

/// Whether an enum says in its payload which variant it is, or nowhere, in a form of serde's.
pub(super) fn has_another_form(input: &DeriveInput) -> bool {
    says(&input.attrs, &["tag", "untagged"]) || !has_content_of_variants(input)
}

/// Whether serde does not write the variant.
pub(super) fn is_never_written(variant: &[Attribute]) -> bool {
    says(variant, &["skip", "skip_serializing"])
}

/// Whether serde does not read the variant. It does not count it either.
pub(super) fn is_skipped(variant: &[Attribute]) -> bool {
    says(variant, &["skip", "skip_deserializing"])
}

/// Whether one of the words is a key of a `#[serde(…)]`.
fn says(attributes: &[Attribute], words: &[&str]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("serde") => {
            keys(list.tokens.clone()).any(|key| words.contains(&&*key))
        }
        _ => false,
    })
}

/// The words before which there is nothing or a comma.
fn keys(tokens: TokenStream) -> impl Iterator<Item = String> {
    let mut begins = true;
    tokens.into_iter().flat_map(move |token| {
        let (key, next_begins) = match &token {
            TokenTree::Ident(ident) if begins => (vec![ident.to_string()], false),
            TokenTree::Punct(punct) => (Vec::new(), punct.as_char() == ','),
            // Of a fragment of a macro by example.
            TokenTree::Group(group) if begins && group.delimiter() == Delimiter::None => {
                (keys(group.stream()).collect(), false)
            }
            _ => (Vec::new(), false),
        };
        begins = next_begins;
        key
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    fn content(tokens: TokenStream) -> bool {
        has_content_of_variants(&syn::parse2(tokens).unwrap())
    }

    #[test]
    fn an_enum_that_serde_writes_otherwise_is_left_to_it() {
        assert!(content(quote!(
            enum E {
                A,
            }
        )));
        assert!(content(quote!(
            #[serde(rename_all = "from", tag = "into")]
            enum E {
                A,
            }
        )));
        assert!(
            content(quote!(
                #[serde(untagged)]
                enum E {
                    A,
                }
            )),
            "of itself"
        );
        assert!(!content(quote!(
            #[serde(from = "F")]
            enum E {
                A,
            }
        )));
        assert!(!content(quote!(
            #[serde(rename_all = "x")]
            #[serde(deny, into = "F")]
            enum E {
                A,
            }
        )));
        assert!(!content(quote!(
            enum E {
                A,
                #[serde(untagged)]
                B,
            }
        )));
        assert!(!content(quote!(
            struct S;
        )));
    }

    #[test]
    fn a_skipped_variant_is_found_among_other_keys() {
        let skipped = |attribute: Attribute| is_skipped(&[attribute]);
        assert!(skipped(parse_quote!(#[serde(skip)])));
        assert!(skipped(parse_quote!(#[serde(rename = "a", skip_deserializing)])));
        assert!(skipped(parse_quote!(#[serde(bound(serialize = "T"), skip,)])));
        for other in [
            parse_quote!(#[serde(skip_serializing)]),
            parse_quote!(#[serde(rename = "skip")]),
            parse_quote!(#[serde(rename(skip = "x"))]),
            parse_quote!(#[serde]),
            parse_quote!(#[event(skip)]),
        ] {
            assert!(!skipped(other));
        }
    }
}
