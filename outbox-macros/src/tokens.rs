//! Spans, and where the runtime lives.

use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Path, Type};

use crate::dependency;

/// The crate: `::outbox`, or the path of `crate = …`.
pub(crate) fn outbox(krate: Option<&Path>) -> TokenStream {
    match krate {
        Some(path) => path.to_token_stream(),
        None => at_root(Span::call_site()),
    }
}

/// The module with everything that an expansion names.
pub(crate) fn private(krate: Option<&Path>) -> TokenStream {
    let outbox = outbox(krate);
    quote!(#outbox::__private)
}

/// The same as [`private`] with every token of ours located at `span`, so that an error about the
/// item is shown there.
pub(crate) fn private_at(krate: Option<&Path>, span: Span) -> TokenStream {
    match krate {
        Some(path) => quote_spanned!(span=> #path::__private),
        None => {
            let outbox = at_root(span);
            quote_spanned!(span=> #outbox::__private)
        }
    }
}

fn at_root(span: Span) -> TokenStream {
    let name = Ident::new(dependency::renamed().unwrap_or("outbox"), span);
    quote_spanned!(span=> ::#name)
}

/// `span`'s location, with the hygiene of our own code: the compiler shows errors there, while
/// lints see an expansion, and local variables cannot collide with the user's.
pub(crate) fn ours(span: Span) -> Span {
    span.resolved_at(Span::mixed_site())
}

/// Where `tokens` begin and end, with the hygiene of our own code. Spans cannot be joined on stable
/// Rust; an expression of ours that begins with the one and ends with the other underlines the
/// whole.
pub(crate) fn ends(tokens: impl ToTokens) -> (Span, Span) {
    let mut tokens = tokens.into_token_stream().into_iter();
    let Some(first) = tokens.next() else { return (Span::mixed_site(), Span::mixed_site()) };
    let begin = first.span();
    let end = tokens.last().map_or(begin, |last| last.span());
    (ours(begin), ours(end))
}

/// `&self.field`, located at the field's type.
pub(crate) fn field_of_self(ident: Option<&Ident>, position: usize, ty: &Type) -> TokenStream {
    let (begin, end) = ends(ty);
    // The hygiene of the method's own `&self`.
    let (begin, end) = (begin.resolved_at(Span::call_site()), end.resolved_at(Span::call_site()));
    let member = member(ident, position, end);
    quote_spanned!(begin=> &self.#member)
}

/// The name of a field, or its position in a tuple.
pub(crate) fn member(ident: Option<&Ident>, position: usize, span: Span) -> TokenTree {
    match ident {
        Some(ident) => TokenTree::Ident(respanned(ident, span)),
        None => {
            let mut position = Literal::usize_unsuffixed(position);
            position.set_span(span);
            TokenTree::Literal(position)
        }
    }
}

/// The tokens with the location of `span`. They mean what they did.
pub(crate) fn located_at(tokens: TokenStream, span: Span) -> TokenStream {
    let relocated = |mut token: TokenTree| {
        let span = token.span().located_at(span);
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), located_at(group.stream(), span)).into();
        }
        token.set_span(span);
        token
    };
    tokens.into_iter().map(relocated).collect()
}

/// The user's `ident` at `span`, which is one of [`ours`]. It is in our edition then, in which some
/// words of an older edition are keywords.
pub(crate) fn respanned(ident: &Ident, span: Span) -> Ident {
    const LATE_KEYWORDS: [&str; 5] = ["async", "await", "dyn", "gen", "try"];
    let word = ident.to_string();
    if LATE_KEYWORDS.contains(&&*word) {
        return Ident::new_raw(&word, span);
    }
    let mut ident = ident.clone();
    ident.set_span(span);
    ident
}

/// The user's `ident` with a span of ours: `#[deprecated]` on the user's type, variant or field is
/// about the user's own uses.
pub(crate) fn located(ident: &Ident) -> Ident {
    respanned(ident, ours(ident.span()))
}

/// The user's path or type with spans of ours, as [`located`] for a name.
pub(crate) fn quiet(tokens: impl ToTokens) -> TokenStream {
    let relocated = |mut token: TokenTree| {
        match &mut token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), quiet(group.stream()));
                inner.set_span(ours(group.span()));
                return TokenTree::Group(inner);
            }
            // Its span says which crate it names.
            TokenTree::Ident(ident) if ident == "$crate" => {}
            // A keyword in our edition only. The other keywords are the same in the user's.
            TokenTree::Ident(ident) if ident == "gen" => return located(ident).into(),
            token => token.set_span(ours(token.span())),
        }
        token
    };
    tokens.into_token_stream().into_iter().map(relocated).collect()
}

/// Whether the word is anywhere in `tokens`.
pub(crate) fn mentions(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => mentions(group.stream(), word),
        _ => false,
    })
}

/// The tokens as a user would write them in one line.
pub(crate) fn text(tokens: TokenStream) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for token in tokens {
        let before = std::mem::take(&mut word);
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::None => ("", ""),
                };
                text.extend([open, &self::text(group.stream()), close]);
            }
            TokenTree::Punct(punct) => {
                if before == "mut" {
                    text.push(' ');
                }
                text.push(punct.as_char());
                if punct.as_char() == ',' {
                    text.push(' ');
                }
            }
            token => {
                if !before.is_empty() {
                    text.push(' ');
                }
                word = token.to_string();
                text.push_str(&word);
            }
        }
    }
    text
}

/// Whether the variable is anywhere in `tokens`, texts such as `"{name}"` included.
pub(crate) fn names(tokens: TokenStream, variable: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == variable,
        TokenTree::Group(group) => names(group.stream(), variable),
        TokenTree::Literal(literal) => literal.to_string().contains(variable),
        TokenTree::Punct(_) => false,
    })
}

/// A local variable of ours. Hygiene keeps it apart from the user's variables, but not from their
/// items: a pattern `result` is their `const result`, if there is one. So it has a name that none
/// of their items has.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(&format!("{LOCAL}{name}"), Span::mixed_site())
}

/// What the names of our local variables begin with.
pub(crate) const LOCAL: &str = "__outbox_";

/// A type of ours in the body of a function, whose name no type of the user has.
pub(crate) fn local_type(name: &str) -> Ident {
    Ident::new(&format!("{LOCAL_TYPE}{name}"), Span::mixed_site())
}

/// What the names of our local types begin with.
pub(crate) const LOCAL_TYPE: &str = "__Outbox";
