//! The methods that write and read payloads, where the trait's defaults are not enough.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Path;
use syn::ext::IdentExt;

use super::super::model::{Event, Kind};
use crate::tokens::{ends, local, private_at, quiet};

// Input:
//     enum OrderEvent {
//         #[event(name = "order.placed", version = 2, upcast_from = PlacedV1)]
//         Placed { … },
//         Paid { … },
//     }
//
// Output:
//     fn encode_payload<Codec: Encode<Self>>(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
//         Codec::encode_variant(self, out)
//     }
//     fn decode_payload<Codec: Decode<Self>>(event: EventKind<'_>, payload: &[u8])
//         -> Option<Result<Self, CodecError>>
//     {
//         let variants = &[Variant::new("Placed", Some(0)), Variant::new("Paid", Some(1))];
//         decode_variant::<Self, Codec>(variants, event, payload)
//             .or_else(|| upcast::<PlacedV1, Self>(event, payload))
//     }
//     fn older_versions() -> Vec<EventDescriptor> {
//         <[_]>::concat(&[versions::<PlacedV1>()])
//     }
pub(super) fn methods(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let older: Vec<&Path> = event.kinds.iter().filter_map(|kind| kind.upcast_from).collect();
    let encode = event.has_content_of_variants.then(|| encode(private));
    let decode = (event.has_content_of_variants || !older.is_empty())
        .then(|| decode(event, &older, private));
    let versions = (!older.is_empty()).then(|| older_versions(event.krate, &older, private));
    quote!(#encode #decode #versions)
}

fn encode(private: &TokenStream) -> TokenStream {
    let (codec, out) = (codec(), local("out"));
    quote! {
        fn encode_payload<#codec: #private::Encode<Self>>(
            &self,
            #out: &mut ::std::vec::Vec<::core::primitive::u8>,
        ) -> ::core::result::Result<(), #private::CodecError> {
            <#codec as #private::Encode<Self>>::encode_variant(self, #out)
        }
    }
}

fn decode(event: &Event<'_>, older: &[&Path], private: &TokenStream) -> TokenStream {
    let (codec, [kind, payload]) = (codec(), ["event", "payload"].map(local));
    let own = if event.has_content_of_variants {
        let variants = event.kinds.iter().map(|kind| variant(kind, private));
        quote!(#private::decode_variant::<Self, #codec>(&[#(#variants),*], #kind, #payload))
    } else {
        quote!(#private::decode_own::<Self, #codec>(#kind, #payload))
    };
    let older = older.iter().map(|from| {
        // Located at the type that is named: that is where `From` or `Deserialize` is missing.
        let (begin, _) = ends(from);
        let (private, from) = (private_at(event.krate, begin), quiet(from));
        let upcast = quote_spanned!(begin=> #private::upcast::<#from, Self>);
        quote!(.or_else(|| #upcast(#kind, #payload)))
    });
    quote! {
        fn decode_payload<#codec: #private::Decode<Self>>(
            #kind: #private::EventKind<'_>,
            #payload: &[::core::primitive::u8],
        ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
            #own #(#older)*
        }
    }
}

fn variant(kind: &Kind<'_>, private: &TokenStream) -> TokenStream {
    let name = kind.variant.map(|variant| variant.unraw().to_string());
    let position = match kind.position {
        Some(position) => {
            let position = Literal::u32_unsuffixed(position);
            quote!(::core::option::Option::Some(#position))
        }
        None => quote!(::core::option::Option::None),
    };
    quote!(#private::Variant::new(#name, #position))
}

fn older_versions(krate: Option<&Path>, older: &[&Path], private: &TokenStream) -> TokenStream {
    let versions = older.iter().map(|from| {
        let (begin, _) = ends(from);
        let (private, from) = (private_at(krate, begin), quiet(from));
        quote_spanned!(begin=> #private::versions::<#from>())
    });
    quote! {
        fn older_versions() -> ::std::vec::Vec<#private::EventDescriptor> {
            <[_]>::concat(&[#(#versions),*])
        }
    }
}

/// The type parameter for the codec, which no parameter of the user's is named.
fn codec() -> Ident {
    Ident::new("__Codec", Span::mixed_site())
}
