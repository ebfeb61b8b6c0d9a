//! What serde's own attributes say that names have on the wire.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, LitStr, Meta};

/// Of which of its two derives serde's attribute speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Written,
    Read,
}

/// What serde's attribute says for `key`, if it is text: `key = "…"` or `key(serialize = "…")`.
/// What is wrong in it is serde's to report.
pub(crate) fn serdes(attributes: &[Attribute], key: &str, way: Way) -> Option<String> {
    let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("serde") => Some(list.tokens.clone()),
        _ => None,
    });
    lists.filter_map(|tokens| text(tokens, key, way)).next()
}

fn text(tokens: TokenStream, key: &str, way: Way) -> Option<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let entries =
        tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','));
    entries
        .filter_map(|entry| match entry {
            [TokenTree::Ident(word), TokenTree::Punct(equals), TokenTree::Literal(literal)]
                if word == key && equals.as_char() == '=' =>
            {
                syn::parse_str::<LitStr>(&literal.to_string()).ok().map(|text| text.value())
            }
            [TokenTree::Ident(word), TokenTree::Group(group)] if word == key => {
                let word = if way == Way::Written { "serialize" } else { "deserialize" };
                text(group.stream(), word, way)
            }
            _ => None,
        })
        .next()
}
