//! What an expansion has beside the implementation, to be refused by the compiler where the event is
//! wrong.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use super::super::model::{Event, Kind, Topic};
use crate::tokens::{ends, ours};

// Two types of one crate that are the same event define this macro twice, which the compiler
// refuses. No other name that a derive can define is visible in the whole crate. So the macro's
// name is the message.
//
// Output:
//     macro_rules! two_events_are__order_created__version_1__of_topic__order_events__… { () => {}; }
pub(super) fn declaration(kind: &Kind<'_>) -> Option<TokenStream> {
    let Topic::Literal(topic) = kind.topic else { return None };
    if kind.duplicate {
        return None;
    }
    let (name, version, topic) = (&kind.name, kind.version, topic.value());
    let word = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    // Different names can have the same words.
    let hash = fnv1a([name, "\0", &topic].map(str::as_bytes).concat());
    let declared = format!(
        "two_events_are__{}__version_{version}__of_topic__{}__rename_one_or_mark_it_duplicate__{hash:08x}",
        word(name),
        word(&topic),
    );
    let at = ours(kind.named_at);
    let declared = Ident::new(&declared, at);
    Some(quote_spanned! {at=>
        #[allow(non_local_definitions)]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! #declared {
            () => {};
        }
    })
}

fn fnv1a(bytes: Vec<u8>) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A check that the named version is the one before this. It is left out for generic events, whose
/// version is not known here.
pub(super) fn follows(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let from = event.upcast_from.filter(|_| event.generics.params.is_empty())?;
    let (begin, _) = ends(from);
    let ident = event.ident;
    let version = event.kinds.first()?.version;
    let message = format!(
        "`{ident}` is version {version} of its event: `upcast_from` takes the type of version {} of the same topic and name",
        version.saturating_sub(1)
    );
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
        let ident = event.ident;
        let lifetimes = event.generics.lifetimes().map(|_| syn::Lifetime::new("'static", Span::mixed_site()));
        quote! {
            const _: &[#private::EventDescriptor] = <#ident<#(#lifetimes),*> as #private::DomainEvent>::DESCRIPTORS;
        }
    })
}
