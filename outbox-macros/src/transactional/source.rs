//! What the transaction begins on: the `EXPR` of `tx in EXPR`.

use quote::ToTokens;
use syn::{Expr, FnArg, Ident, Pat, ReceiverKind, Signature, Type, UnOp};

use crate::function::{Function, is_exclusive, peeled};
use crate::tokens::names;

pub(super) struct Source<'a> {
    /// The expression without its `&mut`.
    pub(super) expr: &'a Expr,
    /// Whether its type decides how it is borrowed: it can be borrowed mutably, so it may be an
    /// outer transaction.
    pub(super) is_lent: bool,
    /// Whether it is an outer transaction, whatever its type turns out to be.
    pub(super) is_savepoint: bool,
    /// Whether the body uses other fields beside the one that is lent. It borrows them then: moving
    /// them would move what is lent.
    pub(super) shares: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(expr: &'a Expr, function: &Function) -> Self {
        let (expr, by_mut) = referenced(expr);
        let plain = dereferenced(expr);
        let base = base(plain);
        let place = base.and_then(|base| place(base, &function.sig));
        let is_field = !matches!(plain, Expr::Path(_));
        let is_lent = by_mut || place.is_some();
        Self {
            expr,
            is_lent,
            is_savepoint: by_mut || !is_field && matches!(place, Some(Place::Transaction)),
            shares: is_lent
                && is_field
                && !is_handle(plain)
                && base
                    .zip(function.body.as_ref())
                    .is_some_and(|(base, body)| names(body.stream(), &base.to_string())),
        }
    }
}

/// `EXPR` of `&mut EXPR`, and whether there was a `&mut`.
fn referenced(expr: &Expr) -> (&Expr, bool) {
    match expr {
        Expr::Group(group) => referenced(&group.expr),
        Expr::Reference(reference) if reference.mutability.is_some() => (&reference.expr, true),
        _ => (expr, false),
    }
}

/// `EXPR` of `*EXPR`.
fn dereferenced(expr: &Expr) -> &Expr {
    match expr {
        Expr::Unary(unary) if matches!(unary.op, UnOp::Deref(_)) => dereferenced(&unary.expr),
        Expr::Group(group) => dereferenced(&group.expr),
        Expr::Paren(paren) => dereferenced(&paren.expr),
        _ => expr,
    }
}

/// The `self` of `self.unit.tx`.
fn base(mut expr: &Expr) -> Option<&Ident> {
    loop {
        expr = match expr {
            Expr::Field(field) => &field.base,
            Expr::Paren(paren) => &paren.expr,
            Expr::Path(path) => return path.path.get_ident(),
            _ => return None,
        };
    }
}

/// Whether the field is named as an outbox or a pool is: nothing of it is borrowed once the
/// transaction has begun. The body can be moved then, which needs no `Sync`.
fn is_handle(expr: &Expr) -> bool {
    let Expr::Field(field) = expr else { return false };
    let name = field.member.to_token_stream().to_string();
    ["outbox", "pool", "db"].iter().any(|handle| name.contains(handle))
}

/// A variable that can be borrowed mutably.
#[derive(Clone, Copy)]
enum Place {
    /// Of a type that is named as the transaction is.
    Transaction,
    Other,
}

fn place(base: &Ident, sig: &Signature) -> Option<Place> {
    sig.inputs.iter().find_map(|input| match input {
        FnArg::Receiver(receiver) => {
            let exclusive = match &receiver.kind {
                ReceiverKind::Reference(_, _, mutability) => mutability.is_some(),
                ReceiverKind::Typed(_, ty) => receiver.mutability.is_some() || is_exclusive(ty),
                _ => receiver.mutability.is_some(),
            };
            (base == "self" && exclusive).then_some(Place::Other)
        }
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(pat) if pat.ident == *base => match peeled(&typed.ty) {
                Type::Reference(reference) if reference.mutability.is_some() => {
                    Some(named(&reference.elem))
                }
                _ => pat.mutability.is_some().then_some(Place::Other),
            },
            _ => None,
        },
    })
}

fn named(ty: &Type) -> Place {
    match peeled(ty) {
        Type::Path(path)
            if path.path.segments.last().is_some_and(|last| last.ident == "OutboxTx") =>
        {
            Place::Transaction
        }
        _ => Place::Other,
    }
}
