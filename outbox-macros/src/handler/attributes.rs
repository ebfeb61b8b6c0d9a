//! The user's attributes, sorted by what they apply to.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Meta};

use super::model::Handler;
use super::place::Place;

pub(super) struct Attributes {
    pub(super) of_handler: Vec<TokenStream>,
    pub(super) of_function: Vec<TokenStream>,
}

/// What an attribute is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// Whether it is there: both.
    Presence,
    /// Levels of lints: both.
    Lints,
    /// The user of the handler: documentation, deprecation.
    Face,
    /// The code.
    Code,
}

impl Attributes {
    pub(super) fn new(handler: &Handler<'_>) -> Self {
        // A function that awaits nothing must be async as well. The user's own levels come after
        // this one, and win.
        let unused_async = quote!(#[allow(clippy::unused_async)]);
        let (mut of_handler, mut of_function) = match handler.place {
            // What is inside has the levels of what is around it.
            Place::Inside => (vec![unused_async], Vec::new()),
            Place::Beside(_) => (Vec::new(), vec![unused_async]),
        };
        for attr in &handler.function.attrs {
            let tokens = attr.to_token_stream();
            match (about(attr), &handler.place) {
                (About::Presence, Place::Beside(_)) => {
                    of_handler.push(tokens.clone());
                    of_function.push(tokens);
                }
                (About::Lints, Place::Beside(_)) => {
                    of_handler.push(allowed(attr));
                    of_function.push(tokens);
                }
                (About::Presence | About::Lints | About::Face, _) => of_handler.push(tokens),
                (About::Code, _) => of_function.push(tokens),
            }
        }
        Self { of_handler, of_function }
    }
}

fn about(attr: &Attribute) -> About {
    // `cfg_attr` is about what it holds.
    let held = match &attr.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let mut tokens = list.tokens.clone().into_iter();
            let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
            tokens.by_ref().find(comma);
            tokens.next().map(|token| token.to_string())
        }
        meta => meta.path().get_ident().map(ToString::to_string),
    };
    match held.as_deref() {
        Some("cfg") => About::Presence,
        Some("allow" | "warn" | "deny" | "forbid" | "expect") => About::Lints,
        Some("doc" | "deprecated") => About::Face,
        _ => About::Code,
    }
}

/// What is expected of the function need not be true of the handler as well.
fn allowed(attr: &Attribute) -> TokenStream {
    match &attr.meta {
        Meta::List(list) if list.path.is_ident("expect") => {
            let lints = &list.tokens;
            quote!(#[allow(#lints)])
        }
        _ => attr.to_token_stream(),
    }
}
