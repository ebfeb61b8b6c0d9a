//! What the grammars of all macros share: lists of `key`, `key = value`, each key given once.

use proc_macro2::{Delimiter, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitInt, LitStr, Path, Token};

use crate::errors::Errors;

/// A key which may be given once, and its value if that has the right form.
pub(crate) struct Once<T>(Option<(Ident, Option<T>)>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Once<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref().and_then(|(_, value)| value.as_ref())
    }

    /// The key as the user typed it, to underline it. It is kept even if the value is wrong, so
    /// that the key is not reported as missing as well.
    pub(crate) fn key(&self) -> Option<&Ident> {
        self.0.as_ref().map(|(key, _)| key)
    }

    pub(crate) fn set(&mut self, key: &Ident, value: syn::Result<T>) -> syn::Result<()> {
        // A misspelt key was a mistake already.
        if self.key().is_some_and(|before| before == key) {
            return Err(syn::Error::new(
                key.span(),
                format!("`{key}` is given twice\nhelp: remove one of the two"),
            ));
        }
        let (value, result) = match value {
            Ok(value) => (Some(value), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.0 = Some((key.clone(), value));
        result
    }
}

/// Calls `entry` for each entry of a list with commas. A mistake drops its own entry, and none of
/// those after it.
pub(crate) fn list(
    errors: &Errors,
    input: ParseStream<'_>,
    mut entry: impl FnMut(ParseStream<'_>) -> syn::Result<()>,
) {
    while !input.is_empty() {
        if let Err(error) = entry(input).and_then(|()| comma(input)) {
            errors.push(error);
            skip_entry(input);
        }
    }
}

fn comma(input: ParseStream<'_>) -> syn::Result<()> {
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error("expected `,`\nhelp: separate the keys by commas"));
    }
    input.parse::<Option<Token![,]>>().map(drop)
}

fn skip_entry(input: ParseStream<'_>) {
    while let Ok(token) = input.parse::<TokenTree>() {
        if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',') {
            break;
        }
    }
}

/// Any word, keywords too, if there is one.
pub(crate) fn word(input: ParseStream<'_>) -> Option<Ident> {
    input.call(Ident::parse_any).ok()
}

/// The `= VALUE` after `key`.
pub(crate) fn value<T: Value>(
    key: &Ident,
    input: ParseStream<'_>,
    example: &str,
) -> syn::Result<T> {
    if let Ok(TokenTree::Group(group)) = input.fork().parse()
        && group.delimiter() == Delimiter::Parenthesis
    {
        let given = group.stream().to_string().replace(" :: ", "::");
        let written =
            if given.is_empty() { example.to_owned() } else { format!("{key} = {given}") };
        return Err(syn::Error::new(
            group.span(),
            format!("`{key}` takes its value after `=`\nhelp: write `{written}`"),
        ));
    }
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(
            key.span(),
            format!("`{key}` needs a value\nhelp: write `{example}`"),
        ));
    }
    input.parse::<Token![=]>()?;
    let begin = input.fork();
    match T::parse(input) {
        // A word that follows means that a comma was forgotten; anything else is part of the value.
        Ok(value) if input.is_empty() || input.peek(Token![,]) || input.peek(Ident::peek_any) => {
            Ok(value)
        }
        _ => Err(begin.error(format!("`{key}` takes {}\nhelp: write `{example}`", T::EXPECTED))),
    }
}

/// Checks that nothing follows `key`.
pub(crate) fn flag(key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    Err(input.error(format!("`{key}` takes no value\nhelp: write `{key}` alone")))
}

/// A form of value, in words.
pub(crate) trait Value: Sized {
    const EXPECTED: &'static str;
    fn parse(input: ParseStream<'_>) -> syn::Result<Self>;
}

macro_rules! values {
    ($($form:ty: $expected:literal),* $(,)?) => {$(
        impl Value for $form {
            const EXPECTED: &'static str = $expected;
            fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
                Parse::parse(input)
            }
        }
    )*};
}
values! {
    LitStr: "a string literal",
    LitInt: "a whole number from 1",
    Path: "a path",
}
