//! What an expansion has beside the implementation, to be refused by the compiler where the event is
//! wrong.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use super::super::model::{Event, Topic};
use crate::tokens::{ends, located, quiet};

/// A check that the named version is the one before this. It is left out for generic events, whose
/// version is not known here.
pub(super) fn follows(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let from = event.upcast_from.filter(|_| event.generics.params.is_empty())?;
    let (begin, _) = ends(from);
    let ident = located(event.ident);
    let version = event.kinds.first()?.version;
    let message = format!(
        "`{ident}` is version {version} of its event: `upcast_from` takes the type of version {} of the same topic and name",
        version.saturating_sub(1)
    );
    let from = quiet(from);
    Some(quote_spanned! {begin=>
        const _: () = ::core::assert!(
            #private::is_next_version(
                <#from as #private::DomainEvent>::DESCRIPTORS,
                <#ident as #private::DomainEvent>::DESCRIPTORS,
            ),
            #message
        );
    })
}

/// An associated constant is evaluated only when it is used: this use makes an illegal `topic =
/// some::CONST` an error although nothing emits the event yet. A generic event has nothing to
/// evaluate.
pub(super) fn evaluated(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let has_const = event.kinds.iter().any(|kind| matches!(kind.topic, Topic::Const(_)));
    let generic = event.generics.type_params().next().is_some()
        || event.generics.const_params().next().is_some();
    (has_const && !generic).then(|| {
        let ident = located(event.ident);
        let lifetimes = event
            .generics
            .lifetimes()
            .map(|_| syn::Lifetime::new("'static", Span::mixed_site()));
        quote! {
            const _: &[#private::EventDescriptor] = <#ident<#(#lifetimes),*> as #private::DomainEvent>::DESCRIPTORS;
        }
    })
}
