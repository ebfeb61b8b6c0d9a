//! The tokens of an old version, which is read and never emitted.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Lifetime;

use super::super::model::Event;
use super::{bounds, checks, codec, descriptor, payload};
use crate::generics::{given, where_clause};
use crate::tokens::{local, located, private};

// Input:
//     #[derive(DomainEvent)]
//     #[event(topic = "order-events", read_only)]
//     struct OrderCreatedV1 { customer_id: Uuid }
//
// Output:
//     const _: () = {
//         impl Readable for OrderCreatedV1 {
//             const DESCRIPTORS: &'static [EventDescriptor] = &[…];
//             fn read(event: EventKind<'_>, payload: &[u8]) -> Option<Result<Self, CodecError>> {
//                 read_own(<Self as Readable>::DESCRIPTORS, event, payload, <Json as Decode<Self>>::decode)
//             }
//             fn versions() -> Vec<EventDescriptor> {
//                 <[_]>::concat(&[<[_]>::to_vec(<Self as Readable>::DESCRIPTORS)])
//             }
//         }
//         // Never holds, so that `emit` has an error of its own.
//         impl DomainEvent for OrderCreatedV1 where for<'never> &'never (): NotReadOnly<Self> { … }
//     };
pub(super) fn event(event: &Event<'_>) -> TokenStream {
    let private = private(event.krate);
    let ident = located(event.ident);
    let (impl_generics, ty_generics, _) = event.generics.split_for_impl();
    let codec = codec(event.codec, event.krate, event.ident);
    let content_type = quote!(<#codec as #private::Codec>::CONTENT_TYPE);
    let descriptors =
        event.kinds.iter().map(|kind| descriptor(event, kind, &private, &content_type));
    let items = items(event, &codec, &private);
    let where_clause = where_clause(event.generics, bounds(event, &codec, &private));
    let given = given(event.generics);
    let never = Lifetime::new("'__never", Span::mixed_site());
    let allowed = event.allows_deprecated.then(|| quote!(#[allow(deprecated)]));
    let (evaluated, follow) = (checks::evaluated(event, &private), checks::follow(event, &private));
    quote! {
        const _: () = {
            #[automatically_derived]
            #allowed
            impl #impl_generics #private::Readable for #ident #ty_generics #where_clause {
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[#(#descriptors),*];
                #items
            }
            #[automatically_derived]
            #allowed
            impl #impl_generics #private::DomainEvent for #ident #ty_generics
            where
                #(#given,)*
                for<#never> &#never (): #private::NotReadOnly<Self>,
            {
                type Codec = #private::Unreachable;
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[];
                fn descriptor(&self) -> &'static #private::EventDescriptor {
                    <&() as #private::NotReadOnly<Self>>::never()
                }
                fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                    <&() as #private::NotReadOnly<Self>>::never()
                }
            }
            #evaluated
            #follow
        };
    }
}

fn items(event: &Event<'_>, codec: &TokenStream, private: &TokenStream) -> TokenStream {
    let [kind, payload] = ["event", "payload"].map(local);
    let older = || event.kinds.iter().filter_map(|kind| kind.upcast_from);
    let upcasts = older().map(|from| payload::upcast(event.krate, from, &kind, &payload));
    let versions = older().map(|from| payload::versions(event.krate, from));
    let own = quote!(<Self as #private::Readable>::DESCRIPTORS);
    quote! {
        fn read(
            #kind: #private::EventKind<'_>,
            #payload: &[::core::primitive::u8],
        ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
            #private::read_own(#own, #kind, #payload, <#codec as #private::Decode<Self>>::decode)
                #(.or_else(|| #upcasts))*
        }
        fn versions() -> ::std::vec::Vec<#private::EventDescriptor> {
            <[_]>::concat(&[<[_]>::to_vec(#own) #(, #versions)*])
        }
    }
}

fn bounds(event: &Event<'_>, codec: &TokenStream, private: &TokenStream) -> Vec<TokenStream> {
    let decode = event.generics.type_params().next();
    let decode = decode.map(|_| quote!(#codec: #private::Decode<Self>));
    let older = event.kinds.iter().filter_map(|kind| kind.upcast_from);
    let older = older.filter_map(|from| bounds::upcast(from, event.generics, private));
    decode.into_iter().chain(older).collect()
}
