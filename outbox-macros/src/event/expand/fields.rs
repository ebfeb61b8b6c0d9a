//! How a method reads the fields of an event: those of `self`, or those of each variant.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};

use super::super::model::{Event, Kind, Part};
use crate::tokens::{ends, local, located, respanned};

// Input (struct):  the parts `a` and `b`
// Output:          some([&self.a, &self.b])
//
// Input (enum):    the parts `a` of `A`, and none of `B`
// Output:          match self {
//                      Self::A { a: field0, .. } => some([field0]),
//                      Self::B { .. } => none,
//                  }
pub(super) fn per_kind<'a>(
    event: &'a Event<'_>,
    parts: impl Fn(&'a Kind<'a>) -> Vec<&'a Part<'a>>,
    some: impl Fn(&Kind<'_>, &[TokenStream]) -> TokenStream,
    none: &TokenStream,
) -> TokenStream {
    let mut arms = TokenStream::new();
    let mut without = Vec::new();
    for kind in &event.kinds {
        let parts = parts(kind);
        let Some(variant) = kind.variant else {
            let fields: Vec<_> = parts.iter().map(|part| field_of_self(part)).collect();
            return if fields.is_empty() { none.clone() } else { some(kind, &fields) };
        };
        let variant = located(variant);
        if parts.is_empty() {
            without.push(quote!(Self::#variant { .. }));
            continue;
        }
        let members = parts.iter().map(|part| member(part, ends(part.ty).0));
        let bindings: Vec<_> = (0..parts.len()).map(|i| local(&format!("field{i}"))).collect();
        // Located at the field's type, which is what an error is about.
        let uses: Vec<_> =
            parts.iter().zip(&bindings).map(|(part, binding)| at_type(part, binding)).collect();
        let body = some(kind, &uses);
        arms.extend(quote!(Self::#variant { #(#members: #bindings,)* .. } => #body,));
    }
    if !without.is_empty() {
        arms.extend(quote!(#(#without)|* => #none,));
    }
    quote!(match self { #arms })
}

/// `&self.field`, located at the field's type.
fn field_of_self(part: &Part<'_>) -> TokenStream {
    let (begin, end) = ends(part.ty);
    // The hygiene of the method's own `&self`.
    let (begin, end) = (begin.resolved_at(Span::call_site()), end.resolved_at(Span::call_site()));
    let member = member(part, end);
    quote_spanned!(begin=> &self.#member)
}

fn at_type(part: &Part<'_>, binding: &Ident) -> TokenStream {
    let mut binding = binding.clone();
    binding.set_span(ends(part.ty).0);
    binding.into_token_stream()
}

fn member(part: &Part<'_>, span: Span) -> TokenTree {
    match part.ident {
        Some(ident) => TokenTree::Ident(respanned(ident, span)),
        None => {
            let mut position = Literal::usize_unsuffixed(part.position);
            position.set_span(span);
            TokenTree::Literal(position)
        }
    }
}
