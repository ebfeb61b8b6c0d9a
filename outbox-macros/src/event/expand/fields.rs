//! How a method reads the fields of an event: those of `self`, or those of each variant.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::Type;

use super::super::model::{Event, Kind, Part};
use crate::tokens::{ends, field_of_self, local, located, member};

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
    some: impl Fn(&'a Kind<'a>, &[TokenStream]) -> TokenStream,
    none: &TokenStream,
) -> TokenStream {
    let mut arms = TokenStream::new();
    let mut without = Vec::new();
    for kind in &event.kinds {
        let parts = parts(kind);
        let Some(variant) = kind.variant else {
            let fields: Vec<_> = parts
                .iter()
                .map(|part| field_of_self(part.ident, part.position, part.ty))
                .collect();
            return if fields.is_empty() { none.clone() } else { some(kind, &fields) };
        };
        let variant = located(variant);
        if parts.is_empty() {
            without.push(quote!(Self::#variant { .. }));
            continue;
        }
        let members = parts.iter().map(|part| member(part.ident, part.position, ends(part.ty).0));
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

fn at_type(part: &Part<'_>, binding: &Ident) -> TokenStream {
    let mut binding = binding.clone();
    binding.set_span(ends(part.ty).0);
    binding.into_token_stream()
}

/// The type behind all references, if it is one.
pub(super) fn referent(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Group(group) => referent(&group.elem),
        Type::Paren(paren) => referent(&paren.elem),
        Type::Reference(reference) => Some(referent(&reference.elem).unwrap_or(&reference.elem)),
        _ => None,
    }
}
