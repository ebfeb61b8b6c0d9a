//! The tokens of an event's implementation.

mod bounds;
mod checks;
pub(super) mod contract;
mod fields;
mod methods;
mod payload;
mod read_only;
pub(super) mod transparent;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::attr::Item;
use super::model::{Event, Kind, Part, Topic};
use crate::tokens::{ends, located, ours, private, private_at};

// Input:
//     #[derive(DomainEvent)]
//     #[event(topic = "order-events")]
//     struct OrderCreated {
//         #[event(key)]
//         customer_id: Uuid,
//         #[event(header)]
//         tenant: String,
//     }
//
// Output:
//     const _: () = {
//         impl DomainEvent for OrderCreated {
//             type Codec = Json;
//             const DESCRIPTORS: &'static [EventDescriptor] = &[EventDescriptor::new(
//                 "order-events", "OrderCreated", 1, <Self as DomainEvent>::CONTENT_TYPE,
//                 &["customer_id"], &["tenant"],
//             )];
//             fn descriptor(&self) -> &'static EventDescriptor {
//                 &<Self as DomainEvent>::DESCRIPTORS[0]
//             }
//             fn key(&self) -> Option<Vec<u8>> { Some(event_key(&[&self.customer_id])) }
//             fn headers(&self, headers: &mut Headers) { headers.insert("tenant", &self.tenant); }
//         }
//     };
pub(super) fn event(event: &Event<'_>) -> TokenStream {
    if event.read_only {
        return read_only::event(event);
    }
    let private = private(event.krate);
    let ident = located(event.ident);
    let (impl_generics, ty_generics, _) = event.generics.split_for_impl();
    let codec = codec(event.codec, event.krate, event.ident);
    let where_clause = bounds::where_clause(event, &codec, &private);
    let allowed = event.allows_deprecated.then(|| quote!(#[allow(deprecated)]));
    // The type may have a constant of this name itself.
    let content_type = quote!(<Self as #private::DomainEvent>::CONTENT_TYPE);
    let descriptors =
        event.kinds.iter().map(|kind| descriptor(event, kind, &private, &content_type));
    let methods = methods::all(event, &private);
    let payload = payload::methods(event, &private);
    let evaluated = checks::evaluated(event, &private);
    let follow = checks::follow(event, &private);
    quote! {
        const _: () = {
            #[automatically_derived]
            #allowed
            impl #impl_generics #private::DomainEvent for #ident #ty_generics #where_clause {
                type Codec = #codec;
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[#(#descriptors),*];
                #methods
                #payload
            }
            #evaluated
            #follow
        };
    }
}

/// A replacement for the implementation when the attributes are wrong, so that not every `emit` of
/// this event is one more error.
pub(super) fn stub(item: &Item<'_>) -> TokenStream {
    let private = private(item.attrs.krate.get());
    let ident = located(&item.input.ident);
    let (impl_generics, ty_generics, where_clause) = item.input.generics.split_for_impl();
    quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::DomainEvent for #ident #ty_generics #where_clause {
                type Codec = #private::Unreachable;
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[];
                fn descriptor(&self) -> &'static #private::EventDescriptor {
                    ::core::unreachable!()
                }
                fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                    ::core::unreachable!()
                }
            }
        };
    }
}

/// Located at the type's name: that is where a missing `Serialize` is to be added.
fn codec(codec: Option<&syn::Path>, krate: Option<&syn::Path>, ident: &Ident) -> TokenStream {
    match codec {
        Some(path) => path.to_token_stream(),
        None => {
            let span = ours(ident.span());
            let private = private_at(krate, span);
            quote_spanned!(span=> #private::Json)
        }
    }
}

fn descriptor(
    event: &Event<'_>,
    kind: &Kind<'_>,
    private: &TokenStream,
    content_type: &TokenStream,
) -> TokenStream {
    // If Kafka would refuse the topic, evaluating this call fails. The error is shown at the
    // `const` that was named.
    let (topic, new) = match kind.topic {
        Topic::Literal(literal) => {
            (literal.to_token_stream(), quote!(#private::EventDescriptor::new))
        }
        Topic::Const(path) => {
            let (begin, _) = ends(path);
            let private = private_at(event.krate, begin);
            (path.to_token_stream(), quote_spanned!(begin=> #private::EventDescriptor::new))
        }
    };
    let name = &kind.name;
    let version = Literal::u32_unsuffixed(kind.version);
    let key_fields = kind.keys.iter().map(Part::name);
    let header_names = kind.headers.iter().map(|header| &header.name);
    quote! {
        #new(#topic, #name, #version, #content_type, &[#(#key_fields),*], &[#(#header_names),*])
    }
}
