//! The where clause of the implementation.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Generics, Path};

use super::super::model::{Event, Part};
use super::fields::referent;
use crate::generics::{self, mentions_parameter};
use crate::tokens::quiet;

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
        bounds.extend(kind.upcast_from.and_then(|from| upcast(from, event.generics, private)));
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
    generics::where_clause(generics, encode.into_iter().chain(bounds))
}

/// The bound that an older version is one, if it depends on a type parameter.
pub(super) fn upcast(
    from: &Path,
    generics: &Generics,
    private: &TokenStream,
) -> Option<TokenStream> {
    mentions_parameter(from, generics).then(|| {
        let from = quiet(from);
        quote!(#from: #private::Readable + ::core::convert::Into<Self>)
    })
}
