//! The tokens of the handler.

use proc_macro2::{Delimiter, Group, Ident, Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{GenericParam, Signature, Token};

use super::attributes::Attributes;
use super::model::{Handler, Output};
use super::options::{Foreign, Later, Limit, Options};
use super::parameters::{Parameter, Parameters};
use super::place::Place;
use super::state::{self, HandlerState};
use crate::tokens::{ends, local, local_type, located_at, ours, outbox, private, private_at};

// Input:
//     #[event_handler(group = "inventory")]
//     pub async fn reserve(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated, service: &Service) -> Result<(), E> { BODY }
//
// Output:
//     pub fn reserve(service: Service) -> impl EventHandler<Postgres, Event = OrderCreated, Error = E> {
//         async fn reserve(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated, service: &Service) -> Result<(), E> { BODY }
//         enum Types {}
//         impl HandlerTypes for Types { type Event = OrderCreated; type Error = E; }
//         FunctionHandler::<Postgres, _, Types> {
//             name: [module_path!(), "reserve"],
//             options: HandlerOptions::new().group("inventory"),
//             state: service,                                      // without a state: `()`
//             call: |state, tx, event, context| Box::pin(reserve(tx, event, state)),
//             classify: |error| (&Classified(error)).class(),
//         }
//     }
//
// A method, `async fn reserve(&self, tx: …, event: …)`, in the same `impl`:
//     pub fn reserve(&self) -> impl EventHandler<…> where Self: Clone + Send + Sync + 'static {
//         FunctionHandler::<Postgres, _, fn(OrderCreated) -> E> {
//             …
//             state: self.clone(),
//             call: |state, tx, event, context| Box::pin(Self::__reserve(state, tx, event)),
//         }
//     }
//     async fn __reserve(&self, tx: …, event: …) -> Result<(), E> { BODY }
pub(super) fn handler(handler: &Handler<'_>) -> TokenStream {
    let function = handler.function;
    let (vis, sig) = (&function.vis, &function.sig);
    let (fn_token, name) = (&sig.fn_token, &sig.ident);
    let Attributes { of_handler, of_function } = Attributes::new(handler);
    let generics = handler.parameters_of_type();
    let (unnamed, database) = match handler.parameters.tx.database {
        Some(database) => (None, database.to_token_stream()),
        None => {
            let outbox = outbox(handler.krate);
            let database = local_type("Database");
            (Some(quote!(#database: #outbox::OutboxDatabase)), database.to_token_stream())
        }
    };
    let generics: Vec<_> = generics.map(state::kept).chain(unnamed).collect();
    let generics = if generics.is_empty() { None } else { Some(quote!(<#(#generics),*>)) };
    let (event, error) = (handler.parameters.event, error(handler));
    let state = HandlerState::new(handler);
    let HandlerState { taken, bound, .. } = &state;
    let (types, of_types) = types(handler, &error);
    let value = value(handler, &state, &database, &types);
    // Located at the name, like the call of the function: what a state cannot be is reported once.
    let at_name = ours(name.span());
    let private = private_at(handler.krate, at_name);
    let implements = quote_spanned!(at_name=> impl #private::EventHandler<);
    let end = quote_spanned!(at_name=> >);
    // Without it if the `OutboxTx` names no database: the compiler would report the same again.
    let function_itself =
        handler.parameters.tx.database.map(|_| function_itself(handler, &of_function));
    let (inside, beside) = match handler.place {
        Place::Inside => (function_itself, None),
        Place::Beside(_) => (None, function_itself),
    };
    let mut body = Group::new(Delimiter::Brace, quote!(#inside #of_types #value));
    // Of a function that ends with a token of the user's, the compiler says that it is never used,
    // which it does not of what a macro wrote.
    body.set_span(handler.body.span());
    quote! {
        #(#of_handler)*
        #vis #fn_token #name #generics (#taken)
            -> #implements #database, Event = #event, Error = #error #end #bound #body
        #beside
    }
}

/// The handler's value.
fn value(
    handler: &Handler<'_>,
    state: &HandlerState,
    database: &TokenStream,
    types: &TokenStream,
) -> TokenStream {
    // Located at the name, as is the type of the handler: the same is reported once.
    let at_name = ours(handler.function.sig.ident.span());
    let private = private_at(handler.krate, at_name);
    let word = handler.function.sig.ident.unraw().to_string();
    let path = match handler.place {
        Place::Inside => quote!(::core::module_path!()),
        Place::Beside(_) => quote!(::core::any::type_name::<Self>()),
    };
    let options = options(&handler.options, &private);
    let kept = &state.kept;
    let call = call(handler);
    let failure = local("error");
    quote_spanned! {at_name=>
        #private::FunctionHandler::<#database, _, #types> {
            name: [#path, #word],
            options: #options,
            state: #kept,
            call: #call,
            classify: |#failure| {
                use #private::ByClassify as _;
                use #private::ByDefault as _;
                (&#private::Classified(#failure)).class()
            },
        }
    }
}

/// The type that bundles the event and the error, and its definition if it needs one.
fn types(handler: &Handler<'_>, error: &TokenStream) -> (TokenStream, Option<TokenStream>) {
    let event = handler.parameters.event;
    // An item cannot name what is around it.
    let is_generic = handler.parameters_of_type().next().is_some();
    if is_generic || matches!(handler.place, Place::Beside(_)) {
        let at_name = ours(handler.function.sig.ident.span());
        let types = quote_spanned!(at_name=> fn(#event) -> #error);
        return (located_at(types, at_name), None);
    }
    let private = private(handler.krate);
    let types = local_type("Types");
    let of_types = quote! {
        enum #types {}
        impl #private::HandlerTypes for #types {
            type Event = #event;
            type Error = #error;
        }
    };
    (types.to_token_stream(), Some(of_types))
}

/// The closure that calls the function, with its arguments as they were declared.
fn call(handler: &Handler<'_>) -> TokenStream {
    if !handler.is_callable() {
        return quote!(|_, _, _, _| ::core::unreachable!());
    }
    let Parameters { tx, event_by_reference, order, .. } = &handler.parameters;
    let [state_name, tx_name, event_name, context_name] =
        ["state", "tx", "event", "context"].map(local);
    // Located at the type of the parameter, where the compiler shows that it is not an `OutboxTx`.
    let (begin, end) = ends(tx.ty);
    let mut lent = tx_name.clone();
    lent.set_span(end);
    let receiver = handler.place.receiver();
    let own = receiver.map(|receiver| match receiver.borrowed {
        true => state_name.to_token_stream(),
        false => quote!(::core::clone::Clone::clone(#state_name)),
    });
    let arguments = own.into_iter().chain(order.iter().map(|parameter| match parameter {
        Parameter::Tx => quote_spanned!(begin=> &mut *#lent),
        Parameter::Event if *event_by_reference => quote!(&#event_name),
        Parameter::Event => event_name.to_token_stream(),
        Parameter::Context => context_name.to_token_stream(),
        Parameter::State => state_name.to_token_stream(),
    }));
    // Located at the name, where the compiler shows that the future is not `Send`.
    let at_name = ours(handler.function.sig.ident.span());
    let function = function_name(handler);
    let function = match handler.place {
        Place::Inside => function.to_token_stream(),
        Place::Beside(_) => quote!(Self::#function),
    };
    let generics: Vec<&Ident> = handler.parameters_of_type().filter_map(name_of).collect();
    let generics = if generics.is_empty() { None } else { Some(quote!(::<#(#generics),*>)) };
    let future = quote_spanned!(at_name=> #function #generics(#(#arguments),*));
    let future = match event_by_reference {
        true => quote_spanned!(at_name=> async move { #future.await }),
        false => future,
    };
    let used = |is_used: bool, name: Ident| if is_used { quote!(#name) } else { quote!(_) };
    let state_name = used(receiver.is_some() || order.contains(&Parameter::State), state_name);
    let context_name = used(order.contains(&Parameter::Context), context_name);
    let boxed = quote_spanned!(at_name=> ::std::boxed::Box::pin(#future));
    quote!(|#state_name, #tx_name, #event_name, #context_name| #boxed)
}

fn name_of(parameter: &GenericParam) -> Option<&Ident> {
    match parameter {
        GenericParam::Type(parameter) => Some(&parameter.ident),
        GenericParam::Const(parameter) => Some(&parameter.ident),
        GenericParam::Lifetime(_) => None,
    }
}

/// The name under which the handler finds the function.
fn function_name(handler: &Handler<'_>) -> Ident {
    let name = &handler.function.sig.ident;
    match handler.place {
        Place::Inside => name.clone(),
        Place::Beside(_) => format_ident!("__{}", name.unraw(), span = name.span()),
    }
}

/// The function, under that name.
fn function_itself(handler: &Handler<'_>, attrs: &[TokenStream]) -> TokenStream {
    let Signature { asyncness, fn_token, inputs, output, generics, .. } = &handler.function.sig;
    let body = handler.body;
    let name = function_name(handler);
    // A forgotten `async` has been reported.
    let asyncness =
        Token![async](asyncness.as_ref().map_or(fn_token.span, |asyncness| asyncness.span));
    let where_clause = &generics.where_clause;
    quote!(#(#attrs)* #asyncness #fn_token #name #generics(#inputs) #output #where_clause #body)
}

/// The error type of the handler.
fn error(handler: &Handler<'_>) -> TokenStream {
    match handler.output {
        Some(Output::Error(error)) => error.to_token_stream(),
        Some(Output::Alias(output)) => {
            let (begin, end) = ends(output);
            // All of it located at the type, which is then underlined.
            let private = private_at(handler.krate, begin);
            let open = quote_spanned!(begin=> <);
            let result = quote_spanned!(end=> as #private::HandlerResult>::Error);
            quote!(#open #output #result)
        }
        None => quote!(::core::convert::Infallible),
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
    if let Some(only) = &options.only {
        chain.extend(quote!(.only(&[#(#only),*])));
    }
    if let Some(events) = options.shared_transaction {
        let events = Literal::u32_unsuffixed(events);
        chain.extend(quote!(.shared_transaction(#events)));
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
