//! The tokens of the method.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{FnArg, Pat};

use super::args::Args;
use super::function::Function;
use super::model::{Body, Method, Source};
use crate::errors::to_tokens;
use crate::tokens::{ends, local, ours, private, private_at};

pub(super) fn method(method: &Method<'_>) -> TokenStream {
    let body = match &method.body {
        Body::Async(block) => group(Delimiter::Brace, transaction(method, block), block),
        Body::Future { braces, before, call, head, block, after } => {
            let mut future = head.clone();
            future.extend([group(Delimiter::Brace, transaction(method, block), block)]);
            future.extend(after.clone());
            let mut body = before.clone();
            match call {
                Some(call) => body.extend([group(call.delimiter(), future, call)]),
                None => body.extend(future),
            }
            group(Delimiter::Brace, body, braces)
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
//         let mut transaction = match begin(&(self.outbox)).await {
//             Ok(transaction) => transaction,
//             Err(error) => return outcome.error(error),
//         };
//         let borrowed = &mut transaction;
//         let result = async move {
//             if let Some(result) = None::<Ret> { return result; }    // for `?` to infer from
//             let tx = borrowed;
//             let result: Ret = { BODY };
//             result
//         }
//         .await;
//         finish(transaction, result, outcome).await
//     }
fn transaction(method: &Method<'_>, body: &Group) -> TokenStream {
    let private = private(method.krate);
    let [outcome, transaction, error, borrowed, result] =
        ["outcome", "transaction", "error", "borrowed", "result"].map(local);
    let tx = method.tx;
    let at_tx = ours(tx.span());
    let ret = inferable(method.output.to_token_stream());
    let vtable = vtable(&ret, &private);
    let begin = begin(method);
    let at_body = ours(body.span());
    let body = group(Delimiter::Brace, body.stream(), &located(body));
    // An error about the borrow (the transaction does not outlive a spawned task) is shown at the user's `tx`.
    let transaction = at(at_tx, &transaction);
    let borrow = quote_spanned!(at_tx=> let #borrowed = &mut #transaction;);
    let (at_ret, _) = ends(&ret);
    let never = at(at_ret, &result);
    let edge = quote_spanned! {at_ret=>
        if let ::core::option::Option::Some(#never) = ::core::option::Option::None::<#ret> {
            return #never;
        }
    };
    let let_result = quote_spanned!(at_body=> let #result: #ret = #body;);
    quote! {
        let #outcome = #vtable;
        let mut #transaction = match #begin {
            ::core::result::Result::Ok(#transaction) => #transaction,
            ::core::result::Result::Err(#error) => return #outcome.error(#error),
        };
        #borrow
        let #result = async move {
            #edge
            let #tx = #borrowed;
            #let_result
            #[allow(unreachable_code)]
            #result
        }
        .await;
        #private::finish(#transaction, #result, #outcome).await
    }
}

fn at(span: Span, ident: &Ident) -> Ident {
    Ident::new(&ident.to_string(), span)
}

/// Underlines all of the return type if it is unfit.
fn vtable(ret: &TokenStream, private: &TokenStream) -> TokenStream {
    let (begin, end) = ends(ret);
    let open = quote_spanned!(begin=> <);
    let close = quote_spanned!(end=> >::VTABLE);
    quote!(#open #ret as #private::Outcome #close)
}

/// All of it is located at the last name in `EXPR`: what cannot begin a transaction is reported for the argument and
/// for the `.await`, and is one error only where the two are in one place.
fn begin(method: &Method<'_>) -> TokenStream {
    let (Source::Shared(expr) | Source::Exclusive(expr) | Source::Reborrow(expr)) = &method.source;
    let names = expr.to_token_stream().into_iter().filter(|token| matches!(token, TokenTree::Ident(_)));
    let at = ours(names.last().map_or_else(|| method.tx.span(), |name| name.span()));
    let argument = match &method.source {
        Source::Shared(_) => quote_spanned!(at=> &(#expr)),
        Source::Exclusive(_) => expr.to_token_stream(),
        Source::Reborrow(_) => quote_spanned!(at=> &mut *#expr),
    };
    let private = private_at(method.krate, at);
    quote_spanned!(at=> #private::begin(#argument).await)
}

/// What stands in for the method when it cannot be expanded, so that one mistake is one error: the item as it was,
/// but for a `tx` which its body uses and an `async` which its body needs.
pub(super) fn stub(found: &[syn::Error], args: &Args, function: &Function) -> TokenStream {
    let Some(body) = &function.body else {
        let mut output = to_tokens(found);
        output.extend(function.with_body(None));
        return output;
    };
    // `tx` is what it will be called by those who gave no arguments.
    let tx = args.tx.clone().unwrap_or_else(|| Ident::new("tx", Span::call_site()));
    let is_parameter = args.tx.is_none() && has_parameter(function, &tx);
    let (outside, body) = match found.split_last() {
        Some((last, others)) if !is_parameter && mentions(body.stream(), &tx) => {
            (others, poisoned(body, &tx, last))
        }
        _ => (found, TokenTree::Group(body.clone())),
    };
    let mut output = to_tokens(outside);
    output.extend(
        if function.sig.asyncness.is_none()
            && mentions(TokenStream::from(body.clone()), &Ident::new("await", Span::call_site()))
        {
            function.with_async_body(body)
        } else {
            function.with_body(Some(body))
        },
    );
    output
}

/// The error as an expression: the compiler has no further complaints about the `tx` it gives.
fn poisoned(body: &Group, tx: &Ident, error: &syn::Error) -> TokenTree {
    let error = error.to_compile_error();
    let statements = body.stream();
    let poisoned = quote! {
        #[allow(unused_variables)]
        let #tx = { #error };
        #statements
    };
    group(Delimiter::Brace, poisoned, body)
}

fn has_parameter(function: &Function, name: &Ident) -> bool {
    function.sig.inputs.iter().any(|input| {
        matches!(input, FnArg::Typed(typed) if matches!(&*typed.pat, Pat::Ident(pat) if pat.ident == *name))
    })
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

/// `tokens` in the user's own delimiters.
fn group(delimiter: Delimiter, tokens: TokenStream, like: &Group) -> TokenTree {
    let mut group = Group::new(delimiter, tokens);
    group.set_span(like.span());
    TokenTree::Group(group)
}

/// The same group as one of ours: to a lint, its braces are not the user's.
fn located(group: &Group) -> Group {
    let mut located = group.clone();
    located.set_span(ours(group.span()));
    located
}

// Input:  Result<impl Iterator<Item = u8> + '_, Error>
// Output: Result<_, Error>
//
// `impl Trait` cannot be written in a body. Each is replaced up to the end of its bounds: a `,` or `>` that
// belongs to the list around it.
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
                    let punct = if let TokenTree::Punct(punct) = token { punct.as_char() } else { ' ' };
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
