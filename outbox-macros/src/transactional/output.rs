//! What the method's future gives.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{
    GenericArgument, PathArguments, PathSegment, ReturnType, Signature, Type, TypeParamBound,
    TypePath,
};

use super::model::Body;
use crate::errors::Errors;
use crate::function::peeled;
use crate::tokens::{ends, text};

/// `None` if it is nothing that a transaction can end by, which is reported.
pub(super) fn of(errors: &Errors, sig: &Signature, body: &Body<'_>) -> Option<TokenStream> {
    const HELP: &str = "help: return `Result<_, E>`, with an `E` that implements `From<OutboxError>`: `Ok` commits, `Err` rolls back";
    let ReturnType::Type(_, ty) = &sig.output else {
        errors.at(
            sig.ident.span(),
            format!("`{}` returns nothing, so it cannot say whether to commit\n{HELP}", sig.ident),
        );
        return None;
    };
    let output = match body {
        Body::Async(_) => Some(&**ty),
        Body::Future(..) => of_future(ty),
    };
    match output {
        Some(output) if matches!(peeled(output), Type::ImplTrait(_)) => {}
        Some(output) => return check_error(errors, output).then(|| output.to_token_stream()),
        // An alias, such as `Self::Future`.
        None if !matches!(peeled(ty), Type::ImplTrait(_)) => {
            let (begin, end) = ends(ty);
            let open = quote_spanned!(begin=> <);
            let close = quote_spanned!(end=> as ::core::future::Future>::Output);
            return Some(quote::quote!(#open #ty #close));
        }
        None => {}
    }
    errors.over(ty, format!("whether to commit cannot be told from an `impl` type\n{HELP}"));
    None
}

/// Whether the name of the return type says that it is a future.
pub(super) fn is_future(sig: &Signature) -> bool {
    let ReturnType::Type(_, ty) = &sig.output else { return false };
    let named = last(ty).is_some_and(|last| last.ident.to_string().contains("Fut"));
    named || of_future(ty).is_some()
}

/// Refuses an error type that can have no `From<OutboxError>`, since it is of another crate.
fn check_error(errors: &Errors, output: &Type) -> bool {
    let Type::Path(path) = peeled(output) else { return true };
    let Some(result) = path.path.segments.last().filter(|last| last.ident == "Result") else {
        return true;
    };
    let (at, help) = match (error_of(result), foreign(error_of(result))) {
        (Some(error), Some(help)) => (error.to_token_stream(), help),
        (None, _) if is_named(path, "sqlx", "Result") => {
            let value = argument(result).map_or_else(String::new, |ty| text(ty.to_token_stream()));
            let help =
                format!("return `Result<{value}, OutboxError>`: `?` makes one of a `sqlx::Error`");
            (path.to_token_stream(), help)
        }
        _ => return true,
    };
    errors.over(
        &at,
        format!(
            "the error of a transaction that cannot begin or commit is an `OutboxError`, which does not fit in `{}`\nhelp: {help}",
            text(at.clone())
        ),
    );
    false
}

/// What to return instead.
fn foreign(error: Option<&Type>) -> Option<String> {
    let own = |fields: &str| {
        format!(
            "return `OutboxError` or `anyhow::Error`, or a type of your own: `struct AppError({fields});`\n      \
             with `impl From<outbox::OutboxError> for AppError`"
        )
    };
    match peeled(error?) {
        Type::Tuple(tuple) => Some(own(&text(tuple.elems.to_token_stream()))),
        Type::Reference(_) => Some(own("String")),
        Type::Path(path) if is_named(path, "sqlx", "Error") => {
            Some("return `OutboxError`: `?` makes one of a `sqlx::Error`".to_owned())
        }
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let word = last.ident.to_string();
            let is_plain = matches!(last.arguments, PathArguments::None);
            let known = matches!(&*word, "String" | "StatusCode" | "bool" | "i32" | "u16" | "u32");
            (is_plain && known).then(|| own(&text(path.to_token_stream())))
        }
        _ => None,
    }
}

fn is_named(path: &TypePath, krate: &str, name: &str) -> bool {
    let mut segments = path.path.segments.iter().rev();
    let mut is = |word| segments.next().is_some_and(|segment: &PathSegment| segment.ident == word);
    is(name) && is(krate) && segments.next().is_none()
}

/// The `E` of `Result<T, E>`.
fn error_of(result: &PathSegment) -> Option<&Type> {
    types(result).nth(1)
}

fn argument(segment: &PathSegment) -> Option<&Type> {
    types(segment).next()
}

fn types(segment: &PathSegment) -> impl Iterator<Item = &Type> {
    let list = match &segment.arguments {
        PathArguments::AngleBracketed(list) => Some(&list.args),
        _ => None,
    };
    list.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn last(ty: &Type) -> Option<&PathSegment> {
    match peeled(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// The `Ret` of `Pin<Box<dyn Future<Output = Ret> + …>>`, `BoxFuture<'_, Ret>` or `impl
/// Future<Output = Ret> + …`.
fn of_future(ty: &Type) -> Option<&Type> {
    if let Type::ImplTrait(opaque) = peeled(ty) {
        return of_bounds(&opaque.bounds);
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
        Type::TraitObject(object) => of_bounds(&object.bounds),
        _ => None,
    }
}

fn of_bounds<'a>(bounds: impl IntoIterator<Item = &'a TypeParamBound>) -> Option<&'a Type> {
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
