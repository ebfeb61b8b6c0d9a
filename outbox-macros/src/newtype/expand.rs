//! The tokens of the implementation.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Path};

use super::{Content, Newtype, Target, Wrapped};
use crate::generics::{mentions_parameter, where_clause};
use crate::tokens::{field_of_self, local, located, private};

// Input:
//     #[derive(EventKey)]
//     struct CustomerId(u64);
//
// Output:
//     const _: () = {
//         impl EventKey for CustomerId {
//             fn write_key(&self, out: &mut Vec<u8>) {
//                 EventKey::write_key(&self.0, out);
//             }
//         }
//     };
pub(super) fn newtype(newtype: &Newtype<'_>) -> TokenStream {
    let Newtype { target, input, krate, content } = newtype;
    let private = private(krate.get());
    let bounds = match content {
        Content::Fields(fields) => bounds(*target, input, fields, &private),
        Content::Texts(_) => Vec::new(),
    };
    let body = match (target, content) {
        (Target::Key, Content::Fields(fields)) if fields.len() > 1 => {
            let out = local("out");
            let parts = fields.iter().map(field);
            quote! {
                ::std::vec::Vec::extend_from_slice(#out, &#private::event_key(&[#(#parts),*]));
            }
        }
        (_, Content::Fields(fields)) => {
            let fields: TokenStream = fields.iter().map(field).collect();
            call(*target, &private, &quote!(), &fields)
        }
        (_, Content::Texts(texts)) if texts.is_empty() => quote!(match *self {}),
        (_, Content::Texts(texts)) => {
            let arms = texts.iter().map(|(variant, text)| {
                let variant = located(variant);
                quote!(Self::#variant { .. } => #text,)
            });
            let text = quote!(match self { #(#arms)* });
            call(*target, &private, &quote!(::core::primitive::str), &text)
        }
    };
    implementation(*target, input, krate.get(), &bounds, &body)
}

/// A replacement for the implementation when it cannot be written.
pub(super) fn stub(target: Target, input: &DeriveInput, krate: Option<&Path>) -> TokenStream {
    implementation(target, input, krate, &[], &quote!(::core::unreachable!()))
}

/// The trait's method on what is wrapped.
fn call(
    target: Target,
    private: &TokenStream,
    of: &TokenStream,
    value: &TokenStream,
) -> TokenStream {
    let name = trait_name(target);
    let name = match of.is_empty() {
        true => quote!(#private::#name),
        false => quote!(<#of as #private::#name>),
    };
    match target {
        Target::Key => {
            let out = local("out");
            quote!(#name::write_key(#value, #out);)
        }
        Target::Header => quote!(#name::header_value(#value)),
        Target::Id => quote!(#name::event_id(#value)),
    }
}

fn implementation(
    target: Target,
    input: &DeriveInput,
    krate: Option<&Path>,
    bounds: &[TokenStream],
    body: &TokenStream,
) -> TokenStream {
    let private = private(krate);
    let (ident, name) = (located(&input.ident), trait_name(target));
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let where_clause = where_clause(&input.generics, bounds.iter().cloned());
    let signature = match target {
        Target::Key => {
            let out = local("out");
            quote!(fn write_key(&self, #out: &mut ::std::vec::Vec<::core::primitive::u8>))
        }
        Target::Header => quote! {
            fn header_value(
                &self,
            ) -> ::core::option::Option<::std::borrow::Cow<'_, ::core::primitive::str>>
        },
        Target::Id => quote!(fn event_id(&self) -> #private::Uuid),
    };
    quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::#name for #ident #ty_generics #where_clause {
                #signature {
                    #body
                }
            }
        };
    }
}

fn trait_name(target: Target) -> TokenStream {
    match target {
        Target::Key => quote!(EventKey),
        Target::Header => quote!(HeaderValue),
        Target::Id => quote!(EventId),
    }
}

fn field(wrapped: &Wrapped<'_>) -> TokenStream {
    field_of_self(wrapped.ident, wrapped.position, wrapped.ty)
}

/// A bound for each type that depends on a type parameter.
fn bounds(
    target: Target,
    input: &DeriveInput,
    fields: &[Wrapped<'_>],
    private: &TokenStream,
) -> Vec<TokenStream> {
    let name = trait_name(target);
    let depends = |wrapped: &&Wrapped<'_>| mentions_parameter(wrapped.ty, &input.generics);
    let bound = |wrapped: &Wrapped<'_>| {
        let ty = wrapped.ty;
        quote!(#ty: #private::#name)
    };
    fields.iter().filter(depends).map(bound).collect()
}
