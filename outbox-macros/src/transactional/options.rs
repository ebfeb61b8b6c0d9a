//! The options, judged: `isolation`, `name` and `retry`.

use proc_macro2::Ident;
use syn::{Attribute, FnArg, LitInt, LitStr, Pat, ReceiverKind, Signature, Type};

use super::args::Args;
use crate::errors::{self, Errors};
use crate::function::{is_exclusive, peeled};

/// All of them are valid, or absent.
#[derive(Default)]
pub(super) struct Options<'a> {
    pub(super) isolation: Option<Isolation>,
    pub(super) name: Option<&'a LitStr>,
    pub(super) retry: Option<Retry<'a>>,
}

/// A variant of the runtime's `Isolation`.
#[derive(Clone, Copy)]
pub(super) struct Isolation(pub(super) &'static str);

/// How the body runs again.
pub(super) struct Retry<'a> {
    pub(super) times: u32,
    /// What every attempt gets a clone of.
    pub(super) arguments: Vec<Argument<'a>>,
    /// Whether there is a `self` that cannot be copied for each attempt: what the body needs of it
    /// is borrowed.
    pub(super) borrows_self: bool,
}

/// A variable that the parameters bind.
pub(super) struct Argument<'a> {
    pub(super) ident: &'a Ident,
    pub(super) is_mut: bool,
    /// The type of the parameter it is in.
    pub(super) ty: &'a Type,
    /// The `#[cfg]`s of that parameter.
    pub(super) cfgs: Vec<&'a Attribute>,
}

const LEVELS: [(&str, &str); 3] = [
    ("serializable", "Serializable"),
    ("repeatable read", "RepeatableRead"),
    ("read committed", "ReadCommitted"),
];

/// The longest `application_name` of Postgres, in bytes.
const LONGEST_NAME: usize = 63;

impl<'a> Options<'a> {
    /// For a savepoint of an outer transaction, no option makes sense.
    pub(super) fn of_savepoint(errors: &Errors, args: &Args) -> Self {
        let key = args.retry.key().or(args.isolation.key()).or(args.name.key());
        if let Some(key) = key {
            let why = match &*key.to_string() {
                "retry" => {
                    "the database rolls back the whole transaction, and only that can run again"
                }
                "isolation" => "a savepoint has the isolation of its transaction",
                _ => "a savepoint is shown under the name of its transaction",
            };
            errors.at(
                key.span(),
                format!("this begins a savepoint, which takes no `{key}`: {why}\nhelp: put `{key}` where the transaction begins"),
            );
        }
        Self::default()
    }

    pub(super) fn new(errors: &Errors, args: &'a Args, sig: &'a Signature) -> Self {
        Self {
            isolation: args.isolation.get().and_then(|level| isolation(errors, level)),
            name: args.name.get().filter(|name| check_name(errors, name)),
            retry: args
                .retry
                .get()
                .and_then(|times| check_times(errors, times))
                .and_then(|times| Retry::new(errors, times, sig)),
        }
    }
}

fn isolation(errors: &Errors, literal: &LitStr) -> Option<Isolation> {
    let level = literal.value();
    let known = LEVELS.iter().find(|(name, _)| *name == level);
    if known.is_none() {
        let names = LEVELS.map(|(name, _)| name);
        errors.at(
            literal.span(),
            format!(
                "`{level}` is not an isolation level\n{}",
                errors::suggestion(&level.to_ascii_lowercase(), &names).1
            ),
        );
    }
    known.map(|(_, variant)| Isolation(variant))
}

fn check_name(errors: &Errors, literal: &LitStr) -> bool {
    let name = literal.value();
    let problem = if name.is_empty() {
        "the name is empty".to_owned()
    } else if let Some(illegal) = name.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        format!("Postgres would not show {illegal:?} in the name of a transaction")
    } else if name.len() > LONGEST_NAME {
        format!("the name has {} characters, and Postgres shows {LONGEST_NAME}", name.len())
    } else {
        return true;
    };
    errors.at(
        literal.span(),
        format!("{problem}\nhelp: write up to {LONGEST_NAME} characters of ASCII: `name = \"create_order\"`"),
    );
    false
}

fn check_times(errors: &Errors, literal: &LitInt) -> Option<u32> {
    match literal.base10_parse() {
        Ok(0) => errors.at(
            literal.span(),
            "`retry = 0` retries nothing\nhelp: write `retry = 3`, or remove it",
        ),
        Ok(times) => return Some(times),
        Err(_) => {
            errors.at(
                literal.span(),
                format!("`{literal}` is not a number of retries\nhelp: write `retry = 3`"),
            );
        }
    }
    None
}

impl<'a> Retry<'a> {
    /// `None` if the next attempt would see changes of a failed one.
    fn new(errors: &Errors, times: u32, sig: &'a Signature) -> Option<Self> {
        let mut retry = Self { times, arguments: Vec::new(), borrows_self: false };
        let mut sound = true;
        for input in &sig.inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    let by_type = match &receiver.kind {
                        ReceiverKind::Typed(_, ty) => Some(ty),
                        _ => None,
                    };
                    let changes = receiver.mutability.is_some()
                        || matches!(receiver.kind, ReceiverKind::Reference(_, _, Some(_)))
                        || by_type.is_some_and(|ty| is_exclusive(ty));
                    if changes {
                        refuse(errors, input, "`&self`");
                        sound = false;
                    } else if matches!(receiver.kind, ReceiverKind::Value) {
                        errors.over(
                            input,
                            "`retry` may run the body again, and the first attempt would have used up this `self`\n\
                             help: take `&self`, or `self: Arc<Self>`",
                        );
                        sound = false;
                    }
                    retry.borrows_self =
                        by_type.is_some_and(|ty| !matches!(peeled(ty), Type::Reference(_)));
                }
                FnArg::Typed(typed) => {
                    if is_exclusive(&typed.ty) {
                        refuse(errors, &typed.ty, "it by `&`, or by value");
                        sound = false;
                        continue;
                    }
                    let cfgs: Vec<_> =
                        typed.attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
                    bindings(&typed.pat, &mut |ident, is_mut| {
                        let cfgs = cfgs.clone();
                        retry.arguments.push(Argument { ident, is_mut, ty: &typed.ty, cfgs });
                    });
                }
            }
        }
        sound.then_some(retry)
    }
}

fn refuse(errors: &Errors, tokens: impl quote::ToTokens, instead: &str) {
    errors.over(
        tokens,
        format!(
            "`retry` runs the body again, and what the failed attempt changed in this would stay\n\
             help: take {instead}, or remove `retry` and call the method again where its argument is made"
        ),
    );
}

/// The variables that a pattern binds.
fn bindings<'a>(pat: &'a Pat, found: &mut impl FnMut(&'a Ident, bool)) {
    match pat {
        Pat::Ident(pat) => {
            found(&pat.ident, pat.mutability.is_some() && pat.by_ref.is_none());
            if let Some((_, inner)) = &pat.subpat {
                bindings(inner, found);
            }
        }
        Pat::Paren(pat) => bindings(&pat.pat, found),
        Pat::Reference(pat) => bindings(&pat.pat, found),
        Pat::Type(pat) => bindings(&pat.pat, found),
        Pat::Slice(pat) => pat.elems.iter().for_each(|pat| bindings(pat, found)),
        Pat::Tuple(pat) => pat.elems.iter().for_each(|pat| bindings(pat, found)),
        Pat::TupleStruct(pat) => pat.elems.iter().for_each(|pat| bindings(pat, found)),
        Pat::Struct(pat) => pat.fields.iter().for_each(|field| bindings(&field.pat, found)),
        // The others bind nothing, or cannot be in a parameter.
        _ => {}
    }
}
