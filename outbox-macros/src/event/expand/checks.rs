//! What an expansion has beside the implementation, to be refused by the compiler where the event
//! is wrong.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{quote, quote_spanned};

use super::super::model::{Event, Topic};
use super::payload::older;
use crate::tokens::{ends, located};

/// A check that each named version is the one before. It is left out for generic events, whose
/// version is not known here.
pub(super) fn follow(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    if !event.generics.params.is_empty() {
        return TokenStream::new();
    }
    let ident = &located(event.ident);
    let own = own(event, private);
    let checks = event.kinds.iter().enumerate().filter_map(|(i, kind)| {
        let from = kind.upcast_from?;
        let (begin, _) = ends(from);
        let message = format!(
            "`{}` is version {} of its event: `upcast_from` takes the type of version {} of the same topic and name",
            kind.variant.unwrap_or(ident),
            kind.version,
            kind.version.saturating_sub(1)
        );
        let i = Literal::usize_unsuffixed(i);
        let old = older(event.krate, from, &quote_spanned!(begin=> DESCRIPTORS));
        Some(quote_spanned! {begin=>
            const _: () = ::core::assert!(
                #private::is_next_version(
                    #old,
                    &<#ident as #own>::DESCRIPTORS[#i],
                ),
                #message
            );
        })
    });
    checks.collect()
}

/// An associated constant is evaluated only when it is used: this use makes an illegal `topic =
/// some::CONST` an error although nothing emits the event yet. A generic event has nothing to
/// evaluate.
pub(super) fn evaluated(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let has_const = event.kinds.iter().any(|kind| matches!(kind.topic, Topic::Const(_)));
    let generic = event.generics.type_params().next().is_some()
        || event.generics.const_params().next().is_some();
    (has_const && !generic).then(|| {
        let (ident, own) = (located(event.ident), own(event, private));
        let lifetimes =
            event.generics.lifetimes().map(|_| syn::Lifetime::new("'static", Span::mixed_site()));
        quote! {
            const _: &[#private::EventDescriptor] = <#ident<#(#lifetimes),*> as #own>::DESCRIPTORS;
        }
    })
}

/// The trait that has the event's descriptors.
fn own(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    if event.read_only { quote!(#private::Readable) } else { quote!(#private::DomainEvent) }
}
