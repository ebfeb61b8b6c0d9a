//! The where clauses of implementations.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Generics;

use crate::tokens::mentions;

/// The predicates of the type's own where clause.
pub(crate) fn given(generics: &Generics) -> impl Iterator<Item = TokenStream> + '_ {
    let given = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    given.map(ToTokens::to_token_stream)
}

/// The type's own where clause, and these bounds. `None`: there are none.
pub(crate) fn where_clause(
    generics: &Generics,
    bounds: impl IntoIterator<Item = TokenStream>,
) -> Option<TokenStream> {
    let all: Vec<_> = given(generics).chain(bounds).collect();
    (!all.is_empty()).then(|| quote!(where #(#all),*))
}

/// Whether `ty` depends on a type parameter.
pub(crate) fn mentions_parameter(ty: impl ToTokens, generics: &Generics) -> bool {
    let tokens = ty.into_token_stream();
    generics.type_params().any(|parameter| mentions(tokens.clone(), &parameter.ident.to_string()))
}
