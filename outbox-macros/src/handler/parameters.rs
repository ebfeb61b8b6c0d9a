//! The parameters of the function, recognised by their types.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{FnArg, GenericArgument, Pat, PatType, PathArguments, PathSegment, Signature, Type};

use crate::errors::Errors;
use crate::function::peeled;

pub(super) struct Parameters<'a> {
    pub(super) tx: Tx<'a>,
    pub(super) event: &'a Type,
    pub(super) event_by_reference: bool,
    pub(super) state: Option<State<'a>>,
    /// All of them but `self`, in their order.
    pub(super) order: Vec<Parameter>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Tx,
    Event,
    Context,
    State,
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

/// What else the handler needs.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) ty: &'a Type,
    /// `None` if the function takes it apart, or ignores it.
    pub(super) name: Option<&'a Ident>,
}

pub(super) const SIGNATURE: &str = "help: write `async fn name(tx: &mut OutboxTx<'_, Postgres>, event: OrderCreated) -> Result<(), E>`,\n\
                                    \x20     and behind these `context: &EventContext` and a state `service: &Service`, if you need them";

impl<'a> Parameters<'a> {
    /// `None` if there is nothing to expand; every reason is then in `errors`. In the wrong order,
    /// which is reported, they are parameters still.
    pub(super) fn new(errors: &Errors, sig: &'a Signature) -> Option<Self> {
        let all: Vec<&PatType> = sig.inputs.iter().filter_map(typed).collect();
        let named = all.iter().position(|parameter| is_tx(ty(parameter)));
        let at = named.unwrap_or(0);
        let Some(first) = all.first() else {
            errors.at(
                sig.ident.span(),
                format!("a handler takes its transaction and an event\n{SIGNATURE}"),
            );
            return None;
        };
        if at > 0 {
            let help = swapped(all[at], first);
            errors.over(
                first,
                format!("the transaction is the first argument of a handler\nhelp: {help}"),
            );
        }
        let tx = self::tx(errors, ty(all[at]))?;
        let rest: Vec<&PatType> =
            all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, typed)| *typed).collect();
        let Some(event_at) = event_position(errors, &rest) else {
            errors.at(
                sig.ident.span(),
                format!("a handler takes an event, behind its transaction\n{SIGNATURE}"),
            );
            return None;
        };
        let event = event(errors, sig, ty(rest[event_at]));
        let mut parameters = Self {
            tx,
            event: ty(rest[event_at]),
            event_by_reference: false,
            state: None,
            order: Vec::new(),
        };
        let mut valid = true;
        for (i, parameter) in rest.iter().enumerate() {
            if i == event_at {
                parameters.order.push(Parameter::Event);
            } else if let Err(message) = parameters.extra(sig, parameter) {
                errors.over(&parameter.ty, message);
                valid = false;
            }
        }
        parameters.order.insert(at, Parameter::Tx);
        (parameters.event, parameters.event_by_reference) = event?;
        valid.then_some(parameters)
    }

    /// A parameter that is neither the transaction nor the event.
    fn extra(&mut self, sig: &Signature, parameter: &'a PatType) -> Result<(), &'static str> {
        let Type::Reference(reference) = ty(parameter) else {
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
            if self.order.contains(&Parameter::Context) {
                return Err("the context is an argument already\nhelp: remove one of the two");
            }
            self.order.push(Parameter::Context);
            return Ok(());
        }
        self.check_state(sig, inner)?;
        let name = match &*parameter.pat {
            Pat::Ident(pattern) => Some(&pattern.ident),
            _ => None,
        };
        self.state = Some(State { ty: inner, name });
        self.order.push(Parameter::State);
        Ok(())
    }

    /// Whether a handler can have this for its state.
    fn check_state(&self, sig: &Signature, inner: &Type) -> Result<(), &'static str> {
        if sig.receiver().is_some() {
            return Err("a method has its state in `self`\nhelp: make this a field of `Self`");
        }
        if self.state.is_some() {
            return Err("a handler has one state\nhelp: make one struct of the two, and take that");
        }
        let of_std =
            |name: &&str| is(inner, name) && last_segment(inner).and_then(first_type).is_some();
        if ["RefCell", "Cell", "OnceCell"].iter().any(of_std) {
            return Err(
                "a handler runs for several events at the same time, on several threads, which cannot share this\n\
                 help: take a `&Mutex<…>`",
            );
        }
        if of_std(&"Rc") {
            return Err(
                "a handler runs on several threads, which cannot share an `Rc`\nhelp: take `&Arc<…>`",
            );
        }
        if is_unsized(inner) {
            return Err(
                "the handler has its state, whose type must have a size\nhelp: take `&Arc<…>` of it",
            );
        }
        if borrows(inner, sig) {
            return Err(
                "the handler has its state for as long as it runs, so that cannot borrow\nhelp: take `&Arc<…>` of what is shared",
            );
        }
        Ok(())
    }
}

fn typed(input: &FnArg) -> Option<&PatType> {
    match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    }
}

fn ty(parameter: &PatType) -> &Type {
    peeled(&parameter.ty)
}

/// The type, and whether it is behind a reference.
fn referent(ty: &Type) -> (&Type, bool) {
    match ty {
        Type::Reference(reference) => (peeled(&reference.elem), true),
        owned => (owned, false),
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn is(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|last| last.ident == name)
}

fn is_tx(ty: &Type) -> bool {
    is(referent(ty).0, "OutboxTx")
}

fn is_context(ty: &Type) -> bool {
    is(ty, "EventContext")
}

/// Which of the parameters without the transaction is the event.
fn event_position(errors: &Errors, rest: &[&PatType]) -> Option<usize> {
    let (first, second) = (*rest.first()?, rest.get(1));
    let (inner, borrowed) = referent(ty(first));
    let Some(second) = second else { return Some(0) };
    // Only the event is owned, unless what looks like a state is so by mistake.
    let is_event = !matches!(ty(second), Type::Reference(_)) && !looks_like_state(ty(second));
    let help = swapped(second, first);
    if is_context(inner) {
        errors.over(first, format!("the event is the second argument of a handler\nhelp: {help}"));
    } else if borrowed && is_event {
        errors.over(
            first,
            format!(
                "the event is the second argument of a handler, and its state comes last\nhelp: {help}"
            ),
        );
    } else {
        return Some(0);
    }
    Some(1)
}

/// Whether its name is that of something which handlers need.
fn looks_like_state(ty: &Type) -> bool {
    const ENDINGS: [&str; 14] = [
        "Arc",
        "Cache",
        "Client",
        "Config",
        "Context",
        "Db",
        "Mailer",
        "Pool",
        "Repo",
        "Repository",
        "Sender",
        "Service",
        "State",
        "Store",
    ];
    let name = last_segment(ty).map(|last| last.ident.to_string()).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// How to put the one before the other.
fn swapped(one: &PatType, other: &PatType) -> String {
    match (&*one.pat, &*other.pat) {
        (Pat::Ident(one), Pat::Ident(other)) => {
            format!("swap the two: `{}: …, {}: …`", one.ident, other.ident)
        }
        _ => "swap the two".to_owned(),
    }
}

/// `None` if it is not a transaction.
fn tx<'a>(errors: &Errors, ty: &'a Type) -> Option<Tx<'a>> {
    let (inner, is_lent) = match ty {
        Type::Reference(reference) => (peeled(&reference.elem), reference.mutability.is_some()),
        other => (other, false),
    };
    let segment = last_segment(inner);
    let foreign = database_of_sqlx(inner);
    let database = segment.and_then(first_type);
    let tx = segment
        .filter(|segment| is_lent || foreign.is_some() || segment.ident == "OutboxTx")
        .map(|_| Tx { ty, database, is_lent: is_lent && foreign.is_none() });
    let problem = match &tx {
        None => "the first argument of a handler is its transaction",
        Some(_) if foreign.is_some() => {
            "the transaction of a handler is an `OutboxTx`: the inbox and the handler's events are in it"
        }
        Some(Tx { is_lent: false, .. }) => "the transaction is lent to the handler, by `&mut`",
        Some(Tx { database: None, .. }) => "the transaction does not name its database",
        Some(_) => return tx,
    };
    let help = match (foreign, database) {
        (Some(""), None) => "Postgres>`, with the database you use".to_owned(),
        (Some(""), Some(database)) => {
            format!("{}>`, and run queries on it as on sqlx's", database.to_token_stream())
        }
        (Some(database), _) => format!("{database}>`, and run queries on it as on sqlx's"),
        (None, _) => "Postgres>`, with the database you use".to_owned(),
    };
    errors.over(ty, format!("{problem}\nhelp: write `tx: &mut OutboxTx<'_, {help}"));
    tx
}

/// The database that a transaction or connection of sqlx names, `""` if it is an argument of the
/// type. `None` for other types.
fn database_of_sqlx(ty: &Type) -> Option<&'static str> {
    let Type::Path(path) = ty else { return None };
    let name = path.path.segments.last()?.ident.to_string();
    // A bare `Transaction` may be a name of `OutboxTx`.
    let databases: &[_] = match path.path.segments[0].ident == "sqlx" {
        true => &[("Pg", "Postgres"), ("Sqlite", "Sqlite"), ("", "")],
        false => &[("Pg", "Postgres"), ("Sqlite", "Sqlite")],
    };
    let (prefix, database) = databases.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let kinds = ["Transaction", "Connection", "PoolConnection", "Pool"];
    kinds.contains(&&name[prefix.len()..]).then_some(database)
}

fn first_type(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return None };
    list.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// The type of the event, and whether the handler has it by reference.
fn event<'a>(errors: &Errors, sig: &Signature, ty: &'a Type) -> Option<(&'a Type, bool)> {
    let (event, by_reference) = match ty {
        Type::Reference(reference) if reference.mutability.is_some() => {
            errors.over(
                ty,
                "what a handler changes in its event has no effect\nhelp: take it by value, or by `&`",
            );
            return None;
        }
        Type::Reference(reference) => (peeled(&reference.elem), true),
        owned => (owned, false),
    };
    if matches!(event, Type::ImplTrait(_)) {
        errors.over(
            event,
            "which events the handler takes is said by their type, which has no name here\n\
             help: make it a type parameter, as in `async fn name<E: DomainEvent + Send + 'static>(…, event: E)`",
        );
        return None;
    }
    if borrows(event, sig) {
        errors.over(
            event,
            "the event is read for the handler, and there is nothing it could borrow from\n\
             help: make an event of owned fields, such as `String`, for consumers",
        );
        return None;
    }
    Some((event, by_reference))
}

fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::TraitObject(_) | Type::Slice(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Whether it has a lifetime of the call, elided or named. What is in parentheses may be a
/// `Fn(&T)`.
fn borrows(ty: &Type, sig: &Signature) -> bool {
    let lifetimes: Vec<&Ident> =
        sig.generics.lifetimes().map(|parameter| &parameter.lifetime.ident).collect();
    matches!(ty, Type::Reference(reference) if reference.lifetime.is_none())
        || names_one_of(ty.to_token_stream(), &lifetimes)
}

fn names_one_of(tokens: TokenStream, lifetimes: &[&Ident]) -> bool {
    let mut after_quote = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => {
            let is_lifetime = std::mem::take(&mut after_quote);
            ident == "_" || is_lifetime && lifetimes.contains(&&ident)
        }
        TokenTree::Punct(punct) => {
            after_quote = punct.as_char() == '\'';
            false
        }
        TokenTree::Group(group) => {
            group.delimiter() == Delimiter::None && names_one_of(group.stream(), lifetimes)
        }
        TokenTree::Literal(_) => false,
    })
}
