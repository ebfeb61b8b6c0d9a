//! The tokens of an event that is another one.

use proc_macro2::{Literal, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::{Lifetime, Path};

use super::super::transparent::{Inner, Transparent};
use super::{bounds, payload};
use crate::generics::{mentions_parameter, where_clause};
use crate::tokens::{ends, local, located, ours, private, private_at, quiet};

// Input:
//     #[derive(DomainEvent)]
//     #[event(transparent)]
//     enum OrderEvent { Placed(Placed), Paid(Paid) }
//
// Output:
//     const _: () = {
//         impl Transparent for OrderEvent {
//             const INNER: &'static [&'static [EventDescriptor]] =
//                 &[<Placed as DomainEvent>::DESCRIPTORS, <Paid as DomainEvent>::DESCRIPTORS];
//             fn inner(&self) -> &dyn InnerEvent {
//                 match self {
//                     Self::Placed { 0: inner } => <Placed as DomainEvent>::as_inner(inner),
//                     Self::Paid { 0: inner } => <Paid as DomainEvent>::as_inner(inner),
//                 }
//             }
//         }
//         impl DomainEvent for OrderEvent {
//             type Codec = Inner;
//             const DESCRIPTORS: &'static [EventDescriptor] = Joined::<Self>::DESCRIPTORS;
//             fn key(&self) -> Option<Vec<u8>> { self.inner().key() }
//             …
//         }
//         impl DecodeInner for OrderEvent where for<'inner> Placed: Readable, … { … }
//     };
pub(in super::super) fn event(event: &Transparent<'_>) -> TokenStream {
    let private = private(event.krate);
    let expansion = Expansion { event, private: &private };
    let (transparent, domain_event) = (expansion.transparent(), expansion.domain_event());
    let decode = expansion.decode_inner();
    let checks = expansion.checks();
    quote! {
        const _: () = {
            #transparent
            #domain_event
            #decode
            #checks
        };
    }
}

struct Expansion<'e> {
    event: &'e Transparent<'e>,
    private: &'e TokenStream,
}

impl Expansion<'_> {
    /// An implementation of the trait, with a bound for each field whose type has a parameter, or
    /// for every field: a bound with a lifetime may be one that does not hold.
    fn implementation(
        &self,
        of: &TokenStream,
        bound: &TokenStream,
        every: bool,
        items: &TokenStream,
    ) -> TokenStream {
        let generics = self.event.generics;
        let ident = located(self.event.ident);
        let (impl_generics, ty_generics, _) = generics.split_for_impl();
        let inner = Lifetime::new("'__inner", Span::mixed_site());
        let bounds = self.event.inner.iter().filter_map(|of| {
            let ty = of.field.ty;
            if mentions_parameter(ty, generics) {
                Some(quote!(#ty: #bound))
            } else {
                let ty = quiet(ty);
                every.then(|| quote!(for<#inner> #ty: #bound))
            }
        });
        let upcasts = self.event.inner.iter().filter_map(|of| of.upcast_from);
        let upcasts = upcasts.filter_map(|from| bounds::upcast(from, generics, self.private));
        let where_clause = where_clause(generics, bounds.chain(upcasts));
        let allowed = self.event.allows_deprecated.then(|| quote!(#[allow(deprecated)]));
        quote! {
            #[automatically_derived]
            #allowed
            impl #impl_generics #of for #ident #ty_generics #where_clause {
                #items
            }
        }
    }

    fn transparent(&self) -> TokenStream {
        let private = self.private;
        let descriptors = self.event.inner.iter().map(|inner| {
            let (ty, private) = self.at_type(inner);
            let (begin, _) = ends(inner.field.ty);
            quote_spanned!(begin=> <#ty as #private::DomainEvent>::DESCRIPTORS)
        });
        let arms = self.event.inner.iter().map(|of| {
            let (variant, member, inner) = (variant(of), member(of), local("inner"));
            // As it is named above: two errors that are the same are one.
            let ((ty, private), (begin, _)) = (self.at_type(of), ends(of.field.ty));
            let event = quote_spanned!(begin=> <#ty as #private::DomainEvent>::as_inner);
            quote!(#variant { #member: #inner } => #event(#inner),)
        });
        let items = quote! {
            const INNER: &'static [&'static [#private::EventDescriptor]] = &[#(#descriptors),*];
            fn inner(&self) -> &dyn #private::InnerEvent {
                match self { #(#arms)* }
            }
        };
        let event = quote!(#private::DomainEvent);
        self.implementation(&quote!(#private::Transparent), &event, false, &items)
    }

    fn domain_event(&self) -> TokenStream {
        let private = self.private;
        let [headers, kind, payload] = ["headers", "event", "payload"].map(local);
        let inner = quote!(#private::Transparent::inner(self));
        let older = self.older_versions();
        let items = quote! {
            type Codec = #private::Inner;
            const DESCRIPTORS: &'static [#private::EventDescriptor] =
                #private::Joined::<Self>::DESCRIPTORS;
            fn descriptor(&self) -> &'static #private::EventDescriptor {
                #private::InnerEvent::descriptor(#inner)
            }
            fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                #private::InnerEvent::key(#inner)
            }
            fn headers(&self, #headers: &mut #private::Headers) {
                #private::InnerEvent::headers(#inner, #headers);
            }
            fn id(&self) -> ::core::option::Option<#private::Uuid> {
                #private::InnerEvent::id(#inner)
            }
            fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
                #private::InnerEvent::occurred_at(#inner)
            }
            fn decode_payload<__Codec: #private::Decode<Self>>(
                #kind: #private::EventKind<'_>,
                #payload: &[::core::primitive::u8],
            ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
                <__Codec as #private::Decode<Self>>::decode_inner(#kind, #payload)
            }
            fn older_versions() -> ::std::vec::Vec<#private::EventDescriptor> {
                #older
            }
        };
        let event = quote!(#private::DomainEvent);
        self.implementation(&quote!(#private::DomainEvent), &event, false, &items)
    }

    fn older_versions(&self) -> TokenStream {
        let older = self.event.inner.iter().map(|inner| {
            let (ty, private) = self.at_type(inner);
            let (begin, _) = ends(inner.field.ty);
            let upcast = inner.upcast_from.map(|from| {
                let versions = payload::versions(self.event.krate, from);
                quote!(#versions,)
            });
            let own = quote_spanned!(begin=> <#ty as #private::DomainEvent>::older_versions);
            quote!(#own(), #upcast)
        });
        quote!(<[_]>::concat(&[#(#older)*]))
    }

    fn decode_inner(&self) -> TokenStream {
        let private = self.private;
        let [kind, payload, inner] = ["event", "payload", "inner"].map(local);
        let reads = self.event.inner.iter().map(|of| {
            let (variant, member) = (variant(of), member(of));
            let (ty, upcast) = (quiet(of.field.ty), of.upcast_from.map(|from| self.upcast(from)));
            quote! {
                .or_else(|| #private::read_inner::<#ty, Self>(
                    #kind, #payload, |#inner| #variant { #member: #inner },
                ))
                #upcast
            }
        });
        let items = quote! {
            fn decode_inner(
                #kind: #private::EventKind<'_>,
                #payload: &[::core::primitive::u8],
            ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
                ::core::option::Option::None #(#reads)*
            }
        };
        let readable = quote!(#private::Readable);
        self.implementation(&quote!(#private::DecodeInner), &readable, true, &items)
    }

    fn upcast(&self, from: &Path) -> TokenStream {
        let [kind, payload] = ["event", "payload"].map(local);
        let upcast = payload::upcast(self.event.krate, from, &kind, &payload);
        quote!(.or_else(|| #upcast))
    }

    /// Checks by the compiler: no event is in two variants, and each `upcast_from` names the
    /// version before. A generic event has nothing to evaluate.
    fn checks(&self) -> TokenStream {
        let (private, ident) = (self.private, located(self.event.ident));
        if !self.event.generics.params.is_empty() {
            return TokenStream::new();
        }
        let span = ours(self.event.ident.span());
        let message = format!(
            "two variants of `{ident}` are the same event, and a consumer could not choose between them\nhelp: remove one of \
             the two"
        );
        let distinct = quote_spanned! {span=>
            const _: () = ::core::assert!(
                #private::are_distinct(<#ident as #private::Transparent>::INNER),
                #message
            );
        };
        let follow = self.event.inner.iter().filter_map(|inner| {
            let from = inner.upcast_from?;
            let (begin, _) = ends(from);
            let ty = quiet(inner.field.ty);
            let old =
                payload::older(self.event.krate, from, &quote_spanned!(begin=> DESCRIPTORS));
            Some(quote_spanned! {begin=>
                const _: () = ::core::assert!(
                    #private::is_next_version(
                        #old,
                        &<#ty as #private::DomainEvent>::DESCRIPTORS[0],
                    ),
                    "`upcast_from` takes the type of the version before that of the event in the field, of the same topic and name",
                );
            })
        });
        quote!(#distinct #(#follow)*)
    }

    /// The field's type, and the crate located there.
    fn at_type(&self, inner: &Inner<'_>) -> (TokenStream, TokenStream) {
        let (begin, _) = ends(inner.field.ty);
        (quiet(inner.field.ty), private_at(self.event.krate, begin))
    }
}

fn variant(inner: &Inner<'_>) -> TokenStream {
    match inner.variant {
        Some(variant) => {
            let variant = located(variant);
            quote!(Self::#variant)
        }
        None => quote!(Self),
    }
}

fn member(inner: &Inner<'_>) -> TokenTree {
    match inner.field.ident {
        Some(ident) => TokenTree::Ident(located(ident)),
        None => TokenTree::Literal(Literal::usize_unsuffixed(inner.field.position)),
    }
}
