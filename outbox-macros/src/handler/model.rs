//! The handler as it will be: borrowed from the syntax, and valid by construction.

use proc_macro2::Group;
use syn::{
    GenericArgument, GenericParam, Path, PathArguments, ReturnType, Safety, Signature, Type,
};

use super::args::Args;
use super::options::Options;
use super::parameters::{Parameters, SIGNATURE};
use super::place::Place;
use crate::errors::Errors;
use crate::function::{Function, peeled};
use crate::symbol::EVENT_HANDLER;

pub(super) struct Handler<'a> {
    pub(super) function: &'a Function,
    pub(super) body: &'a Group,
    pub(super) place: Place<'a>,
    pub(super) parameters: Parameters<'a>,
    /// `None` if it is not a `Result`, which has been reported.
    pub(super) output: Option<Output<'a>>,
    pub(super) options: Options,
    pub(super) krate: Option<&'a Path>,
}

/// The type that the function returns.
pub(super) enum Output<'a> {
    /// `Result<(), E>`, of which this is the `E`.
    Error(&'a Type),
    /// Another name of such a type.
    Alias(&'a Type),
}

impl<'a> Handler<'a> {
    /// `None` if there is nothing to expand; every reason is then in `errors`. A function that
    /// cannot be called still expands to a handler of its name.
    pub(super) fn new(errors: &Errors, args: &'a Args, function: &'a Function) -> Option<Self> {
        let sig = &function.sig;
        let options = Options::new(errors, args);
        let place = Place::new(errors, function);
        let plain = check_attributes(errors, function) & check_qualifiers(errors, sig);
        let body = body(errors, function);
        let output = output(errors, sig);
        let parameters = Parameters::new(errors, sig);
        Some(Self {
            function,
            body: body.filter(|_| plain)?,
            place: place?,
            parameters: parameters?,
            output,
            options,
            krate: args.krate.get(),
        })
    }

    /// The types and constants that the function is generic over. The caller of the handler's own
    /// function says what they are; lifetimes are those of each call.
    pub(super) fn parameters_of_type(&self) -> impl Iterator<Item = &'a GenericParam> {
        let all = &self.function.sig.generics.params;
        all.iter().filter(|parameter| !matches!(parameter, GenericParam::Lifetime(_)))
    }

    /// Whether a consumer can call the function; if not, that has been reported.
    pub(super) fn is_callable(&self) -> bool {
        let tx = &self.parameters.tx;
        self.output.is_some() && tx.database.is_some() && tx.is_lent
    }
}

fn body<'a>(errors: &Errors, function: &'a Function) -> Option<&'a Group> {
    let body = function.body.as_ref();
    if body.is_none() {
        let name = &function.sig.ident;
        errors.at(name.span(), format!("`{name}` has no body\nhelp: write it here: `{{ … }}`"));
    }
    body
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

fn output<'a>(errors: &Errors, sig: &'a Signature) -> Option<Output<'a>> {
    const HELP: &str = "help: return `Result<(), E>`: `Ok` commits, `Err` rolls back, and the event is tried again";
    let ty = match &sig.output {
        ReturnType::Type(_, ty) => ty,
        ReturnType::Default => {
            errors.at(
                sig.ident.span(),
                format!(
                    "`{}` returns nothing, so it cannot say whether the event is handled\n{HELP}",
                    sig.ident
                ),
            );
            return None;
        }
    };
    let written = peeled(ty);
    if matches!(written, Type::ImplTrait(_)) {
        // It returns a future. That it is not async has been reported.
        if sig.asyncness.is_some() {
            errors.over(
                ty,
                format!("whether the event is handled cannot be told from an `impl` type\n{HELP}"),
            );
        }
        return None;
    }
    if is_no_result(written) {
        errors.over(
            ty,
            format!("whether the event is handled cannot be told from this type\n{HELP}"),
        );
        return None;
    }
    if let Some(value) = value_of_result(written) {
        errors.over(value, "what a handler returns in `Ok` is not used\nhelp: write `()` here");
        return None;
    }
    Some(error_type(written).map_or(Output::Alias(ty), Output::Error))
}

/// Whether it is no `Result`, whatever is in scope.
fn is_no_result(ty: &Type) -> bool {
    const WORDS: [&str; 20] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16",
        "u32", "u64", "u128", "usize", "Option", "String", "Vec", "Uuid",
    ];
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| WORDS.iter().any(|word| last.ident == word)),
        Type::Tuple(_) | Type::Reference(_) | Type::Array(_) | Type::Slice(_) => true,
        _ => false,
    }
}

/// The `T` of a `Result<T, …>`, if that is not `()`.
fn value_of_result(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(list) = &last.arguments else { return None };
    match list.args.first()? {
        GenericArgument::Type(Type::Tuple(unit)) if unit.elems.is_empty() => None,
        // The only argument of a user's own `Result` may be the error.
        GenericArgument::Type(value) if list.args.len() == 2 || is_no_result(value) => Some(value),
        _ => None,
    }
}

/// The `E` of a `Result<(), E>`, for the documentation of the handler. `None` if only the compiler
/// knows it: a module's own `Result` may mean anything.
fn error_type(ty: &Type) -> Option<&Type> {
    const CRATES: [&str; 4] = ["std", "core", "anyhow", "eyre"];
    let Type::Path(path) = ty else { return None };
    let segments = &path.path.segments;
    let last = segments.last().filter(|last| last.ident == "Result")?;
    let known = CRATES.iter().any(|krate| segments[0].ident == krate);
    let PathArguments::AngleBracketed(list) = &last.arguments else { return None };
    let mut list = list.args.iter();
    match (list.next(), list.next(), list.next()) {
        (
            Some(GenericArgument::Type(Type::Tuple(unit))),
            Some(GenericArgument::Type(error)),
            None,
        ) if unit.elems.is_empty() && (segments.len() == 1 || known) => Some(error),
        _ => None,
    }
}
