//! The handler as it will be: borrowed from the syntax, and valid by construction.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    FnArg, GenericArgument, Path, PathArguments, PathSegment, ReturnType, Safety, Signature, Type,
};

use super::args::Args;
use super::options::Options;
use crate::errors::Errors;
use crate::function::{Function, peeled};
use crate::symbol::EVENT_HANDLER;

pub(super) struct Handler<'a> {
    pub(super) function: &'a Function,
    pub(super) body: &'a Group,
    pub(super) tx: Tx<'a>,
    pub(super) event: &'a Type,
    pub(super) event_by_reference: bool,
    /// In the order of the parameters behind the event.
    pub(super) rest: Vec<Extra<'a>>,
    /// `None` if it is not a `Result`, which has been reported.
    pub(super) output: Option<&'a Type>,
    pub(super) options: Options,
    pub(super) krate: Option<&'a Path>,
}

/// The transaction, `&mut OutboxTx<'_, DB>`.
pub(super) struct Tx<'a> {
    pub(super) ty: &'a Type,
    /// Its `DB`. `None` if it is not named, which has been reported.
    pub(super) database: Option<&'a Type>,
    /// Whether a consumer can call the function with its transaction; if not, that has been
    /// reported.
    pub(super) is_lent: bool,
}

/// A parameter behind the event.
#[derive(Clone, Copy)]
pub(super) enum Extra<'a> {
    Context,
    /// What else the handler needs.
    State(&'a Type),
}

const SIGNATURE: &str = "help: write `async fn name(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated) -> Result<(), E>`,\n\
                         \x20     and behind these `context: &EventContext` and a state `service: &Service`, if you need them";

impl<'a> Handler<'a> {
    /// `None` if there is nothing to expand; every reason is then in `errors`. A function that
    /// cannot be called still expands to a handler of its name.
    pub(super) fn new(errors: &Errors, args: &'a Args, function: &'a Function) -> Option<Self> {
        let sig = &function.sig;
        let options = Options::new(errors, args);
        check_receiver(errors, sig)?;
        let plain = check_attributes(errors, function)
            & check_qualifiers(errors, sig)
            & check_generics(errors, sig);
        let body = body(errors, function);
        let output = output(errors, sig);
        let mut types = types(sig);
        let Some(tx) = types.next() else {
            errors.at(
                sig.ident.span(),
                format!("a handler takes its transaction and an event\n{SIGNATURE}"),
            );
            return None;
        };
        let tx = self::tx(errors, tx)?;
        let Some(event) = types.next() else {
            errors.at(
                sig.ident.span(),
                format!("a handler takes an event, behind its transaction\n{SIGNATURE}"),
            );
            return None;
        };
        let event_and_how = self::event(errors, event);
        let rest = rest(errors, types);
        let (event, event_by_reference) = event_and_how?;
        Some(Self {
            function,
            body: body.filter(|_| plain)?,
            tx,
            event,
            event_by_reference,
            rest: rest?,
            output,
            options,
            krate: args.krate.get(),
        })
    }
}

/// `None` if it is a method, which is reported.
fn check_receiver(errors: &Errors, sig: &Signature) -> Option<()> {
    let Some(receiver) = sig.receiver() else { return Some(()) };
    errors.over(
        receiver,
        "a method cannot be a handler\n\
         help: make it a function, outside of the `impl`, and take what it needs behind the event: `service: &Service`",
    );
    None
}

fn body<'a>(errors: &Errors, function: &'a Function) -> Option<&'a Group> {
    let body = function.body.as_ref();
    if body.is_none() {
        let name = &function.sig.ident;
        errors.at(name.span(), format!("`{name}` has no body\nhelp: write it here: `{{ … }}`"));
    }
    body
}

/// The types of the parameters.
fn types(sig: &Signature) -> impl Iterator<Item = &Type> {
    sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(peeled(&typed.ty)),
        FnArg::Receiver(_) => None,
    })
}

fn check_attributes(errors: &Errors, function: &Function) -> bool {
    let twice = function
        .attrs
        .iter()
        .find(|attr| attr.path().segments.last().is_some_and(|last| last.ident == EVENT_HANDLER));
    if let Some(twice) = twice {
        errors.over(twice, "`#[event_handler]` is here twice\nhelp: remove one of the two");
    }
    twice.is_none()
}

fn check_qualifiers(errors: &Errors, sig: &Signature) -> bool {
    if let Some(constness) = &sig.constness {
        errors.at(constness.span, "a handler cannot be `const`\nhelp: remove it");
    } else if !matches!(sig.safety, Safety::Default) {
        errors.over(
            &sig.safety,
            "a consumer calls the handler, and knows nothing of what makes that safe\nhelp: remove `unsafe`",
        );
    } else if let Some(abi) = &sig.abi {
        errors.over(abi, "an `extern` function cannot be a handler\nhelp: call it from one");
    } else if let Some(variadic) = &sig.variadic {
        errors.over(variadic, format!("a handler has a fixed number of arguments\n{SIGNATURE}"));
    } else {
        if sig.asyncness.is_none() {
            errors.at(
                sig.fn_token.span,
                format!("a handler is an async function\nhelp: write `async fn {}`", sig.ident),
            );
        }
        return true;
    }
    false
}

fn check_generics(errors: &Errors, sig: &Signature) -> bool {
    const MESSAGE: &str = "a handler cannot be generic: it handles one event on one database\nhelp: name them, and write `'_` for lifetimes";
    if let Some(parameter) = sig.generics.params.first() {
        errors.over(parameter, MESSAGE);
        return false;
    }
    let opaque = types(sig).find(|ty| {
        let ty = if let Type::Reference(reference) = ty { peeled(&reference.elem) } else { ty };
        matches!(ty, Type::ImplTrait(_))
    });
    if let Some(opaque) = opaque {
        errors.over(opaque, MESSAGE);
    }
    opaque.is_none()
}

fn output<'a>(errors: &Errors, sig: &'a Signature) -> Option<&'a Type> {
    const HELP: &str = "help: return `Result<(), E>`: `Ok` commits, `Err` rolls back, and the event is tried again";
    match &sig.output {
        ReturnType::Type(_, ty) if !matches!(peeled(ty), Type::ImplTrait(_)) => return Some(ty),
        // It returns a future. That it is not async has been reported.
        ReturnType::Type(..) if sig.asyncness.is_none() => {}
        ReturnType::Type(_, ty) => {
            errors.over(
                ty,
                format!("whether the event is handled cannot be told from an `impl` type\n{HELP}"),
            );
        }
        ReturnType::Default => errors.at(
            sig.ident.span(),
            format!(
                "`{}` returns nothing, so it cannot say whether the event is handled\n{HELP}",
                sig.ident
            ),
        ),
    }
    None
}

/// `None` if it is not a transaction.
fn tx<'a>(errors: &Errors, ty: &'a Type) -> Option<Tx<'a>> {
    const HELP: &str = "help: write `tx: &mut OutboxTx<'_, Postgres>`, with the database you use";
    let (inner, is_lent) = match ty {
        Type::Reference(reference) => (peeled(&reference.elem), reference.mutability.is_some()),
        other => (other, false),
    };
    let segment = if let Type::Path(path) = inner { path.path.segments.last() } else { None };
    let tx = segment.filter(|segment| is_lent || segment.ident == "OutboxTx").map(|segment| Tx {
        ty,
        database: first_type(segment),
        is_lent,
    });
    let problem = match &tx {
        None => "the first argument of a handler is its transaction",
        Some(Tx { is_lent: false, .. }) => "the transaction is lent to the handler, by `&mut`",
        Some(Tx { database: None, .. }) => "the transaction does not name its database",
        Some(_) => return tx,
    };
    errors.over(ty, format!("{problem}\n{HELP}"));
    tx
}

fn first_type(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return None };
    list.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// The type of the event, and whether the handler has it by reference.
fn event<'a>(errors: &Errors, ty: &'a Type) -> Option<(&'a Type, bool)> {
    let (event, by_reference) = match ty {
        Type::Reference(reference) if reference.mutability.is_some() => {
            errors.over(
                ty,
                "nobody would see what a handler changes in its event\nhelp: take it by value, or by `&`",
            );
            return None;
        }
        Type::Reference(reference) => (peeled(&reference.elem), true),
        owned => (owned, false),
    };
    if borrows(event) {
        errors.over(
            event,
            "the event is read for the handler, and there is nothing it could borrow from\n\
             help: make an event of owned fields, such as `String`, for consumers",
        );
        return None;
    }
    Some((event, by_reference))
}

/// `None` if one of them is not such an argument.
fn rest<'a>(errors: &Errors, types: impl Iterator<Item = &'a Type>) -> Option<Vec<Extra<'a>>> {
    let mut rest = Vec::new();
    let mut valid = true;
    for ty in types {
        match extra(ty, &rest) {
            Ok(extra) => rest.push(extra),
            Err(message) => {
                errors.over(ty, message);
                valid = false;
            }
        }
    }
    valid.then_some(rest)
}

fn extra<'a>(ty: &'a Type, before: &[Extra<'_>]) -> Result<Extra<'a>, &'static str> {
    let Type::Reference(reference) = ty else {
        return Err("what a handler needs besides the event, it borrows\n\
                    help: write `context: &EventContext` for what came with the event,\n\
                    \x20     or `service: &Service` for a state, which the handler has: `consumer.handler(name(service))`");
    };
    if reference.mutability.is_some() {
        return Err(
            "a handler runs for several events at the same time, which share this\nhelp: take it by `&`",
        );
    }
    let inner = peeled(&reference.elem);
    if is_context(inner) {
        return match before.iter().any(|extra| matches!(extra, Extra::Context)) {
            true => Err("the context is an argument already\nhelp: remove one of the two"),
            false => Ok(Extra::Context),
        };
    }
    if before.iter().any(|extra| matches!(extra, Extra::State(_))) {
        return Err("a handler has one state\nhelp: make one struct of the two, and take that");
    }
    if is_unsized(inner) {
        return Err(
            "the handler has its state, whose type must have a size\nhelp: take `&Arc<…>` of it",
        );
    }
    if borrows(inner) {
        return Err(
            "the handler has its state for as long as it runs, so that cannot borrow\nhelp: take `&Arc<…>` of what is shared",
        );
    }
    Ok(Extra::State(inner))
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "EventContext"))
}

fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::TraitObject(_) | Type::Slice(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Whether it has an elided lifetime. What is in parentheses may be a `Fn(&T)`.
fn borrows(ty: &Type) -> bool {
    fn any(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == "_",
            TokenTree::Group(group) => group.delimiter() == Delimiter::None && any(group.stream()),
            _ => false,
        })
    }
    matches!(ty, Type::Reference(reference) if reference.lifetime.is_none())
        || any(ty.to_token_stream())
}
