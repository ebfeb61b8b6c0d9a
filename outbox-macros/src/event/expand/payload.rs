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
//             .or_else(|| upcast(
//                 <PlacedV1 as Readable>::read(event, payload),
//                 <Self as UpcastFrom<PlacedV1>>::upcast_from,
//             ))
//     }
//     fn older_versions() -> Vec<EventDescriptor> {
//         <[_]>::concat(&[<PlacedV1 as Readable>::versions()])
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
    let (codec, [kind, payload]) = (codec(), &["event", "payload"].map(local));
    let own = if event.has_content_of_variants {
        let variants = event.kinds.iter().map(|kind| variant(kind, private));
        quote!(#private::decode_variant::<Self, #codec>(&[#(#variants),*], #kind, #payload))
    } else {
        quote!(#private::decode_own::<Self, #codec>(#kind, #payload))
    };
    let older = older.iter().map(|from| upcast(event.krate, from, kind, payload));
    quote! {
        fn decode_payload<#codec: #private::Decode<Self>>(
            #kind: #private::EventKind<'_>,
            #payload: &[::core::primitive::u8],
        ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
            #own #(.or_else(|| #older))*
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
    let versions = older.iter().map(|from| versions(krate, from));
    quote! {
        fn older_versions() -> ::std::vec::Vec<#private::EventDescriptor> {
            <[_]>::concat(&[#(#versions),*])
        }
    }
}

/// Reads the payload as an older version, and converts that. Located at the type that is named:
/// that is where `From` or `Deserialize` is missing.
pub(super) fn upcast(
    krate: Option<&Path>,
    from: &Path,
    kind: &Ident,
    payload: &Ident,
) -> TokenStream {
    let (begin, _) = ends(from);
    let (private, old) = (private_at(krate, begin), quiet(from));
    let read = older(krate, from, &quote_spanned!(begin=> read));
    let into = quote_spanned!(begin=> <Self as #private::UpcastFrom<#old>>::upcast_from);
    quote!(#private::upcast(#read(#kind, #payload), #into))
}

/// What [`upcast`] reads.
pub(super) fn versions(krate: Option<&Path>, from: &Path) -> TokenStream {
    let (begin, _) = ends(from);
    let versions = older(krate, from, &quote_spanned!(begin=> versions));
    quote!(#versions())
}

/// An item of an older version as something that is read. It is written in one way everywhere,
/// since two errors that are the same are one.
pub(super) fn older(krate: Option<&Path>, from: &Path, item: &TokenStream) -> TokenStream {
    let (begin, _) = ends(from);
    let (private, from) = (private_at(krate, begin), quiet(from));
    quote_spanned!(begin=> <#from as #private::Readable>::#item)
}

fn codec() -> Ident {
    Ident::new("__Codec", Span::mixed_site())
}
