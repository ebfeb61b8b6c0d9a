//! The contract of an event, and the test that compares it with the lock.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Generics, Lifetime};

use super::super::attr::TextValue;
use super::super::model::{Contract, Event};
use super::super::transparent::Transparent;
use crate::case::Case;
use crate::generics::given;
use crate::tokens::{located, ours, private, quiet};

// Input:
//     #[derive(DomainEvent)]
//     #[event(topic = "order-events")]
//     struct OrderCreated { #[event(key)] customer_id: Uuid }
//
// Output:
//     const _: () = {
//         impl Contracted for OrderCreated where for<'described> Self: Described {
//             fn contracts() -> Vec<Declared> {
//                 described::<Self>(
//                     Role::Emitted,
//                     <Self as DomainEvent>::DESCRIPTORS,
//                     &<Self as DomainEvent>::older_versions(),
//                     &[Wire::new(Content::Whole, &["customer_id"])],
//                 )
//             }
//         }
//     };
//     #[cfg(test)]
//     #[test]
//     fn outbox_contract_of_order_created() {
//         check(option_env!("CARGO_MANIFEST_DIR"), &described::<OrderCreated>(…));
//     }
pub(in super::super) fn event(event: &Event<'_>, with_test: bool) -> TokenStream {
    let private = private(event.krate);
    let contracts = quote!(#private::contracts);
    let role = match event.contract {
        Contract::Unlocked => return TokenStream::new(),
        Contract::EmittedBy(TextValue::Literal(lock)) => quote!(EmittedBy(#lock)),
        Contract::EmittedBy(TextValue::Const(lock)) => quote!(EmittedBy(#lock)),
        Contract::Own if event.read_only => quote!(ReadOnly),
        Contract::Own => quote!(Emitted),
    };
    let of = Of { event, private: &private, role: &role };
    let is_json = of.is_json();
    let body = of.contracts(&quote!(Self));
    // A bound with a lifetime may be one that does not hold: only a test needs the schema.
    let bound = is_json.then(|| {
        let described = Lifetime::new("'__described", Span::mixed_site());
        quote!(for<#described> Self: #contracts::Described)
    });
    let is_event = event.generics.type_params().next().map(|_| {
        if event.read_only {
            quote!(Self: #private::Readable)
        } else {
            quote!(Self: #private::DomainEvent)
        }
    });
    let bounds = is_event.into_iter().chain(bound).collect();
    let implementation = implementation(event.ident, event.generics, bounds, &contracts, &body);
    let test = with_test.then(|| test(&of));
    quote!(#implementation #test)
}

struct Of<'e> {
    event: &'e Event<'e>,
    private: &'e TokenStream,
    role: &'e TokenStream,
}

impl Of<'_> {
    /// Whether the codec is ours: of another one, the schema does not say what is written.
    fn is_json(&self) -> bool {
        let last = self.event.codec.map(|path| path.segments.last());
        last.is_none_or(|last| {
            last.is_some_and(|last| last.ident == "Json" && last.arguments.is_none())
        })
    }

    /// Those of the type, which is the event's, with its parameters or as `Self`.
    fn contracts(&self, of: &TokenStream) -> TokenStream {
        let Self { event, private, role } = self;
        let contracts = quote!(#private::contracts);
        let own = if event.read_only { quote!(Readable) } else { quote!(DomainEvent) };
        let own = quote!(<#of as #private::#own>);
        let older = if event.read_only { quote!(versions) } else { quote!(older_versions) };
        let wires = event.kinds.iter().map(|kind| kind.wire.tokens(&contracts));
        let arguments =
            quote!(#contracts::Role::#role, #own::DESCRIPTORS, &#own::#older(), &[#(#wires),*]);
        if self.is_json() {
            quote!(#contracts::described::<#of>(#arguments))
        } else {
            quote!(#contracts::opaque(#arguments))
        }
    }
}

/// The contracts of a transparent type are those of the events in it, which have tests of their own.
pub(in super::super) fn transparent(event: &Transparent<'_>) -> TokenStream {
    let private = private(event.krate);
    let contracts = quote!(#private::contracts);
    let types = event.inner.iter().map(|inner| quiet(inner.field.ty));
    let contracted = Lifetime::new("'__contracted", Span::mixed_site());
    let bounds = types.clone().map(|ty| quote!(for<#contracted> #ty: #contracts::Contracted));
    let body = quote!(<[_]>::concat(&[#(<#types as #contracts::Contracted>::contracts()),*]));
    implementation(event.ident, event.generics, bounds.collect(), &contracts, &body)
}

fn implementation(
    ident: &Ident,
    generics: &Generics,
    bounds: Vec<TokenStream>,
    contracts: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let ident = located(ident);
    let (impl_generics, ty_generics, _) = generics.split_for_impl();
    let all: Vec<_> = given(generics).chain(bounds).collect();
    let where_clause = (!all.is_empty()).then(|| quote!(where #(#all),*));
    quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #contracts::Contracted for #ident #ty_generics #where_clause {
                fn contracts() -> ::std::vec::Vec<#contracts::Declared> {
                    #body
                }
            }
        };
    }
}

/// Not in the block of the implementation, in which the test would not be found. `#[test]` by its
/// path: in the file it may be that of another crate.
fn test(of: &Of<'_>) -> TokenStream {
    let (ident, generics, private) = (of.event.ident, of.event.generics, of.private);
    // Which types its parameters are is said by `catalogue!`.
    if generics.type_params().next().is_some() || generics.const_params().next().is_some() {
        return TokenStream::new();
    }
    let name = Case::parse("snake_case").map(|case| case.of(&ident.unraw().to_string()));
    let name = format!("outbox_contract_of_{}", name.unwrap_or_default());
    let name = Ident::new(&name, ours(ident.span()).resolved_at(Span::call_site()));
    let span = ours(ident.span());
    let ident = located(ident);
    let lifetimes = generics.lifetimes().map(|_| Lifetime::new("'static", Span::mixed_site()));
    let ty = quote_spanned!(span=> #ident<#(#lifetimes),*>);
    let declared = of.contracts(&ty);
    // In the body of a function it is never run, and the compiler warns: such an event is `unlocked`.
    quote! {
        #[cfg(test)]
        #[::core::prelude::v1::test]
        fn #name() {
            #private::contracts::check(::core::option_env!("CARGO_MANIFEST_DIR"), &#declared);
        }
    }
}
