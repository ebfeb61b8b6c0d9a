//! What a handler has besides the event, and how it gets it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{GenericParam, ReceiverKind, Type};

use super::model::Handler;
use super::parameters::State;
use super::place::{Place, Receiver};
use crate::generics::where_clause;
use crate::tokens::{ends, ours, respanned};

/// The tokens for it.
pub(super) struct HandlerState {
    /// The parameter of the function that makes the handler.
    pub(super) taken: TokenStream,
    /// The value that the handler keeps.
    pub(super) kept: TokenStream,
    /// The `where` clause of that function.
    pub(super) bound: Option<TokenStream>,
}

impl HandlerState {
    pub(super) fn new(handler: &Handler<'_>) -> Self {
        if let Some(receiver) = handler.place.receiver() {
            return Self::of_method(handler, receiver);
        }
        let bound = match handler.place {
            Place::Inside => bounded(handler, None),
            Place::Beside(_) => bounded(handler, Some(quote!(Self: 'static))),
        };
        let Some(State { ty, name }) = handler.parameters.state else {
            return Self { taken: TokenStream::new(), kept: quote!(()), bound };
        };
        // The documentation shows it, so it is the user's name; but lints see that it is ours.
        let name = match name {
            Some(name) => respanned(name, ours(name.span())),
            None => Ident::new("handler_state", Span::mixed_site()),
        };
        let shared = match ty {
            Type::ImplTrait(_) => {
                Some(quote!(+ ::core::marker::Send + ::core::marker::Sync + 'static))
            }
            _ => None,
        };
        Self { taken: quote!(#name: #ty #shared), kept: quote!(#name), bound }
    }

    fn of_method(handler: &Handler<'_>, receiver: &Receiver<'_>) -> Self {
        let Receiver { syntax, ty, borrowed } = receiver;
        let own = &syntax.self_token;
        let taken = match &syntax.kind {
            ReceiverKind::Reference(and, ..) => quote!(#and #own),
            ReceiverKind::Typed(colon, written) => {
                let ty = ty.map_or_else(|| quote!(Self), ToTokens::to_token_stream);
                match borrowed {
                    true => quote!(#own #colon &#ty),
                    false => quote!(#own #colon #written),
                }
            }
            _ => quote!(#own),
        };
        // Located at the receiver, where the compiler shows what the type lacks.
        let (begin, end) = ends(syntax);
        let kept = match borrowed {
            true => quote_spanned!(begin=> ::core::clone::Clone::clone(#own)),
            false => quote!(#own),
        };
        let shared = quote_spanned!(end=> ::core::marker::Send + ::core::marker::Sync + 'static);
        let bound = match ty {
            Some(_) => quote!(Self: #shared),
            None => quote_spanned!(end=> Self: ::core::clone::Clone + #shared),
        };
        Self { taken, kept, bound: bounded(handler, Some(bound)) }
    }
}

/// A type parameter with bounds, and those of what a consumer keeps that it lacks.
pub(super) fn kept(parameter: &GenericParam) -> TokenStream {
    let GenericParam::Type(of_type) = parameter else { return parameter.to_token_stream() };
    if of_type.bounds.is_empty() {
        return parameter.to_token_stream();
    }
    let has = |word: &str| crate::tokens::mentions(of_type.bounds.to_token_stream(), word);
    let mut tokens = parameter.to_token_stream();
    for (word, bound) in [
        ("Send", quote!(::core::marker::Send)),
        ("Sync", quote!(::core::marker::Sync)),
        ("static", quote!('static)),
    ] {
        if !has(word) {
            tokens.extend(quote!(+ #bound));
        }
    }
    tokens
}

/// The user's `where` clause, with the bounds of what a consumer keeps.
fn bounded(handler: &Handler<'_>, bound: Option<TokenStream>) -> Option<TokenStream> {
    let types = handler.parameters_of_type().filter_map(|parameter| match parameter {
        // With bounds of its own, it has these there as well: see `kept`.
        GenericParam::Type(parameter) if parameter.bounds.is_empty() => {
            let name = &parameter.ident;
            Some(quote!(#name: ::core::marker::Send + ::core::marker::Sync + 'static))
        }
        _ => None,
    });
    where_clause(&handler.function.sig.generics, types.chain(bound))
}
