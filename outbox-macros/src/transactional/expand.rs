//! The tokens of the method.

use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{FnArg, Pat};

use super::args::Args;
use super::model::{Body, Method};
use super::options::{Argument, Retry};
use super::source::Source;
use crate::errors::to_tokens;
use crate::function::Function;
use crate::tokens::{ends, local, mentions, names, ours, private, private_at};

pub(super) fn method(method: &Method<'_>) -> TokenStream {
    let body = match &method.body {
        Body::Async(block) => {
            let (mut body, statements) = inner_attributes(block);
            body.extend(transaction(method, &statements));
            group(Delimiter::Brace, body, block)
        }
        Body::Future(braces, ending) => {
            let future = ending.with(transaction(method, ending.block()));
            group(Delimiter::Brace, future, braces)
        }
    };
    method.function.with_body(Some(body))
}

// Input:
//     #[transactional_outbox(tx in self.outbox)]
//     async fn f(&self) -> Ret { BODY }
//
// Output:
//     async fn f(&self) -> Ret {
//         let outcome = <Ret as Outcome>::VTABLE;
//         let mut transaction = match BeginOutbox::begin_outbox(&(self.outbox)).await {
//             Ok(transaction) => transaction,
//             Err(error) => return outcome.error(error),
//         };
//         let run = body(&transaction, async move |mut tx| {
//             if let Some(result) = outcome.never() { return result; }    // for `?` to infer from
//             BODY
//         });
//         let held = match outcome.hold(run(&mut transaction).await) {
//             Ok(held) => held,
//             Err(result) => return result,    // an error that is not `Send`
//         };
//         finish(transaction, held, outcome).await
//     }
//
// With `retry = 3`, the same in a loop that every argument is cloned for:
//         let outcome = <Ret as Outcome>::VTABLE;
//         let mut attempts = Attempts::new("f", 3, OPTIONS);
//         loop {
//             let argument = RetryArgument::of_attempt(&argument);
//             let begun = BeginTransaction::begin_transaction(&(self.outbox), attempts.options()).await;
//             let mut transaction = match attempts.begun(begun).await {
//                 Ok(transaction) => transaction,
//                 Err(None) => continue,
//                 Err(Some(error)) => return outcome.error(error),
//             };
//             let run = …;
//             let (result, conflict) = outcome.search(run(&mut transaction).await);
//             let held = match attempts.hold(&transaction, conflict, outcome.hold(result)) {
//                 Ok(held) => held,
//                 Err(result) => return result,
//             };
//             if let Some(result) = attempts.finish(transaction, held, outcome).await {
//                 break result;
//             }
//         }
fn transaction(method: &Method<'_>, body: &Group) -> TokenStream {
    match &method.options.retry {
        Some(retry) => attempts(method, body, retry),
        None => attempt(method, body),
    }
}

fn attempt(method: &Method<'_>, body: &Group) -> TokenStream {
    let private = private(method.krate);
    let [outcome, transaction, error, run, held, result] =
        ["outcome", "transaction", "error", "run", "held", "result"].map(local);
    let ret = inferable(method.output.clone());
    let vtable = vtable(&ret, &private);
    let begin = begin(method, None);
    let captures = if method.source.shares { quote!(async) } else { quote!(async move) };
    let closure = closure(method, &ret, body, &captures);
    quote! {
        let #outcome = #vtable;
        let mut #transaction = match #begin {
            ::core::result::Result::Ok(#transaction) => #transaction,
            ::core::result::Result::Err(#error) => return #outcome.error(#error),
        };
        let #run = #private::body(&#transaction, #closure);
        let #held = match #outcome.hold(#run(&mut #transaction).await) {
            ::core::result::Result::Ok(#held) => #held,
            ::core::result::Result::Err(#result) => return #result,
        };
        #private::finish(#transaction, #held, #outcome).await
    }
}

fn attempts(method: &Method<'_>, body: &Group, retry: &Retry<'_>) -> TokenStream {
    let private = private(method.krate);
    let [outcome, attempts, begun, transaction, error, run] =
        ["outcome", "attempts", "begun", "transaction", "error", "run"].map(local);
    let [result, conflict, held] = ["result", "conflict", "held"].map(local);
    let ret = inferable(method.output.clone());
    let vtable = vtable(&ret, &private);
    let times = Literal::u32_unsuffixed(retry.times);
    let name = match method.options.name {
        Some(name) => name.value(),
        None => method.function.sig.ident.unraw().to_string(),
    };
    let options = options(method, &private);
    let begin = begin(method, Some(quote!(#attempts.options())));
    let arguments = retry.arguments.iter().filter(|argument| may_be_used(argument, body));
    let arguments = arguments.map(|argument| clone_of(argument, method));
    // A `self` that cannot be copied is borrowed by the body.
    let captures = if retry.borrows_self { quote!(async) } else { quote!(async move) };
    let closure = closure(method, &ret, body, &captures);
    quote! {
        let #outcome = #vtable;
        let mut #attempts = #private::Attempts::new(#name, #times, #options);
        loop {
            #(#arguments)*
            let #begun = #begin;
            let mut #transaction = match #attempts.begun(#begun).await {
                ::core::result::Result::Ok(#transaction) => #transaction,
                ::core::result::Result::Err(::core::option::Option::None) => continue,
                ::core::result::Result::Err(::core::option::Option::Some(#error)) => return #outcome.error(#error),
            };
            let #run = #private::body(&#transaction, #closure);
            let (#result, #conflict) = #outcome.search(#run(&mut #transaction).await);
            let #held = match #attempts.hold(&#transaction, #conflict, #outcome.hold(#result)) {
                ::core::result::Result::Ok(#held) => #held,
                ::core::result::Result::Err(#result) => return #result,
            };
            let #result = #attempts.finish(#transaction, #held, #outcome).await;
            if let ::core::option::Option::Some(#result) = #result {
                break #result;
            }
        }
    }
}

/// The body as what runs on a transaction. It is a closure, not a block, so that for a `tx` that
/// the body passes on, for instance to a spawned task, the compiler says that it "is a reference
/// that is only valid in the closure body".
fn closure(
    method: &Method<'_>,
    ret: &TokenStream,
    body: &Group,
    captures: &TokenStream,
) -> TokenStream {
    let tx = method.tx;
    let [outcome, result] = ["outcome", "result"].map(local);
    let (at_ret, _) = ends(ret);
    let mut never = result.clone();
    never.set_span(at_ret);
    let edge = quote_spanned! {at_ret=>
        if let ::core::option::Option::Some(#never) = #outcome.never() {
            return #never;
        }
    };
    let statements = body.stream();
    let block = located(quote!(#edge #statements), body);
    // `mut`, so that `&mut tx` compiles, as it does where a transaction begins by hand. Its span is
    // ours, so that the compiler does not say that it is unused; but then, the compiler does not
    // name the variable in its errors.
    let mutable = is_borrowed(body.stream(), tx).then(|| quote_spanned!(ours(tx.span())=> mut));
    quote!(#captures |#mutable #tx| #block)
}

/// Whether there may be a `&mut tx` in the body: there is one, or a macro that may write it.
fn is_borrowed(body: TokenStream, tx: &Ident) -> bool {
    const AS_THEY_ARE: [&str; 3] = ["join", "try_join", "select"];
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let is_tx = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == tx);
    let is_word =
        |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(found) if found == word);
    let is_punct = |token: &TokenTree, punct: char| matches!(token, TokenTree::Punct(found) if found.as_char() == punct);
    let written = tokens.windows(3).enumerate().any(|(i, window)| {
        is_punct(&window[0], '&')
            && is_word(&window[1], "mut")
            && is_tx(&window[2])
            && !tokens.get(i + 3).is_some_and(|next| is_punct(next, '.'))
    });
    written
        || tokens.iter().enumerate().any(|(i, token)| {
            let TokenTree::Group(group) = token else { return false };
            let by_macro = matches!(&tokens[..i], [.., name, bang]
                if is_punct(bang, '!') && matches!(name, TokenTree::Ident(name) if !AS_THEY_ARE.iter().any(|known| name == known)));
            by_macro && mentions(group.stream(), &tx.to_string()) || is_borrowed(group.stream(), tx)
        })
}

/// An `_argument` that the body does not use is not cloned, which would be a use: lints forbid
/// that.
fn may_be_used(argument: &Argument<'_>, body: &Group) -> bool {
    let name = argument.ident.to_string();
    !name.starts_with('_') || names(body.stream(), &name)
}

// Input:  mut order: Order
// Output: let mut order = RetryArgument::of_attempt(&mut order);
fn clone_of(argument: &Argument<'_>, method: &Method<'_>) -> TokenStream {
    let Argument { ident, is_mut, ty, cfgs } = argument;
    let (begin, end) = ends(ty);
    let private = private_at(method.krate, begin);
    let mut original = (*ident).clone();
    original.set_span(end.resolved_at(ident.span()));
    // The parameter's own `mut` is meant for the body, which gets the clone. The `&mut` here
    // prevents a warning that it is unused.
    let mutable = is_mut.then(|| quote!(mut));
    let borrowed = quote_spanned!(begin=> (&#mutable #original));
    let clone = quote_spanned!(begin=> #private::RetryArgument::of_attempt #borrowed);
    quote!(#(#cfgs)* let #mutable #ident = #clone;)
}

/// Underlines all of the return type if it is unfit.
fn vtable(ret: &TokenStream, private: &TokenStream) -> TokenStream {
    let (begin, end) = ends(ret);
    let open = quote_spanned!(begin=> <);
    let close = quote_spanned!(end=> >::VTABLE);
    quote!(#open #ret as #private::Outcome #close)
}

/// All of it is located at the last name in `EXPR`. If that cannot begin a transaction, the
/// compiler reports it for the argument and for the `.await`; the two are one error only if they
/// are at one place.
fn begin(method: &Method<'_>, given: Option<TokenStream>) -> TokenStream {
    let Source { expr, is_lent, .. } = method.source;
    let names =
        expr.to_token_stream().into_iter().filter(|token| matches!(token, TokenTree::Ident(_)));
    let at = ours(names.last().map_or_else(|| method.tx.span(), |name| name.span()));
    let private = private_at(method.krate, at);
    let has_options = method.options.isolation.is_some() || method.options.name.is_some();
    match given.or_else(|| has_options.then(|| options(method, &private))) {
        Some(options) => {
            quote_spanned!(at=> #private::BeginTransaction::begin_transaction(&(#expr), #options).await)
        }
        // A method call borrows it as its type needs: an outer transaction mutably.
        None if is_lent => quote_spanned! {at=>
            #private::BeginOutbox::begin_outbox({
                use #private::Lend as _;
                (#expr).__outbox_lend()
            })
            .await
        },
        None => quote_spanned!(at=> #private::BeginOutbox::begin_outbox(&(#expr)).await),
    }
}

fn options(method: &Method<'_>, private: &TokenStream) -> TokenStream {
    let isolation = method.options.isolation.iter().map(|level| {
        let level = Ident::new(level.0, Span::mixed_site());
        quote!(.isolation(#private::Isolation::#level))
    });
    let name = method.options.name.iter().map(|name| quote!(.name(#name)));
    quote!(#private::TxOptions::new() #(#isolation)* #(#name)*)
}

/// A replacement for a method that cannot be expanded, so that one mistake is one error: the item
/// as it was, with the `tx` that its body uses and the `async` that its body needs.
pub(super) fn stub(found: &[syn::Error], args: &Args, function: &Function) -> TokenStream {
    let Some(body) = &function.body else {
        let mut output = to_tokens(found);
        output.extend(function.with_body(None));
        return output;
    };
    // Those who gave no arguments will most likely call it `tx`.
    let tx = args.tx.clone().unwrap_or_else(|| Ident::new("tx", Span::call_site()));
    let is_parameter = args.tx.is_none() && has_parameter(function, &tx);
    let (outside, body) = match found.split_last() {
        Some((last, others)) if !is_parameter && mentions(body.stream(), &tx.to_string()) => {
            (others, poisoned(body, &tx, last))
        }
        _ => (found, TokenTree::Group(body.clone())),
    };
    let mut output = to_tokens(outside);
    output.extend(
        if function.sig.asyncness.is_none() && mentions(TokenStream::from(body.clone()), "await") {
            function.with_async_body(body)
        } else {
            function.with_body(Some(body))
        },
    );
    output
}

/// The error as an expression: the compiler reports nothing further about the `tx` that it defines.
fn poisoned(body: &Group, tx: &Ident, error: &syn::Error) -> TokenTree {
    let error = error.to_compile_error();
    let (attributes, statements) = inner_attributes(body);
    let statements = statements.stream();
    let poisoned = quote! {
        #attributes
        #[allow(unused_variables)]
        let #tx = { #error };
        #statements
    };
    group(Delimiter::Brace, poisoned, body)
}

// Input:  { #![allow(unused)] BODY }
// Output: (`#![allow(unused)]`, `{ BODY }`)
//
// Inner attributes of the function's braces are not allowed in other braces.
fn inner_attributes(block: &Group) -> (TokenStream, Group) {
    let tokens: Vec<TokenTree> = block.stream().into_iter().collect();
    let is_attribute = |tokens: &[TokenTree]| {
        matches!(tokens, [TokenTree::Punct(hash), TokenTree::Punct(bang), TokenTree::Group(list)]
            if hash.as_char() == '#' && bang.as_char() == '!' && list.delimiter() == Delimiter::Bracket)
    };
    let end = 3 * tokens.chunks(3).take_while(|tokens| is_attribute(tokens)).count();
    if end == 0 {
        // As it is: a new group has one place for both of its braces.
        return (TokenStream::new(), block.clone());
    }
    let mut statements = Group::new(Delimiter::Brace, tokens[end..].iter().cloned().collect());
    statements.set_span(block.span());
    (tokens[..end].iter().cloned().collect(), statements)
}

fn has_parameter(function: &Function, name: &Ident) -> bool {
    function.sig.inputs.iter().any(|input| {
        matches!(input, FnArg::Typed(typed) if matches!(&*typed.pat, Pat::Ident(pat) if pat.ident == *name))
    })
}

/// `tokens` in the user's own delimiters.
fn group(delimiter: Delimiter, tokens: TokenStream, like: &Group) -> TokenTree {
    let mut group = Group::new(delimiter, tokens);
    group.set_span(like.span());
    TokenTree::Group(group)
}

/// `tokens` in braces of ours at the place of the user's: lints do not take them for the user's.
fn located(tokens: TokenStream, like: &Group) -> Group {
    let mut group = Group::new(Delimiter::Brace, tokens);
    group.set_span(ours(like.span()));
    group
}

// Input:  Result<impl Iterator<Item = u8> + '_, Error>
// Output: Result<_, Error>
//
// `impl Trait` cannot be written in a body. Each is replaced up to the end of its bounds: a `,` or
// `>` that belongs to the list around it.
fn inferable(ty: TokenStream) -> TokenStream {
    let mut output = TokenStream::new();
    let mut tokens = ty.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "impl" => {
                output.extend([TokenTree::Ident(Ident::new("_", ident.span()))]);
                let mut depth = 0_usize;
                let mut before = ' ';
                while let Some(token) = tokens.peek() {
                    let punct =
                        if let TokenTree::Punct(punct) = token { punct.as_char() } else { ' ' };
                    match punct {
                        '<' => depth += 1,
                        // Of `Fn() -> T`.
                        '>' if before == '-' => {}
                        '>' | ',' if depth == 0 => break,
                        '>' => depth -= 1,
                        _ => {}
                    }
                    before = punct;
                    tokens.next();
                }
            }
            TokenTree::Group(inner) => {
                output.extend([group(inner.delimiter(), inferable(inner.stream()), &inner)]);
            }
            other => output.extend([other]),
        }
    }
    output
}
