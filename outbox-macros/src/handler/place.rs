//! Where the function's body goes: into a function inside of the handler's own, or into one beside
//! it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{ReceiverKind, Signature, Type};

use crate::errors::Errors;
use crate::function::{Function, peeled};
use crate::tokens::mentions;

pub(super) enum Place<'a> {
    /// A function inside, which has the name of the handler.
    Inside,
    /// A function beside it in the same `impl`, since only that can name `Self`.
    Beside(Option<Receiver<'a>>),
}

/// The `self` of a method, of which the handler has a clone.
pub(super) struct Receiver<'a> {
    pub(super) syntax: &'a syn::Receiver,
    /// Type of the clone, if that is not `Self`.
    pub(super) ty: Option<&'a Type>,
    /// Whether the method borrows it, and so does not need a clone for each event.
    pub(super) borrowed: bool,
}

impl<'a> Place<'a> {
    /// `None` after a mistake.
    pub(super) fn new(errors: &Errors, function: &'a Function) -> Option<Self> {
        if let Some(syntax) = function.sig.receiver() {
            return receiver(errors, syntax).map(|receiver| Self::Beside(Some(receiver)));
        }
        let body = function.body.as_ref().map(|body| body.stream()).unwrap_or_default();
        let Signature { inputs, output, generics, .. } = &function.sig;
        let parts = [
            inputs.to_token_stream(),
            output.to_token_stream(),
            generics.where_clause.to_token_stream(),
        ];
        let in_signature = parts.into_iter().any(|part| mentions(part, "Self"));
        let names_self = in_signature || names_self(body);
        Some(if names_self { Self::Beside(None) } else { Self::Inside })
    }

    pub(super) fn receiver(&self) -> Option<&Receiver<'a>> {
        match self {
            Self::Inside => None,
            Self::Beside(receiver) => receiver.as_ref(),
        }
    }
}

fn receiver<'a>(errors: &Errors, syntax: &'a syn::Receiver) -> Option<Receiver<'a>> {
    let (ty, borrowed, exclusive) = match &syntax.kind {
        ReceiverKind::Reference(_, _, mutability) => (None, true, mutability.is_some()),
        ReceiverKind::Typed(_, ty) => match peeled(ty) {
            Type::Reference(reference) => {
                (Some(peeled(&reference.elem)), true, reference.mutability.is_some())
            }
            owned => (Some(owned), false, false),
        },
        _ => (None, false, false),
    };
    if exclusive {
        errors.over(
            syntax,
            "a handler runs for several events at the same time, which share `self`\nhelp: take `&self`",
        );
        return None;
    }
    let is_self = |ty: &&Type| matches!(ty, Type::Path(path) if path.path.is_ident("Self"));
    Some(Receiver { syntax, ty: ty.filter(|ty| !is_self(ty)), borrowed })
}

/// Whether a body names the `Self` of an `impl` around it, and not that of an item in the body.
fn names_self(body: TokenStream) -> bool {
    const ITEMS: [&str; 6] = ["impl", "trait", "struct", "enum", "union", "macro_rules"];
    let mut in_item = false;
    body.into_iter().any(|token| match token {
        TokenTree::Ident(ident) if ITEMS.iter().any(|item| ident == item) => {
            in_item = true;
            false
        }
        TokenTree::Ident(ident) => !in_item && ident == "Self",
        TokenTree::Punct(punct) => {
            in_item &= punct.as_char() != ';';
            false
        }
        TokenTree::Group(group) if in_item => {
            in_item = group.delimiter() != Delimiter::Brace;
            false
        }
        TokenTree::Group(group) => names_self(group.stream()),
        TokenTree::Literal(_) => false,
    })
}
