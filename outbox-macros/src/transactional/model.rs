//! The method as it will be: borrowed from the syntax, and valid by construction.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use syn::{
    Expr, FnArg, GenericArgument, Pat, Path, PathArguments, PathSegment, ReturnType, Signature,
    Type, TypeParamBound,
};

use super::args::Args;
use super::options::Options;
use crate::errors::Errors;
use crate::function::{Function, peeled};
use crate::symbol::TRANSACTIONAL_OUTBOX;
use crate::tokens::mentions;

pub(super) struct Method<'a> {
    pub(super) function: &'a Function,
    pub(super) tx: &'a Ident,
    pub(super) source: Source<'a>,
    /// What the method's future gives.
    pub(super) output: &'a Type,
    pub(super) body: Body<'a>,
    pub(super) options: Options<'a>,
    pub(super) krate: Option<&'a Path>,
}

/// Where the transaction begins.
pub(super) enum Source<'a> {
    /// A handle or a pool: `&(EXPR)`.
    Shared(&'a Expr),
    /// `EXPR` is `&mut …` itself.
    Exclusive(&'a Expr),
    /// A parameter of a type `&mut …`, an outer transaction: `&mut *EXPR`, a savepoint.
    Reborrow(&'a Expr),
}

pub(super) enum Body<'a> {
    /// The braces of an `async fn`.
    Async(&'a Group),
    /// `{ before (async move { … } after) }`: a function that returns a boxed future, as
    /// `#[async_trait]` writes it. Or `{ before async move { … } }`.
    Future {
        braces: &'a Group,
        before: TokenStream,
        call: Option<Group>,
        head: TokenStream,
        block: Group,
        after: TokenStream,
    },
}

impl<'a> Method<'a> {
    /// `None` if there is nothing to expand; every reason is then in `errors`.
    pub(super) fn new(errors: &Errors, args: &'a Args, function: &'a Function) -> Option<Self> {
        let sig = &function.sig;
        let twice = function.attrs.iter().find(|attr| {
            attr.path().segments.last().is_some_and(|last| last.ident == TRANSACTIONAL_OUTBOX)
        });
        if let Some(twice) = twice {
            errors.over(
                twice,
                "`#[transactional_outbox]` is here twice, which would begin two transactions\nhelp: remove one of the two",
            );
        }
        let plain = check_qualifiers(errors, sig);
        let body = if plain { body(errors, function) } else { None };
        let output = match &body {
            Some(Body::Future { .. }) => future_output(sig),
            Some(Body::Async(_)) => async_output(errors, sig),
            None => None,
        };
        let source = args.source.as_ref().map(|expr| source(expr, sig));
        let options = match source {
            Some(Source::Exclusive(_) | Source::Reborrow(_)) => Options::of_savepoint(errors, args),
            _ => Options::new(errors, args, sig),
        };
        if twice.is_some() {
            return None;
        }
        Some(Self {
            function,
            tx: args.tx.as_ref()?,
            source: source?,
            output: output?,
            body: body?,
            options,
            krate: args.krate.get(),
        })
    }
}

fn check_qualifiers(errors: &Errors, sig: &Signature) -> bool {
    if let Some(constness) = &sig.constness {
        errors.at(constness.span, "a `const fn` cannot begin a transaction\nhelp: remove `const`");
    } else if let Some(abi) = &sig.abi {
        errors
            .over(abi, "an `extern` function cannot be async\nhelp: call a Rust function from it");
    } else if let Some(variadic) = &sig.variadic {
        errors.over(variadic, "a variadic function cannot be async\nhelp: name the parameters");
    } else {
        return true;
    }
    false
}

fn source<'a>(expr: &'a Expr, sig: &Signature) -> Source<'a> {
    let mut plain = expr;
    while let Expr::Group(group) = plain {
        plain = &group.expr;
    }
    match plain {
        Expr::Reference(reference) if reference.mutability.is_some() => Source::Exclusive(expr),
        Expr::Path(path)
            if path.path.get_ident().is_some_and(|ident| is_exclusive_parameter(ident, sig)) =>
        {
            Source::Reborrow(expr)
        }
        _ => Source::Shared(expr),
    }
}

fn is_exclusive_parameter(ident: &Ident, sig: &Signature) -> bool {
    sig.inputs.iter().any(|input| match input {
        FnArg::Typed(typed) => match (&*typed.pat, peeled(&typed.ty)) {
            (Pat::Ident(pat), Type::Reference(reference)) => {
                pat.ident == *ident && reference.mutability.is_some()
            }
            _ => false,
        },
        FnArg::Receiver(_) => false,
    })
}

fn body<'a>(errors: &Errors, function: &'a Function) -> Option<Body<'a>> {
    let sig = &function.sig;
    let Some(braces) = &function.body else {
        errors.at(
            sig.ident.span(),
            format!(
                "`{}` has no body to run in a transaction\nhelp: put the attribute on the implementation",
                sig.ident
            ),
        );
        return None;
    };
    if sig.asyncness.is_some() {
        return Some(Body::Async(braces));
    }
    if future_output(sig).is_some() {
        let body = boxed_future(braces);
        if body.is_none() {
            errors.at(
                sig.ident.span(),
                format!(
                    "the body of `{}` does not end in `Box::pin(async move {{ … }})`, so there is no place to begin and commit\n\
                     help: write an `async fn`, or end the body so",
                    sig.ident
                ),
            );
        }
        return body;
    }
    // What `#[tokio::main]` and similar attributes leave.
    let help = if mentions(braces.stream(), "block_on") {
        "put this attribute above the one that made the function a blocking one".to_owned()
    } else {
        format!("write `async fn {}`", sig.ident)
    };
    errors.at(sig.fn_token.span, format!("a transaction needs an async function\nhelp: {help}"));
    None
}

fn async_output<'a>(errors: &Errors, sig: &'a Signature) -> Option<&'a Type> {
    const HELP: &str = "help: return `Result<_, E>`, with an `E` that implements `From<OutboxError>`: `Ok` commits, `Err` rolls back";
    match &sig.output {
        ReturnType::Default => {
            errors.at(
                sig.ident.span(),
                format!(
                    "`{}` returns nothing, so it cannot say whether to commit\n{HELP}",
                    sig.ident
                ),
            );
            None
        }
        ReturnType::Type(_, ty) if matches!(peeled(ty), Type::ImplTrait(_)) => {
            errors
                .over(ty, format!("whether to commit cannot be told from an `impl` type\n{HELP}"));
            None
        }
        ReturnType::Type(_, ty) => Some(ty),
    }
}

/// The `Ret` of `Pin<Box<dyn Future<Output = Ret> + …>>`, `BoxFuture<'_, Ret>` or `impl
/// Future<Output = Ret> + …`.
fn future_output(sig: &Signature) -> Option<&Type> {
    fn last(ty: &Type) -> Option<&PathSegment> {
        match peeled(ty) {
            Type::Path(path) => path.path.segments.last(),
            _ => None,
        }
    }
    fn argument(segment: &PathSegment) -> Option<&Type> {
        let PathArguments::AngleBracketed(list) = &segment.arguments else { return None };
        list.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
    }
    fn output<'a>(bounds: impl IntoIterator<Item = &'a TypeParamBound>) -> Option<&'a Type> {
        bounds.into_iter().find_map(|bound| {
            let TypeParamBound::Trait(bound) = bound else { return None };
            let future = bound.path.segments.last().filter(|last| last.ident == "Future")?;
            let PathArguments::AngleBracketed(list) = &future.arguments else { return None };
            list.args.iter().find_map(|argument| match argument {
                GenericArgument::AssocType(assoc) if assoc.ident == "Output" => Some(&assoc.ty),
                _ => None,
            })
        })
    }
    let ReturnType::Type(_, ty) = &sig.output else { return None };
    if let Type::ImplTrait(opaque) = peeled(ty) {
        return output(&opaque.bounds);
    }
    let outer = last(ty)?;
    if outer.ident == "BoxFuture" || outer.ident == "LocalBoxFuture" {
        return argument(outer);
    }
    let boxed = argument(outer)
        .filter(|_| outer.ident == "Pin")
        .and_then(last)
        .filter(|last| last.ident == "Box")?;
    match argument(boxed).map(peeled)? {
        Type::TraitObject(object) => output(&object.bounds),
        _ => None,
    }
}

// Input:  { BEFORE Box::pin(async move { BLOCK }) }
// Output: Future {
//             before: `BEFORE Box::pin`, call: `( … )`, head: `async move`, block: `{ BLOCK }`,
//             after: ``
//         }
fn boxed_future(braces: &Group) -> Option<Body<'_>> {
    let mut before: Vec<TokenTree> = braces.stream().into_iter().collect();
    let TokenTree::Group(last) = before.pop()? else { return None };
    let (call, mut inner) = match last.delimiter() {
        Delimiter::Brace => {
            let async_at = before.iter().rposition(|token| is_word(token, "async"))?;
            let mut inner = before.split_off(async_at);
            inner.push(TokenTree::Group(last));
            (None, inner)
        }
        Delimiter::Parenthesis => {
            before.last().filter(|token| is_word(token, "pin"))?;
            let inner = last.stream().into_iter().collect();
            (Some(last), inner)
        }
        _ => return None,
    };
    let block_at = inner.iter().position(
        |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
    )?;
    let after: Vec<TokenTree> = inner.split_off(block_at + 1);
    let Some(TokenTree::Group(block)) = inner.pop() else { return None };
    let is_async = match &*inner {
        [a] => is_word(a, "async"),
        [a, b] => is_word(a, "async") && is_word(b, "move"),
        _ => false,
    };
    let ends_there = match &*after {
        [] => true,
        [TokenTree::Punct(comma)] => comma.as_char() == ',',
        _ => false,
    };
    (is_async && ends_there).then(|| Body::Future {
        braces,
        before: before.into_iter().collect(),
        call,
        head: inner.into_iter().collect(),
        block,
        after: after.into_iter().collect(),
    })
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}
