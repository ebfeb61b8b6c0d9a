//! The methods of the implementation.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::super::model::{Event, Kind, Part};
use super::fields::{per_kind, referent};
use crate::tokens::{local, located};

/// All methods. Those that no kind of the event needs are left to the trait's defaults.
pub(super) fn all(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let methods = [
        Some(choose_descriptor(event, private)),
        Some(key(event, private)),
        headers(event, private),
        id(event, private),
        occurred_at(event, private),
    ];
    methods.into_iter().flatten().collect()
}

fn choose_descriptor(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let position = |i: usize| {
        let i = Literal::usize_unsuffixed(i);
        quote!(&<Self as #private::DomainEvent>::DESCRIPTORS[#i])
    };
    let variants = event.kinds.iter().enumerate().filter_map(|(i, kind)| {
        let variant = located(kind.variant?);
        let descriptor = position(i);
        Some(quote!(Self::#variant { .. } => #descriptor,))
    });
    let variants: Vec<_> = variants.collect();
    let body = if variants.is_empty() { position(0) } else { quote!(match self { #(#variants)* }) };
    quote! {
        fn descriptor(&self) -> &'static #private::EventDescriptor {
            #body
        }
    }
}

fn key(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let body = per_kind(
        event,
        |kind| kind.keys.iter().collect(),
        |_, keys| quote!(::core::option::Option::Some(#private::event_key(&[#(#keys),*]))),
        &quote!(::core::option::Option::None),
    );
    quote! {
        fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
            #body
        }
    }
}

fn headers(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    event.kinds.iter().any(|kind| !kind.headers.is_empty()).then(|| {
        let headers = local("headers");
        let body = per_kind(
            event,
            |kind| kind.headers.iter().map(|header| &header.part).collect(),
            |kind, values| {
                let names = kind.headers.iter().map(|header| &header.name);
                quote!({ #(#private::Headers::insert(#headers, #names, #values);)* })
            },
            &quote!({}),
        );
        let body = if event.kinds.iter().any(|kind| kind.variant.is_some()) {
            quote!({ #body })
        } else {
            body
        };
        quote!(fn headers(&self, #headers: &mut #private::Headers) #body)
    })
}

fn id(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let body = optional(event, |kind| kind.id.as_ref(), |_| quote!(#private::EventId::event_id))?;
    Some(quote! {
        fn id(&self) -> ::core::option::Option<#private::Uuid> {
            #body
        }
    })
}

fn occurred_at(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    // What a reference refers to is named, since a reference itself is no time.
    let witness = |part: &Part<'_>| match referent(part.ty) {
        Some(ty) => quote!(<#ty as #private::EventTime>::event_time),
        None => quote!(#private::EventTime::event_time),
    };
    let body = optional(event, |kind| kind.occurred_at.as_ref(), witness)?;
    Some(quote! {
        fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
            #body
        }
    })
}

/// The body of a method that returns one field. `None` if no kind has that field: the method's
/// default is used then.
fn optional<'a>(
    event: &'a Event<'_>,
    part: impl Fn(&'a Kind<'a>) -> Option<&'a Part<'a>>,
    witness: impl Fn(&Part<'_>) -> TokenStream,
) -> Option<TokenStream> {
    event.kinds.iter().any(|kind| part(kind).is_some()).then(|| {
        per_kind(
            event,
            |kind| part(kind).into_iter().collect(),
            |kind, value| {
                let witness = part(kind).map(&witness);
                quote!(::core::option::Option::Some(#witness(#(#value),*)))
            },
            &quote!(::core::option::Option::None),
        )
    })
}
