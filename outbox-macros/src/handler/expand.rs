//! The tokens of the handler.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Path, Signature, Token, Type};

use super::model::{Extra, Handler};
use super::options::{Foreign, Later, Limit, Options};
use crate::tokens::{ends, local, ours, outbox, private, private_at};

// Input:
//     #[event_handler(group = "inventory")]
//     pub async fn reserve(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated, service: &Service) -> Ret { BODY }
//
// Output:
//     pub struct reserve(pub Service);        // without a state: `pub struct reserve;`
//     impl reserve {
//         pub async fn call(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated, service: &Service) -> Ret { BODY }
//     }
//     const _: () = {
//         impl EventHandler<Postgres> for reserve {
//             type Event = OrderCreated;
//             type Error = <Ret as HandlerResult>::Error;
//             fn options(&self) -> HandlerOptions { HandlerOptions::new().group("inventory") }
//             fn classify(&self, error: &Self::Error) -> ErrorClass { (&Classified(error)).class() }
//             async fn handle(&self, tx: …, event: Self::Event, _: &EventContext) -> Result<(), Self::Error> {
//                 Self::call(tx, event, &self.0).await
//             }
//         }
//     };
pub(super) fn handler(handler: &Handler<'_>) -> TokenStream {
    let function = handler.function;
    let Attributes { of_type, of_impl, of_function } = Attributes::new(&function.attrs);
    let (vis, name) = (&function.vis, &function.sig.ident);
    let state = handler.rest.iter().find_map(|extra| match extra {
        Extra::State(ty) => Some(quote!((pub #ty))),
        Extra::Context => None,
    });
    // Without it if the `OutboxTx` names no database: the compiler would report the same again.
    let function_itself = handler.tx.database.map(|_| function_itself(handler, &of_function));
    let implementation = implementation(handler);
    quote! {
        #(#of_type)*
        #[allow(non_camel_case_types)]
        #vis struct #name #state;
        #(#of_impl)*
        impl #name {
            #function_itself
        }
        #(#of_impl)*
        const _: () = {
            #implementation
        };
    }
}

fn implementation(handler: &Handler<'_>) -> TokenStream {
    let private = private(handler.krate);
    let Handler { function, event, .. } = handler;
    let name = &function.sig.ident;
    let options = options(&handler.options, &private);
    let (parameter, database) = match handler.tx.database {
        Some(database) => (None, database.to_token_stream()),
        None => {
            let outbox = outbox(handler.krate);
            (Some(quote!(<DB: #outbox::OutboxDatabase>)), quote!(DB))
        }
    };
    let (where_clause, error_type) = match handler.output {
        Some(output) => result(output, handler.krate),
        None => (None, quote!(::core::convert::Infallible)),
    };
    let error = local("error");
    let handle = handle(handler, &database, &private);
    quote! {
        #[automatically_derived]
        impl #parameter #private::EventHandler<#database> for #name #where_clause {
            type Event = #event;
            type Error = #error_type;
            fn options(&self) -> #private::HandlerOptions {
                #options
            }
            fn classify(&self, #error: &Self::Error) -> #private::ErrorClass {
                use #private::ByClassify as _;
                use #private::ByDefault as _;
                (&#private::Classified(#error)).class()
            }
            #handle
        }
    }
}

fn handle(handler: &Handler<'_>, database: &TokenStream, private: &TokenStream) -> TokenStream {
    let [tx, event, context] = ["tx", "event", "context"].map(local);
    let has_context = handler.rest.iter().any(|extra| matches!(extra, Extra::Context));
    let context_pattern = if has_context { quote!(#context) } else { quote!(_) };
    let call = call(handler, [&tx, &event, &context], private);
    // Located at the name, where the compiler shows that the future is not `Send`.
    quote_spanned! {ours(handler.function.sig.ident.span())=>
        async fn handle(
            &self,
            #tx: &mut #private::OutboxTx<'static, #database>,
            #event: Self::Event,
            #context_pattern: &#private::EventContext,
        ) -> ::core::result::Result<(), Self::Error> {
            #call
        }
    }
}

/// The function, under its new name.
fn function_itself(handler: &Handler<'_>, attrs: &[&Attribute]) -> TokenStream {
    let (vis, body) = (&handler.function.vis, handler.body);
    let Signature { asyncness, fn_token, ident, inputs, output, generics, .. } =
        &handler.function.sig;
    // A forgotten `async` has been reported.
    let asyncness =
        Token![async](asyncness.as_ref().map_or(fn_token.span, |asyncness| asyncness.span));
    let call = Ident::new("call", ident.span());
    let where_clause = &generics.where_clause;
    // A function that awaits nothing must be async as well.
    quote! {
        #(#attrs)*
        #[allow(clippy::unused_async)]
        #vis #asyncness #fn_token #call(#inputs) #output #where_clause #body
    }
}

/// The call of the function, as it was declared.
fn call(
    handler: &Handler<'_>,
    [tx, event, context]: [&Ident; 3],
    private: &TokenStream,
) -> TokenStream {
    if handler.output.is_none() || handler.tx.database.is_none() || !handler.tx.is_lent {
        return quote!(::core::unreachable!());
    }
    // Located at the type of the parameter, where the compiler shows that it is not an `OutboxTx`.
    let (begin, end) = ends(handler.tx.ty);
    let mut tx = tx.clone();
    tx.set_span(end);
    let tx = quote_spanned!(begin=> &mut *#tx);
    let event = if handler.event_by_reference { quote!(&#event) } else { quote!(#event) };
    let at_name = ours(handler.function.sig.ident.span());
    let rest = handler.rest.iter().map(|extra| match extra {
        Extra::Context => quote!(#context),
        Extra::State(_) => quote_spanned!(at_name=> &self.0),
    });
    quote_spanned!(at_name=> #private::HandlerResult::into_result(Self::call(#tx, #event #(, #rest)*).await))
}

/// The bound that the return type is a `Result`, and its error type. A bound gives one error, which
/// underlines the whole type.
fn result(output: &Type, krate: Option<&Path>) -> (Option<TokenStream>, TokenStream) {
    let (begin, end) = ends(output);
    let private = private_at(krate, begin);
    let is_result = quote_spanned!(end=> : #private::HandlerResult);
    (Some(quote!(where #output #is_result)), quote!(<#output as #private::HandlerResult>::Error))
}

/// The user's attributes, sorted by what they apply to.
struct Attributes<'a> {
    of_type: Vec<&'a Attribute>,
    of_impl: Vec<TokenStream>,
    /// All but `#[deprecated]`: that is about those who use the handler, not about its
    /// implementation.
    of_function: Vec<&'a Attribute>,
}

impl<'a> Attributes<'a> {
    fn new(attrs: &'a [Attribute]) -> Self {
        let is =
            |attr: &Attribute, words: &[&str]| words.iter().any(|word| attr.path().is_ident(word));
        let cfgs = attrs.iter().filter(|attr| is(attr, &["cfg"])).map(|cfg| quote!(#cfg));
        let deprecated = attrs
            .iter()
            .find(|attr| is(attr, &["deprecated"]))
            .map(|_| quote!(#[allow(deprecated)]));
        Self {
            of_type: attrs
                .iter()
                .filter(|attr| is(attr, &["allow", "cfg", "deprecated", "doc"]))
                .collect(),
            of_impl: cfgs.chain(deprecated).collect(),
            of_function: attrs.iter().filter(|attr| !is(attr, &["cfg", "deprecated"])).collect(),
        }
    }
}

fn options(options: &Options, private: &TokenStream) -> TokenStream {
    let mut chain = quote!(#private::HandlerOptions::new());
    if let Some(group) = &options.group {
        chain.extend(quote!(.group(#group)));
    }
    match options.attempts {
        Some(Limit::Attempts(attempts)) => {
            let attempts = Literal::u32_unsuffixed(attempts);
            chain.extend(quote!(.attempts(#attempts)));
        }
        Some(Limit::None) => chain.extend(quote!(.retry_forever())),
        None => {}
    }
    if let Some((first, longest)) = options.pauses {
        let (first, longest) = (duration(first), duration(longest));
        chain.extend(quote!(.backoff(#first, #longest)));
    }
    if let Some((delays, later)) = &options.schedule {
        let delays = delays.iter().copied().map(duration);
        let later = match later {
            Later::Wait => quote!(Wait),
            Later::Overtake => quote!(Overtake),
        };
        chain.extend(
            quote!(.retry_topics(const { &[#(#delays),*] }, #private::LaterEvents::#later)),
        );
    }
    if let Some(timeout) = options.timeout {
        let timeout = duration(timeout);
        chain.extend(quote!(.timeout(#timeout)));
    }
    if let Some(foreign) = &options.foreign {
        let id = match foreign {
            Foreign::Place => quote!(Place),
            Foreign::Key => quote!(Key),
            Foreign::Header(name) => quote!(Header(#name)),
        };
        chain.extend(quote!(.foreign(#private::ForeignId::#id)));
    }
    chain
}

fn duration(millis: u64) -> TokenStream {
    if millis.is_multiple_of(1_000) {
        let seconds = Literal::u64_unsuffixed(millis / 1_000);
        return quote!(::core::time::Duration::from_secs(#seconds));
    }
    let millis = Literal::u64_unsuffixed(millis);
    quote!(::core::time::Duration::from_millis(#millis))
}
