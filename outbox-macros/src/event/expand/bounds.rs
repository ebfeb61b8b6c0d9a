//! The where clause of the implementation.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Generics;

use super::super::model::{Event, Part};
use super::fields::referent;
use crate::tokens::{mentions, quiet};

/// The type's own where clause, and a bound for each type that depends on a type parameter. A type
/// without parameters gets no bounds: one that does not hold would be an error of its own, and the
/// code that needs it gives a better one.
pub(super) fn where_clause(
    event: &Event<'_>,
    codec: &TokenStream,
    private: &TokenStream,
) -> Option<TokenStream> {
    let mut bounds = Vec::new();
    for kind in &event.kinds {
        let of = |part: &Part<'_>, bound: TokenStream| {
            let ty = part.ty;
            mentions_parameter(ty, event.generics).then(|| quote!(#ty: #bound))
        };
        bounds.extend(kind.keys.iter().filter_map(|part| of(part, quote!(#private::EventKey))));
        let headers = kind.headers.iter().map(|header| &header.part);
        bounds.extend(headers.filter_map(|part| of(part, quote!(#private::HeaderValue))));
        bounds.extend(kind.id.iter().filter_map(|part| of(part, quote!(#private::EventId))));
        let times = kind.occurred_at.iter().map(|part| referent(part.ty).unwrap_or(part.ty));
        bounds.extend(
            times
                .filter(|ty| mentions_parameter(ty, event.generics))
                .map(|ty| quote!(#ty: #private::EventTime)),
        );
        if let Some(from) = kind.upcast_from.filter(|from| mentions_parameter(from, event.generics))
        {
            let from = quiet(from);
            bounds.push(quote!(#from: #private::Readable + ::core::convert::Into<Self>));
        }
    }
    predicates(event.generics, codec, private, bounds)
}

pub(super) fn predicates(
    generics: &Generics,
    codec: &TokenStream,
    private: &TokenStream,
    bounds: Vec<TokenStream>,
) -> Option<TokenStream> {
    let encode = generics.type_params().next().map(|_| quote!(#codec: #private::Encode<Self>));
    let all: Vec<_> = given(generics).chain(encode).chain(bounds).collect();
    (!all.is_empty()).then(|| quote!(where #(#all),*))
}

/// The predicates of the type's own where clause.
pub(super) fn given(generics: &Generics) -> impl Iterator<Item = TokenStream> + '_ {
    let given = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    given.map(ToTokens::to_token_stream)
}

pub(super) fn mentions_parameter(ty: &impl ToTokens, generics: &Generics) -> bool {
    generics
        .type_params()
        .any(|parameter| mentions(ty.to_token_stream(), &parameter.ident.to_string()))
}
