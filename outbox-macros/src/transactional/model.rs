//! The method as it will be: borrowed from the syntax, and valid by construction.

use proc_macro2::{Group, Ident, TokenStream};
use syn::{Path, ReturnType, Signature};

use super::args::Args;
use super::ending::{Ending, ending};
use super::options::Options;
use super::output;
use super::source::Source;
use crate::errors::Errors;
use crate::function::Function;
use crate::symbol::TRANSACTIONAL_OUTBOX;
use crate::tokens::mentions;

pub(super) struct Method<'a> {
    pub(super) function: &'a Function,
    pub(super) tx: &'a Ident,
    pub(super) source: Source<'a>,
    /// What the method's future gives.
    pub(super) output: TokenStream,
    pub(super) body: Body<'a>,
    pub(super) options: Options<'a>,
    pub(super) krate: Option<&'a Path>,
}

pub(super) enum Body<'a> {
    /// The braces of an `async fn`.
    Async(&'a Group),
    /// The braces of a function that returns a future.
    Future(&'a Group, Ending),
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
        let output = body.as_ref().and_then(|body| output::of(errors, sig, body));
        let source = args.source.as_ref().map(|expr| Source::new(expr, function));
        let options = match &source {
            Some(source) if source.is_savepoint => Options::of_savepoint(errors, args),
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
    let ending = ending(braces.stream());
    if let (Some(ending), ReturnType::Type(..)) = (ending, &sig.output) {
        return Some(Body::Future(braces, ending));
    }
    if output::is_future(sig) {
        errors.at(
            sig.ident.span(),
            format!(
                "the body of `{}` does not end in `Box::pin(async move {{ … }})`, so there is no place to begin and commit\n\
                 help: write an `async fn`, or end the body so",
                sig.ident
            ),
        );
        return None;
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
